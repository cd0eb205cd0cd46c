//! The service as its clients see it: embedded nodes on ephemeral loopback ports, called through `etcd-client`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests may fail loudly"
)]

mod http;
mod lease;
mod limits;
mod members;
mod refusals;
mod single;
mod support;
mod three;
mod watch;
