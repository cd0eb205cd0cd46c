//! A revisioned keyspace with watch history, as etcd defines it, over a local
//! [`Engine`](synod_engine::Engine).
//!
//! The thread that applies the log owns [`MvccStore`]. Each log entry is one [`WriteTxn`]. One
//! engine write commits several of them together with the position of the last entry, so data and
//! position always match after a crash. [`MvccReader`] gives any thread a [`View`] of everything at
//! one revision; writes never block it.
//!
//! # Rows
//! - `Latest`: key -> the wire form of etcd's `mvccpb.KeyValue`. A current range is a plain scan;
//!   nothing is re-encoded.
//! - `History`: escaped key, inverted revision -> a displaced `KeyValue`, or an empty value for a
//!   deletion.
//! - `Revisions`: first revision -> the changes of that revision and the following ones. Used for
//!   watch catch-up and compaction, and to find the version that each event displaced.
//! - `Counts`: the number of keys by bucket. Written now and then, and brought up to date from
//!   `Revisions`.
//! - `Leases`, `LeaseKeys`, `Members`, `Meta`: leases, their keys, members, and single rows.
//!
//! # Compaction
//! [`WriteTxn::compact`] is replicated and takes effect for readers immediately.
//! [`Compactor::step`] removes the rows later, at each member's own pace. Reads and hashes don't
//! depend on its progress.

mod codec;
mod compaction;
mod counts;
mod error;
mod event;
mod export;
mod hash;
mod history;
mod large;
mod overlay;
mod query;
mod range;
mod recent;
mod record;
mod revisions;
mod source;
mod state;
mod store;
mod stream;
mod txn;
mod types;
mod view;

pub use compaction::{CompactionStep, Compactor};
pub use error::MvccError;
pub use event::{Event, EventBatch, EventKind, EventsPage, LargePage};
pub use export::{Importer, export, whole_rows};
pub use hash::{KvHash, StoreHash};
pub use large::LargeDelete;
pub use query::{
    Compare, CompareOp, CompareTarget, RangeQuery, RangeResult, RevisionBounds, SortOrder,
    SortTarget,
};
pub use record::KeyValueView;
pub use state::{Applied, LeaseRecord};
pub use store::{MvccConfig, MvccStore};
pub use stream::{RangeChunk, RangeStream};
pub use txn::{Deleted, Put, TxnOutcome, WriteTxn};
pub use types::{KeyRange, LeaseId, Revision};
pub use view::{MvccReader, View};

/// The longest key, in bytes. Its escaped form plus a revision must fit into an engine key.
pub const MAX_KEY_BYTES: usize = 32_000;
