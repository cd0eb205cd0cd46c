//! Rebuilds the groups from their records.

use std::collections::BTreeMap;

use synod_consensus_core::{Entry, HardState, SnapshotMeta};
use synod_types::{GroupId, Index};

use crate::{ledger::Ledger, record::Record};

/// The content of a log when it is opened.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recovered {
    /// All groups in the log.
    pub groups: BTreeMap<GroupId, GroupState>,
    /// Whether the log is new: the directory was empty or missing.
    pub created: bool,
    /// Where an interrupted write was truncated.
    pub torn: Option<TornTail>,
}

/// The log's content for one group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupState {
    /// The last hard state written.
    pub hard_state: Option<HardState>,
    /// The position before the first entry and the membership there. `None` if no reset, release or
    /// bootstrap was written.
    pub start: Option<SnapshotMeta>,
    /// The entries after `start`, in ascending index order. Gaps are possible if the algorithm
    /// leaves them.
    pub entries: Vec<Entry>,
}

/// An interrupted write at the end of the log. It was never reported as durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The segment's file name.
    pub file: String,
    /// The offset where the complete records end.
    pub offset: u64,
}

/// Applies records in the order in which they were written.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    pub(crate) ledger: Ledger,
    entries: BTreeMap<GroupId, Vec<Entry>>,
    /// Segments before this one are not needed; zero if no record says so.
    pub(crate) horizon: u64,
}

impl Replay {
    pub(crate) fn apply(&mut self, record: Record) {
        match record {
            Record::Put(group, entry) => self.put(group, entry),
            Record::Truncate(group, from) => {
                self.ledger.truncate(group, from);
                if let Some(entries) = self.entries.get_mut(&group) {
                    entries.truncate(entries.partition_point(|entry| entry.index < from));
                }
            }
            Record::Reset(group, start) => {
                self.ledger.reset(group, start);
                self.entries.remove(&group);
            }
            Record::HardState(group, state) => self.ledger.hard_state(group, state),
            Record::Release(group, start) => {
                self.ledger.release(group, start);
                let released = self.released(group);
                if let Some(entries) = self.entries.get_mut(&group) {
                    entries.drain(..entries.partition_point(|entry| entry.index <= released));
                }
            }
            Record::Forget(group) => {
                self.ledger.forget(group);
                self.entries.remove(&group);
            }
            Record::Horizon(oldest) => self.horizon = self.horizon.max(oldest),
            Record::Seal | Record::Mark => {}
        }
    }

    /// Returns the groups, and the ledger to continue with.
    pub(crate) fn finish(mut self) -> (BTreeMap<GroupId, GroupState>, Ledger) {
        let groups = self.ledger.heads().iter().map(|(group, head)| {
            let state = GroupState {
                hard_state: head.hard_state,
                start: head.start.clone(),
                entries: self.entries.remove(group).unwrap_or_default(),
            };
            (*group, state)
        });
        // A group whose only writes were truncated has left nothing.
        let groups = groups.filter(|(_, state)| *state != GroupState::default());
        (groups.collect(), self.ledger)
    }

    fn released(&self, group: GroupId) -> Index {
        let head = self.ledger.heads().get(&group);
        head.map_or(Index::ZERO, |head| head.released())
    }

    fn put(&mut self, group: GroupId, entry: Entry) {
        self.ledger.put(group, entry.index);
        if entry.index <= self.released(group) {
            return;
        }
        let entries = self.entries.entry(group).or_default();
        // Raft writes in order. Paxos accepts out of order and overwrites.
        if entries.last().is_none_or(|last| last.index < entry.index) {
            entries.push(entry);
            return;
        }
        match entries.binary_search_by_key(&entry.index, |present| present.index) {
            Ok(at) => entries[at] = entry,
            Err(at) => entries.insert(at, entry),
        }
    }
}
