//! Decides when the core compacts its entries, and when the log may release them.

use std::collections::VecDeque;

use synod_consensus_core::{Entry, InitialMembers, SnapshotMeta};
use synod_types::Index;

/// Entries or bytes between two marks of the running total.
const MARK_ENTRIES: u64 = 128;
const MARK_BYTES: u64 = 256 << 10;
/// An open snapshot view delays compaction, up to this multiple of the usual bounds.
const PINNED_FACTOR: u64 = 4;
/// Flushes of the engine that are remembered as possible positions to release the log.
const MAX_FLUSHES: usize = 16;

/// How many entries the core keeps in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Applied entries to keep before the oldest are compacted.
    pub max_entries: u64,
    /// The size of applied entries to keep before the oldest are compacted.
    pub max_bytes: u64,
    /// Entries kept for slow peers at each compaction; fewer if they exceed half of `max_bytes`.
    pub keep_entries: u64,
}

/// Decides how far to compact the core's entries, and how far to release the log on disk.
#[derive(Clone, Debug)]
pub struct LogCompactor {
    initial: InitialMembers,
    /// The core has compacted its entries up to here.
    compacted: Index,
    compacted_bytes: u64,
    /// The running total of bytes at some indexes.
    marks: VecDeque<(Index, u64)>,
    last: Index,
    total: u64,
    /// Flushed positions up to which the log was not released yet, in ascending order.
    flushed: VecDeque<SnapshotMeta>,
    released: Index,
}

impl LogCompactor {
    /// `start` is the position before the core's first entry, `applied` the last applied one.
    #[must_use]
    pub fn new(initial: InitialMembers, start: Index, applied: Index) -> Self {
        Self {
            initial,
            compacted: start,
            compacted_bytes: 0,
            marks: VecDeque::new(),
            last: applied,
            total: 0,
            flushed: VecDeque::new(),
            released: start,
        }
    }

    /// Adds committed entries, which are about to be applied.
    pub fn committed(&mut self, entries: &[Entry]) {
        let Some(last) = entries.last() else {
            return;
        };
        self.total += entries.iter().map(Entry::size_bytes).sum::<u64>();
        self.last = last.index;
        let (index, bytes) = self.marks.back().copied().unwrap_or((self.compacted, 0));
        if self.last.since(index) >= MARK_ENTRIES || self.total - bytes >= MARK_BYTES {
            self.marks.push_back((self.last, self.total));
        }
    }

    /// A snapshot was installed: the log now begins after it.
    pub fn installed(&mut self, index: Index) {
        self.marks.clear();
        self.compacted = self.compacted.max(index);
        self.compacted_bytes = self.total;
        self.last = self.last.max(index);
        self.released = self.released.max(index);
        self.flushed.retain(|meta| meta.last.index >= index);
    }

    /// The engine is durable up to this position.
    pub fn persisted(&mut self, meta: SnapshotMeta) {
        let meta = self.initial.complete(meta);
        if self
            .flushed
            .back()
            .is_some_and(|last| last.last.index >= meta.last.index)
        {
            return;
        }
        if self.flushed.len() >= MAX_FLUSHES {
            self.flushed.pop_back();
        }
        self.flushed.push_back(meta);
    }

    /// The index up to which the core should compact now, if it is due. `pinned` is the position of
    /// the oldest open view of the state; a peer that copies the view needs the entries after it.
    /// It is only called when compaction is due.
    pub fn due(
        &mut self,
        bounds: &Bounds,
        applied: Index,
        pinned: impl Fn() -> Option<Index>,
    ) -> Option<Index> {
        let entries = applied.since(self.compacted);
        let bytes = self.total - self.compacted_bytes;
        if entries <= bounds.max_entries && bytes <= bounds.max_bytes {
            return None;
        }
        let keep_from = applied.minus(bounds.keep_entries);
        let half = self.total.saturating_sub(bounds.max_bytes / 2);
        // The position after which half of the bytes are kept. The exact index lies between two
        // marks.
        let heavy = self.marks.partition_point(|(_, bytes)| *bytes <= half);
        let heavy = heavy
            .checked_sub(1)
            .and_then(|at| self.marks.get(at))
            .map(|(index, _)| *index);
        let mut target = keep_from.max(heavy.unwrap_or_default()).min(applied);
        let far = entries > bounds.max_entries.saturating_mul(PINNED_FACTOR)
            || bytes > bounds.max_bytes.saturating_mul(PINNED_FACTOR);
        if !far && let Some(oldest) = pinned() {
            target = target.min(oldest);
        }
        if target <= self.compacted {
            return None;
        }
        self.compacted = target;
        while let Some((index, bytes)) = self.marks.front().copied()
            && index <= target
        {
            self.compacted_bytes = bytes;
            self.marks.pop_front();
        }
        Some(target)
    }

