//! The log that all replication groups of a process share.
//!
//! It owns a directory of segment files and guarantees: Data reported as persisted survives a power
//! loss. After any crash, the log holds a prefix of all groups' writes in append order, which
//! includes everything reported as persisted. Damaged data is refused, never served or skipped. A
//! failed sync is never retried.
//!
//! One thread takes everything that is queued for all groups, and makes it durable in one write and
//! one fdatasync. [`LogCore`] is the same log without a thread and a clock, on any [`Disk`], for
//! simulation.
//!
//! Modules, in reading order: `record` and `segment` define the format; `batch` encodes; `ledger`
//! tracks what is still needed; `replay` and `recovery` read; `core` writes; `log` has the thread;
//! `disk` is the storage interface. `restart` turns the recovered data into a consensus core's
//! initial state.

mod batch;
mod core;
mod disk;
mod error;
mod ledger;
mod log;
mod metrics;
mod record;
mod recovery;
mod replay;
mod restart;
mod segment;
mod segment_buffer;

pub use core::{
    Action, LogCore, LogCoreConfig, MAX_ENTRY_BYTES, MAX_SEGMENT_BYTES, MIN_SEGMENT_BYTES,
    SpareRequest, SyncMode, make_spare,
};

pub use disk::{Crash, Disk, DiskFile, FileDisk, SimDisk};
pub use error::{LogError, LogFailure, OpenError};
pub use log::{CompletionSink, Log, LogConfig};
pub use metrics::{Metrics, MetricsSnapshot, SYNC_BUCKETS_US};
pub use replay::{GroupState, Recovered, TornTail};
pub use restart::{Restart, RestartError, first_writes};
