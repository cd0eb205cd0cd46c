//! What every Synod process needs from the machine below it: time, tasks and threads, the
//! environment, randomness, shutdown, runtimes for serving, metrics and telemetry.
//!
//! This is the only crate that may call the functions that `.clippy.toml` disallows: each of them
//! is behind one small module here, so that the rest of the code is open to simulation and every
//! task, thread and queue has a name.

pub mod clock;
pub mod env;
pub mod executor;
pub mod metrics;
pub mod random;
pub mod shutdown;
pub mod task;
pub mod telemetry;
