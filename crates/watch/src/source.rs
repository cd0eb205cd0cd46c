//! What watching needs of the store, and nothing else of it.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use synod_mvcc::View;
pub(crate) use synod_mvcc::{Event, EventBatch, EventKind};

use super::interest::{EventFlags, Interest};
use super::queue::Part;

/// Where the store stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revisions {
    /// The last revision.
    pub current: i64,
    /// Where it was compacted: the oldest revision that can be watched from.
    pub compacted: i64,
}

/// What an interest sees of a stretch of history.
#[derive(Debug)]
pub struct Piece {
    /// The events, by revision.
    pub parts: Vec<Arc<Part>>,
    /// Nothing up to and including this revision is missing.
    pub through: i64,
    /// The store's revision when it was read.
    pub store_revision: i64,
}

/// All events of a stretch of history.
#[derive(Debug)]
pub struct Fill {
    /// In order of revisions.
    pub batches: Vec<Arc<EventBatch>>,
    /// Nothing up to and including this revision is missing.
    pub through: i64,
    /// The revision after `through`, if it is a large one: those are never in a batch.
    pub large: Option<LargeRevision>,
}

/// A large revision, with the view that its keys are read from: so a compaction in between does not
/// end that.
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
    /// Some of them.
    pub keys: Vec<Bytes>,
    /// The piece of the revision after which the next keys are read; `None` at the end.
    pub next: Option<u32>,
}

/// Why history could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// It was compacted up to this revision.
    #[error("history was compacted up to revision {0}")]
    Compacted(i64),
    /// The store failed.
    #[error("{0}")]
    Failed(String),
}

/// The store's past. A read returns a bounded part of it, but at least one whole revision. That
/// holds for large revisions too: such a read takes as much memory as what the interest sees of
/// one.
pub trait History: Send + Sync {
    /// Where the store stands; cheap.
    fn revisions(&self) -> Revisions;

    /// What `interest` sees from revision `from` on.
    fn read(&self, interest: &Interest, from: i64) -> Result<Piece, HistoryError>;

    /// Everything from revision `from` on.
    fn batches(&self, from: i64) -> Result<Fill, HistoryError>;

    /// What a large revision deleted, from the piece after `after` on.
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

/// What the batch weighs in memory.
pub(crate) fn bytes(batch: &EventBatch) -> usize {
    // The record and its encoded form, and the structures around them.
    batch.bytes() * 2 + batch.events.len() * 256
}

/// Calls `visit` with each event's number, key and kind, in order.
pub(crate) fn for_each_event(batch: &EventBatch, mut visit: impl FnMut(usize, &[u8], EventKind)) {
    for (at, event) in batch.events.iter().enumerate() {
        visit(at, &event.key, event.kind);
    }
}

/// Whether a view shows events of this kind.
pub(crate) const fn admits(flags: EventFlags, kind: EventKind) -> bool {
    match kind {
        EventKind::Put => !flags.has(EventFlags::NO_PUT),
        EventKind::Delete => !flags.has(EventFlags::NO_DELETE),
    }
}

/// The event as an encoded `mvccpb.Event`, shared by all who ask.
pub(crate) fn encoded(batch: &EventBatch, at: usize, flags: EventFlags) -> Bytes {
    encoded_event(&batch.events[at], flags)
}

/// As [`encoded`].
pub(crate) fn encoded_event(event: &Event, flags: EventFlags) -> Bytes {
    event.wire(flags.has(EventFlags::PREV_KV)).clone()
}
