//! The log through its public interface: against a model, over a disk that fails, and with its
//! threads.

#![expect(clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]

mod crash;
mod damage;
mod model;
mod rotation;
mod threads;
