//! The store operations that watching needs.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use synod_mvcc::View;
pub(crate) use synod_mvcc::{Event, EventBatch, EventKind};

use super::interest::{EventFlags, Interest};
use super::queue::Part;

/// The store's revisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revisions {
    /// The current revision.
    pub current: i64,
    /// The compacted revision: the oldest one that can be watched from.
    pub compacted: i64,
}

/// The events that an interest sees in a part of history.
#[derive(Debug)]
pub struct Piece {
    /// The events, by revision.
    pub parts: Vec<Arc<Part>>,
    /// The piece is complete up to and including this revision.
    pub through: i64,
    /// The store's revision when the piece was read.
    pub store_revision: i64,
}

/// All events in a part of history.
#[derive(Debug)]
pub struct Fill {
    /// The batches in revision order.
    pub batches: Vec<Arc<EventBatch>>,
    /// The batches are complete up to and including this revision.
    pub through: i64,
    /// The revision after `through`, if it is a large one. Large revisions are never in a batch.
    pub large: Option<LargeRevision>,
}

/// A large revision, with the view that its keys are read from, so that a compaction in between
/// does not end the read.
#[derive(Clone, Debug)]
pub struct LargeRevision {
    /// The revision.
    pub revision: i64,
    /// The keyspace at that revision or a later one.
    pub view: View,
}

/// Keys that a large revision deleted.
#[derive(Debug)]
pub struct DeletedKeys {
    /// The keys of this page.
    pub keys: Vec<Bytes>,
    /// The piece of the revision after which the next keys are read; `None` at the end.
    pub next: Option<u32>,
}

/// The reason why history could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// History is compacted up to this revision.
    #[error("history was compacted up to revision {0}")]
    Compacted(i64),
    /// The store failed.
    #[error("{0}")]
    Failed(String),
}

/// The store's history. A read returns a bounded part of it, but at least one whole revision. This
/// includes large revisions: such a read takes as much memory as the events that the interest sees.
pub trait History: Send + Sync {
    /// The store's revisions. Cheap.
    fn revisions(&self) -> Revisions;

    /// Reads the events that `interest` sees, from revision `from` on.
    fn read(&self, interest: &Interest, from: i64) -> Result<Piece, HistoryError>;

    /// Reads all events from revision `from` on.
    fn batches(&self, from: i64) -> Result<Fill, HistoryError>;

    /// Reads the keys that a large revision deleted, from the piece after `after` on.
    fn deleted_keys(&self, large: &LargeRevision, after: u32) -> Result<DeletedKeys, HistoryError>;
}

impl fmt::Debug for dyn History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("History").field(&self.revisions()).finish()
    }
}

/// The batch's revision.
pub(crate) fn revision(batch: &EventBatch) -> i64 {
    batch.revision.get()
}

/// The batch's estimated size in memory.
pub(crate) fn bytes(batch: &EventBatch) -> usize {
    // The record, its encoded form, and the overhead of both.
    batch.bytes() * 2 + batch.events.len() * 256
}

/// Calls `visit` with each event's index, key and kind, in order.
pub(crate) fn for_each_event(batch: &EventBatch, mut visit: impl FnMut(usize, &[u8], EventKind)) {
    for (at, event) in batch.events.iter().enumerate() {
        visit(at, &event.key, event.kind);
    }
}

/// Whether these flags admit events of this kind.
pub(crate) const fn admits(flags: EventFlags, kind: EventKind) -> bool {
    match kind {
        EventKind::Put => !flags.has(EventFlags::NO_PUT),
        EventKind::Delete => !flags.has(EventFlags::NO_DELETE),
    }
}

/// The event as an encoded `mvccpb.Event`, shared by all watchers.
pub(crate) fn encoded(batch: &EventBatch, at: usize, flags: EventFlags) -> Bytes {
    encoded_event(&batch.events[at], flags)
}

/// Like [`encoded`], for one event.
pub(crate) fn encoded_event(event: &Event, flags: EventFlags) -> Bytes {
    event.wire(flags.has(EventFlags::PREV_KV)).clone()
}
