//! What the log on disk holds, and what is in flight to it.
//!
//! Entries in memory are written later, in batches of which several may be in flight. A batch makes
//! its entries durable only if no later write has replaced them: each truncation lowers what the
//! batches in flight vouch for. So the completion of an old write of an entry never counts for a
//! newer write of the same index, even if ballot and index are the same again (the ABA problem of
//! asynchronous appends).

use std::collections::{BTreeSet, VecDeque};

use synod_types::{Ballot, Index, NodeId, WriteSeq};

use super::log::Log;
use crate::mutants::{Mutant, is_active};
use crate::{HardState, Write};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Storage {
    /// The first entry that no `Ready` has written.
    unwritten: Index,
    truncate: Option<Index>,
    /// Entries before `unwritten`, or after a gap, whose current version no `Ready` has written.
    rewrite: BTreeSet<Index>,
    /// The first write after the state machine has installed a snapshot.
    replace: Option<Write>,
    /// Whether a new commit index alone is worth a write.
    note_commit: bool,
    /// The hard state of the last `Ready` that had one.
    written: HardState,
    /// The sequence number of the last `Ready` with writes.
    seq: WriteSeq,
    durable_seq: WriteSeq,
    /// Entries up to here are durable.
    durable: Index,
    /// The durable vote and its ballot.
    durable_vote: (Ballot, Option<NodeId>),
    outstanding: VecDeque<Batch>,
}

/// The writes of one Ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Batch {
    seq: WriteSeq,
    /// When the batch is durable, entries up to here are durable.
    last: Index,
    vote: (Ballot, Option<NodeId>),
}

impl Storage {
    pub(super) fn new(hard_state: HardState, last: Index) -> Self {
        Self {
            unwritten: last.next(),
            truncate: None,
            rewrite: BTreeSet::new(),
            replace: None,
            note_commit: false,
            written: hard_state,
            seq: WriteSeq::ZERO,
            durable_seq: WriteSeq::ZERO,
            durable: last,
            durable_vote: (hard_state.ballot, hard_state.vote),
            outstanding: VecDeque::new(),
        }
    }

    pub(super) fn seq(&self) -> WriteSeq {
        self.seq
    }

    pub(super) fn durable(&self) -> Index {
        self.durable
    }

    pub(super) fn durable_vote(&self) -> (Ballot, Option<NodeId>) {
        self.durable_vote
    }

    /// Whether an earlier `Ready` has written the entry at `index`.
    pub(super) fn is_written(&self, index: Index) -> bool {
        index < self.unwritten
    }

    /// Whether all writes that were handed out are durable.
    pub(super) fn is_settled(&self) -> bool {
        self.durable_seq == self.seq
    }

    /// The entries from `index` on were removed from memory.
    pub(super) fn truncate_from(&mut self, index: Index) {
        if index < self.unwritten {
            self.truncate = Some(self.truncate.map_or(index, |old| old.min(index)));
            self.unwritten = index;
        }
        self.limit_claims(index.prev());
    }

    /// A snapshot, which is durable in the state machine, replaced the log up to `last`.
    pub(super) fn replace(&mut self, write: Write, last: Index) {
        if matches!(write, Write::Reset(_)) {
            self.truncate = None;
            self.unwritten = last.next();
            self.limit_claims(last);
        } else {
            self.unwritten = self.unwritten.max(last.next());
            self.rewrite = self.rewrite.split_off(&last.next());
        }
        self.durable = self.durable.max(last);
        self.replace = Some(write);
    }

    /// The entry at `index` was replaced in memory, or added after a gap.
    pub(super) fn rewrite(&mut self, index: Index) {
        self.rewrite.insert(index);
        self.limit_claims(index.prev());
    }

    /// All entries from `index` on will be replaced, in ascending order.
    pub(super) fn rewrite_from(&mut self, index: Index) {
        self.unwritten = index.min(self.unwritten);
        self.limit_claims(index.prev());
    }

    /// Requests to write the commit index soon, even if there is nothing else to write.
    pub(super) fn note_commit(&mut self) {
        self.note_commit = true;
    }

    fn limit_claims(&mut self, last: Index) {
        self.durable = self.durable.min(last);
        if is_active(Mutant::CompletionOfReplacedWrite) {
            return;
        }
        for batch in &mut self.outstanding {
            batch.last = batch.last.min(last);
        }
    }

    /// Whether there is anything to write.
    pub(super) fn has_writes(&self, log: &Log, hard_state: &HardState) -> bool {
        let vote_changed =
            (hard_state.ballot, hard_state.vote) != (self.written.ballot, self.written.vote);
        // A new commit index alone is usually not worth a write: it is determined again after a
        // restart.
        let noted = self.note_commit && hard_state.commit > self.written.commit;
        self.unwritten <= log.last().index || vote_changed || noted || self.is_rearranged()
    }

    fn is_rearranged(&self) -> bool {
        self.replace.is_some() || self.truncate.is_some() || !self.rewrite.is_empty()
    }

    /// The writes to hand out now.
    pub(super) fn take_writes(&mut self, log: &Log, mut hard_state: HardState) -> Vec<Write> {
        if is_active(Mutant::TermAndVoteApart) && hard_state.ballot > self.written.ballot {
            hard_state.vote = None;
        }
        self.note_commit = false;
        let last = log.last().index;
        let entries = log.range(self.unwritten, last);
        let mut writes = Vec::with_capacity(entries.len() + 1);
        if self.is_rearranged() {
            self.rearrange(log, &mut writes);
        }
        writes.extend(entries.cloned().map(Write::Put));
        // The hard state comes last, so that the commit index never points past the entries. A
        // crash in between leaves entries with a ballot above the hard state's, without a vote in
        // it: `Core::new` takes the entries' ballot.
        if hard_state != self.written {
            writes.push(Write::HardState(hard_state));
        }
        self.written = hard_state;
        self.unwritten = last.next();
        self.seq = self.seq.next();
        self.outstanding.push_back(Batch {
            seq: self.seq,
            last,
            vote: (hard_state.ballot, hard_state.vote),
        });
        writes
    }

    /// Writes changes of the log before the unwritten entries. Rare: another leader, a gap or a
    /// snapshot.
    #[cold]
    fn rearrange(&mut self, log: &Log, writes: &mut Vec<Write>) {
        writes.extend(self.replace.take());
        writes.extend(self.truncate.take().map(Write::TruncateFrom));
        let unwritten = self.unwritten..=log.last().index;
        let rewritten = std::mem::take(&mut self.rewrite).into_iter();
        let rewritten = rewritten.filter(|index| !unwritten.contains(index));
        let rewritten = rewritten.filter_map(|index| log.entry(index)).cloned();
        writes.extend(rewritten.map(Write::Put));
    }

    /// Everything up to and including `seq` is durable.
    pub(super) fn persisted(&mut self, seq: WriteSeq) {
        while let Some(batch) = self.outstanding.front()
            && batch.seq <= seq
        {
            self.durable = self.durable.max(batch.last);
            self.durable_vote = batch.vote;
            self.durable_seq = batch.seq;
            self.outstanding.pop_front();
        }
    }
}
