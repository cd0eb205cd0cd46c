//! A revisioned keyspace with watch history, as etcd defines it, over a local
//! [`Engine`](synod_engine::Engine).
//!
//! [`MvccStore`] is owned by the thread that applies the log. Each entry is a [`WriteTxn`]; several
//! are committed by one engine write, together with the position of the last entry, so data and
//! position never differ after a crash. [`MvccReader`] gives any thread a [`View`]: one revision of
//! everything, never blocked by writes.
//!
//! # Rows
//! - `Latest`: key -> the wire form of etcd's `mvccpb.KeyValue`. A current range is a scan; nothing
//!   is re-encoded.
//! - `History`: escaped key, inverted revision -> a displaced `KeyValue`, or nothing for a
//!   deletion.
//! - `Revisions`: first revision -> what that revision and the next ones changed. Drives watch
//!   catch-up and compaction, and tells which version each event displaced.
//! - `Counts`: how many keys there are by bucket; written now and then, and brought up to date from
//!   `Revisions`.
//! - `Leases`, `LeaseKeys`, `Members`, `Meta`: what their names say.
//!
//! # Compaction
//! [`WriteTxn::compact`] is replicated and takes effect for readers at once. The rows go later, by
//! [`Compactor::step`], at each member's own pace; hashes and reads don't depend on how far it has
//! come.

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

/// The longest key, in bytes. Its escaped form with a revision must fit into an engine key.
pub const MAX_KEY_BYTES: usize = 32_000;
