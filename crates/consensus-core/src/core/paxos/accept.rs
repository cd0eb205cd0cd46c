//! The acceptor ("Paxos Made Simple" §2.2, §2.5; the priest of "The Part-Time Parliament").
//!
//! Promises and acknowledgements claim durability, so they are sent after persistence.

use synod_types::{Index, NodeId};

use super::{
    PaxosRules,
    synod::{Accepted, Acceptor, Vote},
};
use crate::core::{Asked, Core};
use crate::mutants::{Mutant, is_active};
use crate::{ConfigCommand, Entry, EntryKind, PaxosBody, Rejected};

impl Vote for Entry {
    fn ballot(&self) -> synod_types::Ballot {
        self.ballot
    }
}

impl Core<PaxosRules> {
    fn acceptor(&self) -> Acceptor {
        Acceptor {
            max_bal: self.ballot,
        }
    }

    /// Phase 1b, for all slots from `slot` on at once ("Paxos Made Simple" §3).
    pub(super) fn on_prepare(&mut self, from: NodeId, slot: Index) {
        if self.acceptor().prepare(self.ballot).is_err() {
            return;
        }
        self.election_deadline = self.now.plus(self.election_timeout);
        let start = self.log.start().index;
        let mut entries = Vec::new();
        let mut bytes = 0;
        let mut next = None;
        for entry in self.log.from(slot.max(start.next())) {
            bytes += entry.size_bytes();
            if !entries.is_empty() && bytes > self.config.max_append_bytes {
                next = Some(entry.index);
                break;
            }
            entries.push(entry.clone());
        }
        let snapshot = (slot <= start).then(|| Box::new(self.snapshot_meta()));
        let body = PaxosBody::Promise {
            from: slot,
            commit: self.commit,
            entries,
            next,
            snapshot,
        };
        self.send_when_durable(Mutant::HelpBeforeDurable, from, body);
    }

    /// Phase 2b for a run of slots. Runs may arrive in any order.
    pub(super) fn on_accept(
        &mut self,
        from: NodeId,
        prev: Index,
        mut entries: Vec<Entry>,
        commit: Index,
    ) -> Result<(), Rejected> {
        self.check_run(prev, &entries)?;
        self.heard_leader(from, Asked::default())?;
        let is_question = entries.is_empty();
        for entry in entries.drain(..) {
            // A chosen value counts as accepted.
            if entry.index > self.commit && !self.accept(entry) {
                break;
            }
        }
        self.spare = entries;
        self.log.close_gap();
        let held = self.held();
        self.set_commit(commit.min(held));
        if is_question && held < prev {
            self.send(from, PaxosBody::Gap { prev, held });
        } else {
            self.acknowledge(from, held);
        }
        Ok(())
    }

    /// Whether a leader may send these entries.
    fn check_run(&self, prev: Index, entries: &[Entry]) -> Result<(), Rejected> {
        let mut before = prev;
        for entry in entries {
            if entry.index != before.next()
                || entry.index == before
                || entry.ballot != self.ballot
                || (entry.kind == EntryKind::Config
                    && ConfigCommand::decode(entry.data.clone()).is_err())
            {
                return Err(Rejected::InvalidMessage);
            }
            before = entry.index;
        }
        Ok(())
    }

    /// Accepts one value in the current ballot. Returns `false` if there is no room for it after a
    /// gap; the leader sends it again when the gap is closed.
    fn accept(&mut self, entry: Entry) -> bool {
        let last = self.log.last().index;
        if entry.index == last.next() {
            self.log.take_after_gap(entry.index);
            self.log.push(entry);
            return true;
        }
        let voted = self.log.entry(entry.index).map(Vote::ballot);
        if self.acceptor().accept(entry.ballot, voted) != Ok(Accepted::Anew) {
            return true;
        }
        if entry.index <= last {
            self.storage.rewrite(entry.index);
            self.log.replace(entry);
            return true;
        }
        if self.log.bytes_after_gap() >= self.config.max_inflight_bytes && voted.is_none() {
            return false;
        }
        self.storage.rewrite(entry.index);
        self.log.put_after_gap(entry);
        true
    }

    /// The index up to which everything is chosen or accepted in the current ballot.
    pub(super) fn held(&mut self) -> Index {
        if self.rules.held_in != self.ballot {
            self.rules.held_in = self.ballot;
            self.rules.held = self.commit;
        }
        let mut held = self.rules.held.max(self.commit);
        while let Some(ballot) = self.log.ballot_at(held.next())
            && (ballot == self.ballot || is_active(Mutant::PriorBallotByCount))
        {
            held = held.next();
        }
        self.rules.held = held;
        held
    }
}
