//! Platform services for every Synod process: time, tasks and threads, environment, randomness,
//! shutdown, executors, metrics and telemetry.
//!
//! This is the only crate that may call the functions that `.clippy.toml` disallows. Each has one
//! small module here, so that all other code can be simulated and every task, thread and queue has
//! a name.

pub mod clock;
pub mod env;
pub mod executor;
pub mod memory;
pub mod metrics;
pub mod random;
pub mod reload;
pub mod shutdown;
pub mod task;
pub mod telemetry;
