//! The coordination service: ZooKeeper's tree, sessions and watches as a state machine that every
//! pod runs over a log in an etcd v3 endpoint.
//!
//! # What it owns
//! - The keys below a root of the endpoint: the log, the leadership key and the checkpoints. Only
//!   pods of one service write there.
//!
//! # What it guarantees
//! - **One order.** All pods apply the same batches. Only the pod that holds the leadership key
//!   appends, and a pod that lost it can't.
//! - **Nothing is lost.** A command is acknowledged after it is in the log. An append whose outcome
//!   is unknown is read, not repeated.
//! - **ZooKeeper's order** of replies and events, on each connection.
//! - **No stale `sync`.** It reads the log's end linearizably.
//!
//! # What it never does
//! It keeps no durable state of its own, and reaches the consensus service by the etcd API alone.
//! It never answers a client from a state that is older than what the client has seen.
//!
//! ```text
//! config -> server -+-> zookeeper (port) -> hub (state machine, connections, watches) <- applying
//!                   +-> service/sessions, locks, elections (gRPC) -> queue -> hub/client
//!                   +-> service/discovery -> discovery (health checks) -> hub/client
//!                   +-> dns (UDP, TCP) -> discovery
//!                   +-> service/pods     -> sequencing (one pod leads) -> endpoint        ^
//!                   +-> shared_log -> following, contact, forwarding, checkpoint ---------+
//!                   +-> http (health, metrics)
//! ```
//! [`Pod`] is one pod, in a process of its own (`synod_service::main`) or embedded in another.

mod applying;
mod checkpoint;
mod config;
mod contact;
mod convert;
mod discovery;
mod dns;
mod endpoint;
mod error;
mod following;
mod forwarding;
mod http;
mod hub;
mod leadership;
mod metrics;
mod queue;
mod run;
mod sasl;
mod sequencing;
mod server;
mod service;
mod shared_log;
mod zookeeper;

pub use config::{Config, EndpointFlags, User};
pub use discovery::Networks;
pub use sasl::UsersError;
pub use server::{Pod, StartError};
pub use zookeeper::Whitelist;
