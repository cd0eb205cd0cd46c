//! The entries since the last compaction, in memory.

use std::collections::VecDeque;

use synod_types::{Ballot, Index, LogPosition};

use crate::Entry;

/// Contiguous entries after `start`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Log {
    start: LogPosition,
    /// The running total of sizes at `start`; only differences mean anything.
    start_bytes: u64,
    slots: VecDeque<Slot>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Slot {
    entry: Entry,
    /// The running total of sizes, this entry included: makes limits in bytes a binary search.
    end_bytes: u64,
}

impl Log {
    pub(super) fn new(start: LogPosition) -> Self {
        Self {
            start,
            start_bytes: 0,
            slots: VecDeque::new(),
        }
    }

    /// The position before the first entry.
    pub(super) fn start(&self) -> LogPosition {
        self.start
    }

    /// The last entry, or `start`.
    pub(super) fn last(&self) -> LogPosition {
        self.slots
            .back()
            .map_or(self.start, |slot| slot.entry.position())
    }

    /// The position at `index`, from `start` to `last`.
    pub(super) fn position_at(&self, index: Index) -> Option<LogPosition> {
        if index == self.start.index {
            return Some(self.start);
        }
        self.slot(index).map(|slot| slot.entry.position())
    }

    pub(super) fn ballot_at(&self, index: Index) -> Option<Ballot> {
        self.position_at(index).map(|position| position.ballot)
    }

    /// Whether this very entry is here, and so (log matching, Raft §5.3) all before it.
    pub(super) fn matches(&self, position: LogPosition) -> bool {
        self.ballot_at(position.index) == Some(position.ballot)
    }

    pub(super) fn push(&mut self, entry: Entry) {
        assert!(
            entry.index == self.last().index.next() && entry.ballot >= self.last().ballot,
            "entries are contiguous and their ballots never fall"
        );
        let end_bytes = self
            .slots
            .back()
            .map_or(self.start_bytes, |slot| slot.end_bytes)
            + entry.size_bytes();
        self.slots.push_back(Slot { entry, end_bytes });
    }

    /// Forgets the entries from `index` on.
    pub(super) fn truncate_from(&mut self, index: Index) {
        self.slots.truncate(self.offset(index));
    }

    /// Forgets everything; the next entry comes after `start`.
    pub(super) fn reset(&mut self, start: LogPosition) {
        *self = Self::new(start);
    }

    /// Forgets the entries up to `index`, which becomes the new start.
    pub(super) fn compact(&mut self, index: Index) {
        let count = self.offset(index.next()).min(self.slots.len());
        if let Some(slot) = count.checked_sub(1).and_then(|i| self.slots.get(i)) {
            self.start = slot.entry.position();
            self.start_bytes = slot.end_bytes;
            self.slots.drain(..count);
        }
    }

    /// The entries `from..=to`, as far as they are here.
    pub(super) fn range(&self, from: Index, to: Index) -> impl ExactSizeIterator<Item = &Entry> {
        let end = self.offset(to.next()).min(self.slots.len());
        let begin = self.offset(from).min(end);
        self.slots.range(begin..end).map(|slot| &slot.entry)
    }

    /// The size of the entries after `from` up to `to`.
    pub(super) fn bytes_between(&self, from: Index, to: Index) -> u64 {
        self.end_bytes(to).saturating_sub(self.end_bytes(from))
    }

    /// Where a batch of at most `max_bytes` that begins at `from` ends; it has at least one entry.
    pub(super) fn batch_end(&self, from: Index, max_bytes: u64) -> Index {
        let limit = self.end_bytes(from.prev()).saturating_add(max_bytes);
        let count = self.slots.partition_point(|slot| slot.end_bytes <= limit);
        self.start.index.plus(count as u64).max(from)
    }

    /// The last entry, not past `limit.index`, of a ballot not above `limit.ballot`: two logs can agree at
    /// most up to there, since ballots never fall along a log.
    pub(super) fn last_at_most(&self, limit: LogPosition) -> LogPosition {
        let count = self
            .slots
            .partition_point(|slot| slot.entry.ballot <= limit.ballot);
        let index = self.start.index.plus(count as u64).min(limit.index);
        self.position_at(index).unwrap_or(LogPosition {
            ballot: limit.ballot,
            index,
        })
    }

    fn end_bytes(&self, index: Index) -> u64 {
        self.slot(index)
            .map_or(self.start_bytes, |slot| slot.end_bytes)
    }

    fn slot(&self, index: Index) -> Option<&Slot> {
        if index <= self.start.index {
            return None;
        }
        self.slots.get(self.offset(index))
    }

    /// How many slots come before `index`.
    fn offset(&self, index: Index) -> usize {
        let offset = index.since(self.start.index.next());
        usize::try_from(offset).unwrap_or(usize::MAX)
    }
}
