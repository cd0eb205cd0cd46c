//! Replicas over a toy state machine, real logs and real streams, in one process.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests may fail loudly"
)]

mod basics;
mod faults;
mod harness;
mod members;
mod snapshots;
mod toy;
