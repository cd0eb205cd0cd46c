//! Tests the log through its public interface: against a model, on a failing disk, and with its
//! threads.

#![expect(clippy::panic, clippy::unwrap_used, reason = "test helpers may panic")]

mod crash;
mod damage;
mod model;
mod rotation;
mod threads;
