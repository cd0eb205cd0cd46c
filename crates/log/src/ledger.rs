//! Tracks which segments are still needed, and which state of each group must outlive them.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use synod_consensus_core::{HardState, SnapshotMeta};
use synod_types::{GroupId, Index};

use crate::record::{Fields, Kind, encode_membership};

/// A group's state that each segment repeats at its start, because the segment that had it first
/// will be removed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Head {
    pub(crate) hard_state: Option<HardState>,
    pub(crate) start: Option<SnapshotMeta>,
}

impl Head {
    /// The last index whose entry is no longer needed.
    pub(crate) fn released(&self) -> Index {
        self.start
            .as_ref()
            .map_or(Index::ZERO, |start| start.last.index)
    }
}

/// A segment, with the highest live index that it holds for each group.
#[derive(Debug)]
struct Held {
    sequence: u64,
    highest: BTreeMap<GroupId, Index>,
}

/// The state of all groups except their entries. The same records in the same order give the same
/// ledger, whether they are written or read back.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    heads: BTreeMap<GroupId, Head>,
    /// Oldest first. Never empty once a segment was started.
    segments: VecDeque<Held>,
    /// The group that last needed the oldest segment. It is checked first the next time.
    pin: Option<GroupId>,
}

impl Ledger {
    pub(crate) fn heads(&self) -> &BTreeMap<GroupId, Head> {
        &self.heads
    }

    /// Starts the segment that takes all records from now on.
    pub(crate) fn begin_segment(&mut self, sequence: u64) {
        self.segments.push_back(Held {
            sequence,
            highest: BTreeMap::new(),
        });
    }

    /// The number of segments.
    pub(crate) fn segments(&self) -> usize {
        self.segments.len()
    }

    pub(crate) fn put(&mut self, group: GroupId, index: Index) {
        self.heads.entry(group).or_default();
        if let Some(newest) = self.segments.back_mut() {
            let highest = newest.highest.entry(group).or_default();
            *highest = index.max(*highest);
        }
    }

    /// Marks the entries from `from` on as dead, in all segments.
    pub(crate) fn truncate(&mut self, group: GroupId, from: Index) {
        for segment in &mut self.segments {
            if let Some(highest) = segment.highest.get_mut(&group) {
                *highest = from.prev().min(*highest);
            }
        }
    }

    pub(crate) fn reset(&mut self, group: GroupId, start: SnapshotMeta) {
        self.drop_entries(group);
        self.heads.entry(group).or_default().start = Some(start);
    }

    pub(crate) fn hard_state(&mut self, group: GroupId, state: HardState) {
        self.heads.entry(group).or_default().hard_state = Some(state);
    }

    /// Moves the group's start forward. An earlier start changes nothing.
    pub(crate) fn release(&mut self, group: GroupId, start: SnapshotMeta) {
        let head = self.heads.entry(group).or_default();
        if head.start.is_none() || start.last.index >= head.released() {
            head.start = Some(start);
        }
    }

    pub(crate) fn forget(&mut self, group: GroupId) {
        self.drop_entries(group);
        self.heads.remove(&group);
    }

    /// The oldest segment that some group needs, or else the newest one.
    pub(crate) fn oldest_needed(&mut self) -> u64 {
        let mut pin = self.pin.take();
        let heads = &self.heads;
        let needed = |group: &GroupId, highest: &Index| {
            *highest > heads.get(group).map_or(Index::ZERO, Head::released)
        };
        let newest = self.segments.back().map_or(0, |held| held.sequence);
        for held in self
            .segments
            .iter()
            .take_while(|held| held.sequence < newest)
        {
            let still = pin.filter(|group| {
                held.highest
                    .get(group)
                    .is_some_and(|highest| needed(group, highest))
            });
            pin = still.or_else(|| {
                let found = held.highest.iter().find(|(group, top)| needed(group, top));
                found.map(|(group, _)| *group)
            });
            if pin.is_some() {
                self.pin = pin;
                return held.sequence;
            }
        }
        newest
    }

    /// The group for which [`Ledger::oldest_needed`] last kept the oldest segment.
    pub(crate) const fn pinned_by(&self) -> Option<GroupId> {
        self.pin
    }

    /// Removes and returns the oldest segment if it is before `horizon`.
    pub(crate) fn pop_before(&mut self, horizon: u64) -> Option<u64> {
        let held = self.segments.pop_front_if(|held| held.sequence < horizon)?;
        Some(held.sequence)
    }

    /// Records from which a reader without the older segments restores the state of all groups.
    pub(crate) fn checkpoint(&self) -> Vec<(Fields, Bytes)> {
        let mut records = Vec::with_capacity(2 * self.heads.len());
        for (group, head) in &self.heads {
            if let Some(state) = &head.hard_state {
                records.push((Fields::hard_state(*group, state), Bytes::new()));
            }
            if let Some(start) = &head.start {
                let fields = Fields::start(Kind::Release, *group, start);
                records.push((fields, encode_membership(&start.membership)));
            }
        }
        records
    }

    fn drop_entries(&mut self, group: GroupId) {
        for segment in &mut self.segments {
            segment.highest.remove(&group);
        }
    }
}

#[cfg(test)]
mod tests {
    use synod_consensus_core::Membership;
    use synod_types::{Ballot, LogPosition};

    use super::*;

    const A: GroupId = GroupId::new(1);
    const B: GroupId = GroupId::new(2);

    fn start(index: u64) -> SnapshotMeta {
        SnapshotMeta {
            last: LogPosition {
                ballot: Ballot::term(1),
                index: Index::new(index),
            },
            membership: Membership::default(),
        }
    }

    /// Segment 1 with A 1..=10 and B 1..=3, segment 2 with A 11..=20, segment 3 empty.
    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        ledger.begin_segment(1);
        (1..=10).for_each(|i| ledger.put(A, Index::new(i)));
        (1..=3).for_each(|i| ledger.put(B, Index::new(i)));
        ledger.begin_segment(2);
        (11..=20).for_each(|i| ledger.put(A, Index::new(i)));
        ledger.begin_segment(3);
        ledger
    }

    #[test]
    fn a_segment_is_needed_until_every_group_has_released_it() {
        let mut ledger = ledger();
        ledger.release(A, start(20));
        assert_eq!(ledger.oldest_needed(), 1);
        assert_eq!(ledger.pinned_by(), Some(B));
        ledger.release(B, start(2));
        assert_eq!(ledger.oldest_needed(), 1);
        ledger.release(B, start(3));
        assert_eq!(ledger.oldest_needed(), 3);
        assert_eq!(ledger.pinned_by(), None);
        assert_eq!(ledger.pop_before(3), Some(1));
        assert_eq!(ledger.pop_before(3), Some(2));
        assert_eq!(ledger.pop_before(3), None);
    }

    #[test]
    fn truncated_reset_and_forgotten_entries_need_no_segment() {
        let mut ledger = ledger();
        ledger.truncate(A, Index::new(5));
        ledger.release(A, start(4));
        ledger.forget(B);
        assert_eq!(ledger.oldest_needed(), 3);
        assert!(!ledger.heads().contains_key(&B));

        let mut ledger = self::ledger();
        ledger.reset(A, start(100));
        ledger.reset(B, start(0));
        assert_eq!(ledger.oldest_needed(), 3);
    }

    #[test]
    fn a_release_never_goes_back() {
        let mut ledger = ledger();
        ledger.release(A, start(10));
        ledger.release(A, start(5));
        assert_eq!(ledger.heads()[&A].start, Some(start(10)));
        ledger.reset(A, start(5));
        assert_eq!(ledger.heads()[&A].start, Some(start(5)));
    }
}
