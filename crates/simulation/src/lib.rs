//! Deterministic simulation of consensus, log and keyspace under faults.
//!
//! A [`run`] is one cluster from start to end in one thread: the real cores (Raft or Multi-Paxos),
//! the real log on a simulated disk, the real keyspace on a simulated engine, clients, operators
//! and faults. All randomness comes from one seed, so a seed identifies a run. A run can be
//! repeated, [traced](TraceFormat) and made smaller with [`shrink`]. The [`INVARIANTS`] are checked
//! after every event.
//!
//! Reading order: `run`, `world`, `liveness` (the course of a run), `plan`, `flavour`, `faults`
//! (the faults), `node` (the shell), `clients`, `invariants`. They use `choices`, `time`,
//! `network`, `engine`, `machine` and `disk_model`. docs/simulation.md explains how to use the
//! simulation and what it has found.

mod choices;
mod clients;
mod command;
mod disk_model;
mod engine;
mod env;
mod event;
mod faults;
mod flavour;
mod invariants;
mod liveness;
mod machine;
mod network;
mod node;
mod plan;
mod report;
mod run;
mod shrink;
mod snapshot;
mod soak;
mod time;
mod topologies;
mod trace;
mod words;
mod world;

pub use choices::{Record, Stream};
pub use flavour::{Flavour, UnknownFlavour};
pub use invariants::{INVARIANTS, Invariant, Violation};
pub use report::{Counts, Failure, Report};
pub use run::{Options, run, run_with};
pub use shrink::{Shrunk, shrink};
pub use soak::{Soak, SoakOptions, soak};
pub use synod_consensus_core::{Algorithm, UnknownAlgorithm};
pub use topologies::{Recovery, Topology, measure};
pub use trace::TraceFormat;
