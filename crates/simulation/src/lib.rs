//! Deterministic simulation of consensus, log and keyspace under faults.
//!
//! A [`run`] is one cluster from start to end in one thread: the real cores (Raft or Multi-Paxos),
//! the real log over a simulated disk, the real keyspace over a simulated engine, clients,
//! operators, and whatever can go wrong. All that is random comes from one seed, so a seed is a
//! run: it can be looked at again, with a [trace](TraceFormat), and made smaller with [`shrink`].
//! After every event the [`INVARIANTS`] are checked.
//!
//! Reading order: `run`, `world`, `liveness` (how a run goes), `plan`, `flavour`, `faults` (what
//! goes wrong), `node` (the shell), `clients`, `invariants`; `choices`, `time`, `network`,
//! `engine`, `machine`, `disk_model` are below them. docs/simulation.md says how to use it, and
//! what it has found.

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
