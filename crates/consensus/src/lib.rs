//! The consensus service: one revisioned keyspace with leases, members and users, behind etcd's v3
//! API.
//!
//! It owns the keys with their history, leases, members, users and alarms. It guarantees that an
//! acknowledged write survives the loss of any minority of the members and `kill -9` of all, and
//! that reads are linearizable unless a request asks for less. It never serves a stale read that
//! was not asked for, and never repeats a write that may have taken effect.
//!
//! ```text
//! config -> server -+-> service/{kv,watch,lease,auth,lock,...} -> shared -> replica (consensus, log, peers)
//!                   +-> http (health, metrics)                             ^            |
//!                   +-> background                                        view <- state (apply thread)
//! ```
//! [`Node`] is one member, in a process of its own (`synod_service::main`) or embedded in another.

mod background;
mod backup;
mod bootstrap;
mod call;
mod config;
mod convert;
mod data_dir;
mod error;
mod http;
mod identity;
mod lease;
mod metrics;
mod run;
mod server;
mod service;
mod shared;
mod state;
mod version;

pub use backup::RestoreError;
pub use bootstrap::BootstrapError;
pub use config::{ClusterState, Config, Durability, InitialCluster, LinearizableRead, Listeners};
pub use data_dir::OtherDataError;
pub use error::Error;
pub use server::{Ended, Node, StartError};
pub use service::{ALGORITHM_METADATA, JOINING_METADATA};
pub use synod_consensus_core::Algorithm;
