//! The entries since the last compaction, in memory.

use std::collections::{BTreeMap, VecDeque};

use synod_types::{Ballot, Index, LogPosition};

use crate::Entry;

/// Contiguous entries after `start` and, in Multi-Paxos, some after a gap.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Log {
    start: LogPosition,
    /// The running total of sizes at `start`. Only differences are meaningful.
    start_bytes: u64,
    slots: VecDeque<Slot>,
    /// Entries after the first gap. Always empty in Raft.
    tail: BTreeMap<Index, Entry>,
    tail_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Slot {
    entry: Entry,
    /// The entry's ballot, stored here to make searches faster.
    ballot: Ballot,
    /// The running total of sizes, including this entry. It makes limits in bytes a binary search.
    end_bytes: u64,
}

impl Log {
    pub(super) fn new(start: LogPosition) -> Self {
        Self {
            start,
            start_bytes: 0,
            slots: VecDeque::new(),
            tail: BTreeMap::new(),
            tail_bytes: 0,
        }
    }

    /// The position before the first entry.
    pub(super) fn start(&self) -> LogPosition {
        self.start
    }

    /// The last entry, or `start`.
    pub(super) fn last(&self) -> LogPosition {
        let Some(slot) = self.slots.back() else {
            return self.start;
        };
        LogPosition {
            ballot: slot.ballot,
            index: self.end().prev(),
        }
    }

    /// The position at `index`, if it is `start` or that of a contiguous entry.
    pub(super) fn position_at(&self, index: Index) -> Option<LogPosition> {
        if index == self.start.index {
            return Some(self.start);
        }
        self.slot(index).map(|slot| LogPosition {
            ballot: slot.ballot,
            index,
        })
    }

    pub(super) fn ballot_at(&self, index: Index) -> Option<Ballot> {
        self.position_at(index).map(|position| position.ballot)
    }

    /// Whether exactly this entry is here, and so (log matching, Raft §5.3) all before it.
    pub(super) fn matches(&self, position: LogPosition) -> bool {
        self.ballot_at(position.index) == Some(position.ballot)
    }

    pub(super) fn push(&mut self, entry: Entry) {
        assert!(entry.index == self.end(), "entries are contiguous");
        let before = self.slots.back();
        let end_bytes = before.map_or(self.start_bytes, |slot| slot.end_bytes) + entry.size_bytes();
        self.slots.push_back(Slot {
            ballot: entry.ballot,
            entry,
            end_bytes,
        });
    }

    /// The entry at `index`, before or after a gap.
    pub(super) fn entry(&self, index: Index) -> Option<&Entry> {
        match self.slot(index) {
            Some(slot) => Some(&slot.entry),
            None => self.tail.get(&index),
        }
    }

    /// Replaces the entry at the same index, which is one of the contiguous ones.
    pub(super) fn replace(&mut self, entry: Entry) {
        let offset = self.offset(entry.index);
        let Some(slot) = self.slots.get_mut(offset) else {
            return;
        };
        let (before, after) = (slot.entry.size_bytes(), entry.size_bytes());
        slot.ballot = entry.ballot;
        slot.entry = entry;
        if before == after {
            return;
        }
        for slot in self.slots.range_mut(offset..) {
            slot.end_bytes = slot.end_bytes - before + after;
        }
    }

    /// Adds an entry after a gap.
    pub(super) fn put_after_gap(&mut self, entry: Entry) {
        self.tail_bytes += entry.size_bytes();
        if let Some(old) = self.tail.insert(entry.index, entry) {
            self.tail_bytes -= old.size_bytes();
        }
    }

    /// Removes an entry after a gap.
    pub(super) fn take_after_gap(&mut self, index: Index) -> Option<Entry> {
        if self.tail.is_empty() {
            return None;
        }
        let entry = self.tail.remove(&index)?;
        self.tail_bytes -= entry.size_bytes();
        Some(entry)
    }

