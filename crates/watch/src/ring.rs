//! The last batches in memory: what a watcher needs that fell behind only a little.

use std::collections::VecDeque;
use std::sync::Arc;

use super::interest::{EventFlags, Interest};
use super::limits::WatchLimits;
use super::queue::Part;
use super::source::{self, EventBatch, Piece, Revisions};

/// Consecutive batches up to the newest one.
#[derive(Debug)]
pub(crate) struct Ring {
    batches: VecDeque<(Arc<EventBatch>, usize)>,
    bytes: usize,
    limits: WatchLimits,
}

impl Ring {
    /// An empty ring.
    pub(crate) fn new(limits: &WatchLimits) -> Self {
        Self {
            batches: VecDeque::new(),
            bytes: 0,
            limits: limits.clone(),
        }
    }

    /// Adds the next batch, and drops the oldest ones as the bounds demand.
    pub(crate) fn push(&mut self, batch: Arc<EventBatch>) {
        let bytes = source::bytes(&batch);
        self.bytes += bytes;
        self.batches.push_back((batch, bytes));
        while self.batches.len() > self.limits.ring_batches
            || (self.bytes > self.limits.ring_bytes && self.batches.len() > 1)
        {
            if let Some((_, bytes)) = self.batches.pop_front() {
                self.bytes -= bytes;
            }
        }
    }

    /// Forgets everything: the next batch does not follow the last one.
    pub(crate) fn clear(&mut self) {
        self.batches.clear();
        self.bytes = 0;
    }

    /// Whether everything from `revision` on is here.
    pub(crate) fn reaches(&self, revision: i64) -> bool {
        self.batches
            .front()
            .is_some_and(|(oldest, _)| source::revision(oldest) <= revision)
    }

    /// What `interest` sees from revision `from` on, up to about [`WatchLimits::piece_bytes`], as
    /// history would tell it. Call it only where the ring [`reaches`](Self::reaches) `from` and
    /// that is not compacted.
    pub(crate) fn read(&self, interest: &Interest, from: i64, store: Revisions) -> Piece {
        let first = self
            .batches
            .partition_point(|(batch, _)| source::revision(batch) < from);
        let mut piece = Piece {
            parts: Vec::new(),
            through: from - 1,
            store_revision: store.current,
        };
        let mut bytes = 0;
        for (batch, _) in self.batches.iter().skip(first) {
            if bytes >= self.limits.piece_bytes {
                break;
            }
            // Nobody can read what was before the compacted revision.
            let shown = match source::revision(batch) <= store.compacted {
                true => interest.flags.without(EventFlags::PREV_KV),
                false => interest.flags,
            };
            let mut events = Vec::new();
            source::for_each_event(batch, |at, key, kind| {
                if source::admits(interest.flags, kind) && interest.range.contains(key) {
                    events.push(source::encoded(batch, at, shown));
                }
            });
            if !events.is_empty() {
                let part = Part::new(events);
                bytes += part.bytes();
                piece.parts.push(Arc::new(part));
            }
            piece.through = source::revision(batch);
        }
        piece
    }
}
