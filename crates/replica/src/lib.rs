//! Drives consensus groups: consensus core, log, peer transport and state machine.
//!
//! The crate owns the driver that steps the core, the apply thread, the streams between peers, and
//! snapshot transfers. It guarantees: An output is returned only for an entry that a quorum holds
//! durably and that was applied on this node. A read resolves only when everything acknowledged
//! before it is applied on this node. "Certainly not applied" and "outcome unknown" are different
//! errors. Every queue is bounded. If a write to the log, a flush or the state machine fails, the
//! replica stops for good ([`Fault`]) and never answers after that. It never retries what may have
//! been applied, and never makes a decision that belongs to the core.
//!
//! A service implements [`StateMachine`], opens the log with a [`Completions`] as its sink, and
//! starts a replica:
//!
//! ```text
//! let completions = Completions::new();
//! let (log, mut recovered) = Log::open(log_config, completions.clone())?;
//! let peers = PeerBook::new();                         // peers.set(node, vec!["http://10.0.0.2:2380".into()]), also later
//! let replica = Replica::start(config, Parts {
//!     log: log.clone(),
//!     recovered: recovered.groups.remove(&group),
//!     completions,
//!     listeners: vec![Listener::bind("0.0.0.0:2380")?], // synod_rpc's: a busy port is the service's error
//!     peers,
//!     metrics: Metrics::register(&registry, node)?,
//! }, state_machine)?;
//! let handle = replica.handle();                       // clone it freely; any thread, any runtime
//! replica.stop().await;                                // then log.close()
//! ```
//!
//! Modules, in reading order: `state_machine` is what a service implements and `handle` what it
//! calls; `inbox` collects input for the `driver`, whose documentation gives the order that safety
//! depends on; `apply` and `persist` are the other two threads; `transport` and `convert` talk to
//! peers; `snapshot` transfers whole states; `recovery` and `replica` start everything.

mod apply;
mod clock;
mod completions;
mod config;
mod convert;
mod driver;
mod error;
mod handle;
mod inbox;
mod metrics;
mod pending;
mod persist;
mod published;
mod readers;
mod recovery;
mod replica;
mod shared;
mod snapshot;
mod state_machine;
mod transport;

pub use clock::TICK;
pub use completions::Completions;
pub use config::{Compaction, Limits, ReplicaConfig, Snapshots, TransportConfig};
pub use error::{Fault, ProposeError, ReadError, TransferError};
pub use handle::ReplicaHandle;
pub use metrics::Metrics;
pub use published::Leadership;
pub use recovery::RecoveryError;
pub use replica::{Parts, Replica, StartError};
pub use state_machine::{
    ApplyError, Persister, SnapshotChunk, SnapshotSink, SnapshotSource, StateMachine,
};
pub use synod_log::RestartError;
pub use synod_replica_core::is_transient;
pub use transport::book::PeerBook;