    /// Moves entries that now follow the contiguous ones to them.
    pub(super) fn close_gap(&mut self) {
        while let Some(entry) = self.take_after_gap(self.last().index.next()) {
            self.push(entry);
        }
    }

    /// Moves the entries from `index` on behind a gap.
    pub(super) fn open_gap(&mut self, index: Index) {
        let from = self.offset(index).min(self.slots.len());
        for slot in self.slots.split_off(from) {
            self.put_after_gap(slot.entry);
        }
    }

    /// The size of all entries after a gap.
    pub(super) fn bytes_after_gap(&self) -> u64 {
        self.tail_bytes
    }

    /// All entries from `index` on, including those after gaps.
    pub(super) fn from(&self, index: Index) -> impl Iterator<Item = &Entry> {
        self.range(index, self.last().index)
            .chain(self.tail.range(index..).map(|(_, entry)| entry))
    }

    /// Compacts the entries up to `start`, which replaces them. Keeps those after it.
    pub(super) fn advance(&mut self, start: LogPosition) {
        self.open_gap(start.index.next());
        self.slots.clear();
        self.start = start;
        self.start_bytes = 0;
        let kept = self.tail.split_off(&start.index.next());
        self.tail = kept;
        self.tail_bytes = self.tail.values().map(Entry::size_bytes).sum();
        self.close_gap();
    }

    /// Removes the entries from `index` on.
    pub(super) fn truncate_from(&mut self, index: Index) {
        self.slots.truncate(self.offset(index));
    }

    /// Removes everything. The next entry follows `start`.
    pub(super) fn reset(&mut self, start: LogPosition) {
        *self = Self::new(start);
    }

    /// Compacts the entries up to `index`, which becomes the new start.
    pub(super) fn compact(&mut self, index: Index) {
        let count = self.offset(index.next()).min(self.slots.len());
        if let Some(slot) = count.checked_sub(1).and_then(|i| self.slots.get(i)) {
            self.start = slot.entry.position();
            self.start_bytes = slot.end_bytes;
            self.slots.drain(..count);
        }
    }

    /// The entries `from..=to` that are here.
    pub(super) fn range(&self, from: Index, to: Index) -> impl ExactSizeIterator<Item = &Entry> {
        let end = self.offset(to.next()).min(self.slots.len());
        let begin = self.offset(from).min(end);
        self.slots.range(begin..end).map(|slot| &slot.entry)
    }

    /// The size of the entries after `from` up to `to`.
    pub(super) fn bytes_between(&self, from: Index, to: Index) -> u64 {
        self.end_bytes(to).saturating_sub(self.end_bytes(from))
    }

    /// The end of a batch of at most `max_bytes` that starts at `from`. It has at least one entry.
    pub(super) fn batch_end(&self, from: Index, max_bytes: u64) -> Index {
        let limit = self.end_bytes(from.prev()).saturating_add(max_bytes);
        // Usually all of them fit. The binary search would access the whole log, which is not in
        // the CPU cache.
        if self.slots.back().is_none_or(|last| last.end_bytes <= limit) {
            return self.last().index.max(from);
        }
        let count = self.slots.partition_point(|slot| slot.end_bytes <= limit);
        self.start.index.plus(count as u64).max(from)
    }

    /// The last entry at or before `limit.index` with a ballot of at most `limit.ballot`. Two logs
    /// can't agree beyond it, since ballots never decrease along a log.
    pub(super) fn last_at_most(&self, limit: LogPosition) -> LogPosition {
        let count = self
            .slots
            .partition_point(|slot| slot.ballot <= limit.ballot);
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

    /// The index of the next entry.
    fn end(&self) -> Index {
        self.start.index.plus(self.slots.len() as u64 + 1)
    }

    fn slot(&self, index: Index) -> Option<&Slot> {
        if index <= self.start.index {
            return None;
        }
        self.slots.get(self.offset(index))
    }

    /// The number of slots before `index`.
    fn offset(&self, index: Index) -> usize {
        let offset = index.since(self.start.index.next());
        usize::try_from(offset).unwrap_or(usize::MAX)
    }
}
