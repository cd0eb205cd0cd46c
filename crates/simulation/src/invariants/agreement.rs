//! All nodes commit the same entry at an index, forever.

use synod_consensus_core::Entry;
use synod_types::{Ballot, Index, LogPosition, NodeId};

use super::model::Model;
use super::{Check, Invariant};
use crate::Algorithm;
use crate::command::{Applied, Key, Value};
use crate::disk_model::same_entry;
use crate::machine::digest_after;

pub(crate) const RULE: Invariant = Invariant {
    name: "agreement",
    source: "Raft Figure 3, state machine safety; Paxos Made Simple §2.1: only a single value is chosen",
};

/// Everything ever committed, with the state that results from it.
pub(crate) struct Agreement {
    base: LogPosition,
    entries: Vec<Entry>,
    /// The ballot of the node that handed out each entry first.
    decided_in: Vec<Ballot>,
    model: Model,
    applied: Vec<Applied>,
    digests: Vec<u64>,
}

impl Agreement {
    pub(super) fn new(base: LogPosition) -> Self {
        Self {
            base,
            entries: Vec::new(),
            decided_in: Vec::new(),
            model: Model::default(),
            applied: Vec::new(),
            digests: Vec::new(),
        }
    }

    /// The highest committed index.
    pub(crate) fn last(&self) -> Index {
        self.base.index.plus(self.entries.len() as u64)
    }

    /// The last entry that was committed in a ballot before this one.
    pub(super) fn last_before(&self, ballot: Ballot) -> Option<&Entry> {
        // Leaders of earlier ballots may still commit while a later one leads, so these are not in
        // order.
        let place = self
            .decided_in
            .iter()
            .rposition(|decided| *decided < ballot);
        self.entries.get(place?)
    }

    pub(crate) fn entry(&self, index: Index) -> Option<&Entry> {
        self.entries.get(self.place(index)?)
    }

    /// The expected output of applying this entry.
    pub(crate) fn outcome(&self, index: Index) -> Option<Applied> {
        self.applied.get(self.place(index)?).copied()
    }

    /// The expected digest of a state machine that has applied this index.
    pub(crate) fn digest(&self, index: Index) -> Option<u64> {
        if index == self.base.index {
            return Some(0);
        }
        self.digests.get(self.place(index)?).copied()
    }

    /// A key's value after this index is applied.
    pub(crate) fn value_at(&self, index: Index, key: Key) -> Option<Value> {
        self.model.value_at(index, key)
    }

    fn place(&self, index: Index) -> Option<usize> {
        let from_base = index.get().checked_sub(self.base.index.get() + 1)?;
        usize::try_from(from_base).ok()
    }

    /// Checks an entry that a node hands out in `ballot`. Returns whether it is the first node to
    /// do so.
    pub(super) fn check(
        &mut self,
        algorithm: Algorithm,
        node: NodeId,
        ballot: Ballot,
        entry: &Entry,
    ) -> Check<bool> {
        if let Some(known) = self.entry(entry.index) {
            let same = same_entry(algorithm, known, entry);
            RULE.ensure(same, || {
                format!("n{node} hands out {entry:?}, but {known:?} is committed")
            })?;
            return Ok(false);
        }
        RULE.ensure(entry.index == self.last().next(), || {
            format!("n{node} hands out {entry:?} after {}", self.last())
        })?;
        let applied = self.model.apply(entry);
        let before = self.digests.last().copied().unwrap_or(0);
        self.digests.push(digest_after(before, entry, applied));
        self.applied.push(applied);
        self.entries.push(entry.clone());
        self.decided_in.push(ballot);
        Ok(true)
    }
}
