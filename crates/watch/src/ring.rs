//! The most recent batches in memory, for watchers that are slightly behind.

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

    /// Adds the next batch, and drops old ones to stay within the limits.
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

    /// Clears the ring: the next batch is not contiguous with the last one.
    pub(crate) fn clear(&mut self) {
        self.batches.clear();
        self.bytes = 0;
    }

    /// Whether the ring has everything from `revision` on.
    pub(crate) fn reaches(&self, revision: i64) -> bool {
        self.batches
            .front()
            .is_some_and(|(oldest, _)| source::revision(oldest) <= revision)
    }

    /// The events that `interest` sees from revision `from` on, up to about
    /// [`WatchLimits::piece_bytes`]; the same result as a read from history. Call it only if the
    /// ring [`reaches`](Self::reaches) `from` and `from` is not compacted.
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
            // The state before the compacted revision can't be read any more.
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
