//! The kit for whole-process tests: real peers (stock etcd and its tools, ZooKeeper), clusters of
//! child processes, `etcdctl`, a ZooKeeper client, a TCP fault proxy, and checks of recorded
//! histories.
//!
//! It guarantees that every child process dies with its test, that test processes never compete for
//! a port, and that the logs of a failed test are shown. It never sleeps where it can await a
//! condition, and it uses our services only through their binaries.

mod binary;
pub mod certificates;
mod client;
mod cluster;
mod coordination;
mod etcdctl;
mod events;
mod history;
mod http;
mod lab;
mod linearizability;
mod outage;
pub mod peers;
mod ports;
mod process;
mod proxy;
mod sockets;
mod topology;
mod wait;
pub mod zookeeper;

pub use binary::{consensus_binary, coordination_binary, synod_binary};
pub use client::{Refused, connect, connect_with, refused};
pub use cluster::{Cluster, Node, NodeSpec};
pub use coordination::{PodOptions, Pods};
pub use etcdctl::{CtlSession, Etcdctl, Output};
pub use events::{EventLog, StoredEvent, read_events};
pub use history::{Action, History, Observed, Outcome, Record};
pub use http::{HttpAnswer, http_get};
pub use lab::{Lab, Share, run, run_within};
pub use linearizability::check_linearizable;
pub use outage::outage;
pub use ports::Port;
pub use process::Process;
pub use proxy::{Fault, Proxy};
pub use topology::{Algorithm, Server, Topology};
pub use wait::until;
