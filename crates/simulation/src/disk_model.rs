//! A model of a log, built from its writes. The real log must equal it.

use std::collections::BTreeMap;

use synod_consensus_core::{Algorithm, Entry, HardState, SnapshotMeta, Write};
use synod_log::GroupState;
use synod_types::{Ballot, Index, LogPosition};

/// The content of one group's log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DurableLog {
    pub(crate) hard_state: HardState,
    pub(crate) start: SnapshotMeta,
    pub(crate) entries: BTreeMap<Index, Entry>,
    /// The state machine durably has everything up to this index, because a snapshot was installed.
    pub(crate) installed: Index,
}

impl DurableLog {
    /// The content that a real log recovered.
    pub(crate) fn recovered(state: &GroupState, installed: Index) -> Self {
        Self {
            hard_state: state.hard_state.unwrap_or_default(),
            start: state.start.clone().unwrap_or_default(),
            entries: state
                .entries
                .iter()
                .map(|entry| (entry.index, entry.clone()))
                .collect(),
            installed,
        }
    }

    pub(crate) fn write(&mut self, write: &Write) {
        match write {
            Write::Put(entry) => {
                if entry.index > self.start.last.index {
                    self.entries.insert(entry.index, entry.clone());
                }
            }
            Write::TruncateFrom(index) => {
                self.entries.split_off(index);
            }
            Write::Reset(meta) => {
                self.entries.clear();
                self.start = meta.clone();
            }
            Write::Advance(meta) => self.release(meta),
            Write::HardState(hard_state) => self.hard_state = *hard_state,
        }
    }

    /// Releases entries up to this position, unless they were released already.
    pub(crate) fn release(&mut self, meta: &SnapshotMeta) {
        if meta.last.index >= self.start.last.index {
            self.entries = self.entries.split_off(&meta.last.index.next());
            self.start = meta.clone();
        }
    }

    pub(crate) fn last(&self) -> LogPosition {
        let last = self.entries.values().next_back();
        last.map_or(self.start.last, Entry::position)
    }

    pub(crate) fn ballot_at(&self, index: Index) -> Option<Ballot> {
        if index == self.start.last.index {
            return Some(self.start.last.ballot);
        }
        self.entries.get(&index).map(|entry| entry.ballot)
    }

    /// Whether the entry's value is here, or in a snapshot that replaced it.
    pub(crate) fn holds(&self, algorithm: Algorithm, entry: &Entry) -> bool {
        let own = self.entries.get(&entry.index);
        entry.index <= self.start.last.index
            || entry.index <= self.installed
            || own.is_some_and(|own| same_entry(algorithm, own, entry))
    }
}

/// Whether two entries are the same. In Raft this includes the term. In Paxos a value may be chosen
/// again under a higher ballot.
pub(crate) fn same_entry(algorithm: Algorithm, one: &Entry, other: &Entry) -> bool {
    let same_ballot = match algorithm {
        Algorithm::Raft => one.ballot == other.ballot,
        Algorithm::MultiPaxos => true,
    };
    same_ballot
        && one.index == other.index
        && one.id == other.id
        && one.kind == other.kind
        && one.data == other.data
}
