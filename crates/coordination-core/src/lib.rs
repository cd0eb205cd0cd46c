//! Coordination without I/O.

mod acl;
mod codec;
mod command;
mod error;
mod event;
mod ids;
mod log;
mod machine;
mod page;
mod path;
mod quota;
mod sessions;
mod stat;
mod tree;
mod watch;

pub use acl::{Acl, AclList, Id, Perms, check as check_acl, digest};
pub use command::{Batch, Command, Kind, Op, Origin, Password};
pub use error::{BatchOutOfOrder, DecodeError, LoadError, OpError, Refused};
pub use event::{Event, EventKind};
pub use ids::{ConnectionId, PodId, SessionId, Zxid};
pub use log::{
    Action, Found, LogNumber, LogReader, Missing, NotSent, Outbox, OutboxLimits, Outcome,
    Sequencer, SequencerLimits, SessionTimers, Start, Stopped, Unsequenced,
};
pub use machine::{Applied, Directory, Loader, Machine, Reply, SessionInfo};
pub use page::{MAX_PART_BYTES, PageId, PageWrite};
pub use path::{CONFIG_PATH, QUOTA_PATH, SYSTEM_PATH, validate as validate_path};
pub use stat::{CreateMode, Owner, Stat};
pub use watch::{
    Notification, SetWatches, TooManyWatches, WatchKind, WatchSelector, WatchSummary, Watches,
};