    /// The position up to which the log may be released: the engine has it durably, and the core
    /// will not need the entries for slow peers, even after a restart.
    pub fn releasable(&mut self) -> Option<SnapshotMeta> {
        let mut release = None;
        while self
            .flushed
            .front()
            .is_some_and(|meta| meta.last.index <= self.compacted)
        {
            release = self.flushed.pop_front();
        }
        let release = release.filter(|meta| meta.last.index > self.released)?;
        self.released = release.last.index;
        Some(release)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use synod_consensus_core::{EntryFields, EntryKind, Membership};
    use synod_types::{Ballot, LogPosition, NodeId, RequestId};

    use super::*;

    fn compactor() -> LogCompactor {
        let initial = InitialMembers::of(Membership::of([NodeId::new(1)]));
        LogCompactor::new(initial, Index::ZERO, Index::ZERO)
    }

    fn bounds(max_entries: u64, max_bytes: u64, keep_entries: u64) -> Bounds {
        Bounds {
            max_entries,
            max_bytes,
            keep_entries,
        }
    }

    fn commit(compactor: &mut LogCompactor, indexes: std::ops::RangeInclusive<u64>, bytes: usize) {
        for index in indexes {
            compactor.committed(&[Entry::from(EntryFields {
                index: Index::new(index),
                ballot: Ballot::term(1),
                id: RequestId::NONE,
                kind: EntryKind::Normal,
                data: Bytes::from(vec![0; bytes]),
            })]);
        }
    }

    fn due(compactor: &mut LogCompactor, bounds: &Bounds, applied: u64) -> Option<u64> {
        compactor
            .due(bounds, Index::new(applied), || None)
            .map(Index::get)
    }

    fn flushed(index: u64) -> SnapshotMeta {
        let ballot = Ballot::term(1);
        SnapshotMeta {
            last: LogPosition {
                ballot,
                index: Index::new(index),
            },
            membership: Membership::default(),
        }
    }

    #[test]
    fn entries_are_kept_for_slow_peers_within_the_bounds() {
        let bounds = bounds(1_000, u64::MAX, 400);
        let mut compactor = compactor();
        commit(&mut compactor, 1..=2_000, 10);
        assert_eq!(due(&mut compactor, &bounds, 1_000), None);
        assert_eq!(due(&mut compactor, &bounds, 1_001), Some(601));
        assert_eq!(due(&mut compactor, &bounds, 1_001), None);
        assert_eq!(due(&mut compactor, &bounds, 2_000), Some(1_600));
    }

    #[test]
    fn large_entries_are_kept_up_to_half_of_the_bytes() {
        let bounds = bounds(u64::MAX / 8, 10 << 20, 5_000);
        let mut compactor = compactor();
        commit(&mut compactor, 1..=100, 100 << 10);
        assert_eq!(due(&mut compactor, &bounds, 100), None);
        commit(&mut compactor, 101..=110, 100 << 10);
        let cut = due(&mut compactor, &bounds, 110).unwrap();
        assert!((55..=60).contains(&cut), "{cut}");
        // From now on only the remaining bytes count.
        assert_eq!(due(&mut compactor, &bounds, 110), None);
    }

    #[test]
    fn a_snapshot_view_delays_compaction_up_to_a_limit() {
        let bounds = bounds(1_000, u64::MAX / 8, 100);
        let mut compactor = compactor();
        commit(&mut compactor, 1..=9_000, 10);
        let pin = || Some(Index::new(700));
        assert_eq!(
            compactor.due(&bounds, Index::new(1_500), pin),
            Some(Index::new(700))
        );
        assert_eq!(compactor.due(&bounds, Index::new(4_700), pin), None);
        assert_eq!(
            compactor.due(&bounds, Index::new(4_701), pin),
            Some(Index::new(4_601))
        );
    }

    #[test]
    fn the_log_is_released_at_a_flush_that_the_core_has_compacted() {
        let bounds = bounds(1_000, u64::MAX, 400);
        let mut compactor = compactor();
        commit(&mut compactor, 1..=3_000, 10);
        compactor.persisted(flushed(500));
        compactor.persisted(flushed(900));
        compactor.persisted(flushed(2_500));
        assert_eq!(compactor.releasable(), None);
        assert_eq!(due(&mut compactor, &bounds, 1_500), Some(1_100));
        let released = compactor.releasable().unwrap();
        assert_eq!(released.last, flushed(900).last);
        assert_eq!(
            released.membership,
            Membership::of([NodeId::new(1)]),
            "filled in"
        );
        assert_eq!(compactor.releasable(), None);
    }

    #[test]
    fn an_installed_snapshot_resets_the_compactor() {
        let bounds = bounds(1_000, u64::MAX, 400);
        let mut compactor = compactor();
        commit(&mut compactor, 1..=900, 10);
        compactor.persisted(flushed(800));
        compactor.installed(Index::new(5_000));
        assert_eq!(due(&mut compactor, &bounds, 5_900), None);
        assert_eq!(
            compactor.releasable(),
            None,
            "older than the log's new start"
        );
    }
}
