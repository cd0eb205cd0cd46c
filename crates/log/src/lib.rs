//! The log that all replication groups of a process share.
//!
//! It owns a directory of segment files, and guarantees: what it reports as persisted survives a
//! power loss; after any crash, the writes of all groups are there up to some point at or after the
//! last report, in the order in which they were appended, and nothing else is; damaged data is
//! refused, not served and not skipped. It never tries again after a failed sync.
//!
//! One thread takes everything that is queued, of all groups, and makes it durable in one write and
//! one fdatasync. [`LogCore`] is the same log without thread and clock, over any [`Disk`], for
//! simulation.
//!
//! Modules, in reading order: `record` and `segment` are the format; `batch` encodes; `ledger`
//! knows what is still needed; `replay` and `recovery` read; `core` writes; `log` is the thread;
//! `disk` is below it all. `restart` makes of what was read what a consensus core starts from.

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
