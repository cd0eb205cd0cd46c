//! Coordination without I/O: ZooKeeper's tree of nodes, its sessions and its watches, as a state
//! machine that every pod of the coordination service runs over one shared log.
//!
//! # What it owns
//! - [`Machine`]: the tree and the sessions. [`Machine::apply_batch`] executes the commands of a
//!   log entry; each has a reply, and [`Event`]s for watches. The reads are methods of `&Machine`.
//! - [`Watches`]: which connection of *this* pod is told of which event. They are not replicated.
//! - The encodings of [`Batch`] and [`Command`], and of checkpoints in pages
//!   ([`Machine::start_checkpoint`], [`Loader`]).
//!
//! # What it guarantees
//! - **Equal pods.** The state and the replies depend on the commands alone, whether a pod applied
//!   them all or loaded a checkpoint in between. [`Machine::state_hash`] shows it.
//! - **ZooKeeper's semantics**: stats, sequence numbers, errors and which of several wins,
//!   permissions, quotas, containers and TTLs, the order of events. The exceptions are below.
//! - **At most once.** A command names its pod and its number there ([`Origin`]). A command that is
//!   sent again has no second effect, and none is applied before those that precede it.
//! - **All or nothing.** A multi that fails leaves nothing behind.
//! - **No surprise from bytes.** Decoding never panics, and allocates in proportion to its input.
//!   What a command does is in proportion to its bytes and to what earlier commands created: paths,
//!   access control lists, identities and multis are bounded (`MAX_...`).
//!
//! # What it never does
//! It uses no clock, thread, socket, disk or random source. It never decides that a session has
//! expired, a node is due or a pod is gone: a command says so, and is checked when it is applied.
//! It does not order commands.
//!
//! # What the service does, in order
//! 1. **Restore.** Read [`PageId::Meta`] of the last complete checkpoint, add all pages that
//!    [`Loader::missing`] lists, and apply the log from [`Machine::last_zxid`] on.
//! 2. **Register.** A pod's first command is [`Kind::RegisterPod`], with a [`PodId`] that was never
//!    used before. It numbers its commands and sends those again that are not in the log after a
//!    change of the sequencer, in order. If it is forgotten, it takes a new id and registers again:
//!    what was not executed under the old one never will be.
//! 3. **Apply.** For each [`Applied`]: give its events to [`Watches::trigger`], in order, and queue
//!    the notifications to their connections; only then the reply to the connection of its command.
//!    So a client learns of a change before it can read it.
//! 4. **Read.** A read that leaves a watch reads and calls [`Watches::add`] without applying
//!    anything in between.
//! 5. **Checkpoint.** Store each page of [`Machine::next_page`] under its id and the transaction
//!    that last changed it, the meta page last. Then delete the pages that
//!    [`Directory::is_obsolete`] names, and the log up to [`Directory::last_zxid`]: the range from
//!    its very start, so that what an interrupted deletion has left goes, too.
//!
//! # Where it differs from ZooKeeper
//! - Hard limits of quotas are always enforced (`enforceQuota`), and the operations of a multi add
//!   up: ZooKeeper compares each with what was used before the multi.
//! - The limits of [`MAX_PATH_BYTES`], [`MAX_ACL_ENTRIES`] and the other constants of this kind are
//!   far above what clients use. ZooKeeper limits requests as a whole.
//! - A quota's data over 1 KiB has no numbers in it, and only ZooKeeper's four names have a
//!   meaning. A multi that creates several `zookeeper_stats` is refused if they count far more than
//!   10,000 nodes.
//! - A node's counter wraps after 2^31 - 1 children, as ZooKeeper's documentation says. Its server
//!   stays at that number, and every further sequential node exists already.
//! - TTL nodes, and the schemes `x509` and `sasl`, need not be enabled.
//! - A closed session's nodes are deleted in the order of their ids, mostly that of creation; in
//!   ZooKeeper in none.
//! - A write through another pod than that of the session fails with
//!   [`SessionMoved`](OpError::SessionMoved) from the moment at which the session moved in the log.
//!
//! # Memory
//! A node takes 128 bytes and one allocation for its name and data. Names are stored once, under
//! their parents. Children are a list through the nodes, and are found in one table by parent and
//! name. Equal access control lists are stored once. A million nodes with 100 bytes of data take
//! about 300 MiB (`tests/memory.rs`).

mod acl;
mod codec;
mod command;
mod error;
mod event;
mod ids;
mod limits;
mod log;
mod machine;
mod page;
mod path;
mod quota;
mod sessions;
mod stat;
mod table;
mod tree;
mod watch;

pub use acl::{Acl, AclList, Id, Perms, check as check_acl, digest};
pub use command::{Batch, Command, Kind, Op, Origin, Password};
pub use error::{BatchOutOfOrder, DecodeError, LoadError, OpError, Refused};
pub use event::{Event, EventKind};
pub use ids::{ConnectionId, PodId, SessionId, Zxid};
pub use limits::{
    MAX_ACL_BYTES, MAX_ACL_ENTRIES, MAX_EPHEMERAL_BYTES, MAX_IDENTITIES, MAX_IDENTITY_BYTES,
    MAX_MULTI_OPS, MAX_PATH_BYTES, check_identities,
};
pub use log::{
    Action, Expired, Found, LogNumber, LogReader, Missing, NotSent, Now, Outbox, OutboxLimits,
    Outcome, Sequencer, SequencerLimits, SessionTimers, Start, Stopped, Unsequenced,
};
pub use machine::{Applied, Directory, Loader, MAX_PODS, Machine, POD_IDLE_MS, Reply, SessionInfo};
pub use page::{MAX_PART_BYTES, PageId, PageWrite};
pub use path::{CONFIG_PATH, QUOTA_PATH, SYSTEM_PATH, validate as validate_path};
pub use stat::{CreateMode, Owner, Stat};
pub use watch::{
    Notification, SetWatches, TooManyWatches, WatchKind, WatchSelector, WatchSummary, Watches,
};
