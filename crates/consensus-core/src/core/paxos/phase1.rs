//! Phase 1: a candidate determines what may be chosen ("Paxos Made Simple" §2.2, §3).
//!
//! Any voter that a quorum answers can lead, since their promises supply the log entries that it
//! lacks. Values that an acceptor knows to be chosen are learned directly. For the other slots the
//! value of the highest ballot is adopted.
//!
//! A quorum of each configuration that may be in effect must promise: of the chosen one, and of
//! those that are adopted in later slots.

use std::collections::{BTreeMap, BTreeSet};

use synod_types::{Index, NodeId, Tick};

use super::{PaxosRules, synod};
use crate::core::{Core, Part, broken::is_overlooked};
use crate::mutants::{Mutant, is_active};
use crate::{
    ConfigCommand, Entry, EntryKind, Handover, Install, PaxosBody, Rejected, SnapshotMeta,
};

/// A candidate's state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Phase1 {
    /// The first slot that wasn't known to be chosen.
    from: Index,
    handover: Option<Handover>,
    reports: BTreeMap<NodeId, Report>,
    /// For each slot, the value accepted in the highest ballot that was reported.
    adopted: BTreeMap<Index, Entry>,
    ask_again_at: Tick,
}

/// What an acceptor has reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Report {
    /// The slot to ask for next; `None` once it has promised and reported everything.
    ask: Option<Index>,
    /// Slots up to here are chosen on the acceptor.
    commit: Index,
}

/// A part of a promise.
pub(super) struct Chunk {
    pub(super) slot: Index,
    pub(super) commit: Index,
    pub(super) entries: Vec<Entry>,
    pub(super) next: Option<Index>,
    pub(super) snapshot: Option<Box<SnapshotMeta>>,
}

impl Phase1 {
    pub(super) fn ask_again_at(&self) -> Tick {
        self.ask_again_at
    }

    fn has_promised(&self, node: NodeId) -> bool {
        self.reports
            .get(&node)
            .is_some_and(|report| report.ask.is_none())
    }
}

impl Core<PaxosRules> {
    /// Phase 1a. This node's own promise counts when it is durable, and only then do the others
    /// hear of the ballot. Otherwise it might use the ballot twice after a crash, with different
    /// values.
    pub(super) fn begin_phase1(&mut self, handover: Option<Handover>) {
        self.draw_timeout();
        self.set_leader(None);
        self.set_ballot(self.next_ballot());
        self.rules.resume = false;
        let from = self.commit.next();
        let accepted = self
            .log
            .from(from)
            .map(|entry| (entry.index, entry.clone()));
        self.part = Part::Candidate(Phase1 {
            from,
            handover,
            reports: BTreeMap::new(),
            adopted: accepted.collect(),
            ask_again_at: self.now.plus(self.config.heartbeat_ticks),
        });
        let voters = self.other_voters();
        self.prepare(voters.into_iter().collect());
    }

    /// Sends a prepare to those of `nodes` that have not got one.
    fn prepare(&mut self, nodes: BTreeSet<NodeId>) {
        let Part::Candidate(phase1) = &mut self.part else {
            return;
        };
        let (from, transfer) = (phase1.from, phase1.handover);
        let mut fresh = Vec::new();
        for node in nodes {
            phase1.reports.entry(node).or_insert_with(|| {
                fresh.push(node);
                Report {
                    ask: Some(from),
                    commit: Index::ZERO,
                }
            });
        }
        for node in fresh {
            let body = PaxosBody::Prepare { from, transfer };
            self.send_when_durable(Mutant::CampaignBeforeDurable, node, body);
        }
    }

    /// Repeats prepares: they or their answers may have been lost.
    pub(super) fn prepare_again(&mut self) {
        let again_at = self.now.plus(self.config.heartbeat_ticks);
        let Part::Candidate(phase1) = &mut self.part else {
            return;
        };
        if self.now < phase1.ask_again_at {
            return;
        }
        phase1.ask_again_at = again_at;
        let transfer = phase1.handover;
        let open: Vec<(NodeId, Index)> = phase1
            .reports
            .iter()
            .filter_map(|(node, report)| Some((*node, report.ask?)))
            .collect();
        for (node, from) in open {
            self.send_durable(node, PaxosBody::Prepare { from, transfer });
        }
    }

    pub(super) fn on_promise(&mut self, from: NodeId, chunk: Chunk) -> Result<(), Rejected> {
        let Part::Candidate(phase1) = &self.part else {
            // Late, so not checked: by now the acceptor may have accepted this node's proposals.
            return Ok(());
        };
        self.check_chunk(&chunk)?;
        if phase1.reports.get(&from).map(|report| report.ask) != Some(Some(chunk.slot)) {
            return Ok(());
        }
        if let Some(meta) = chunk.snapshot
            && meta.last.index > self.commit
        {
            // The acceptor has compacted entries that this node lacks: fetch its snapshot, then
            // retry.
            self.part = Part::Follower;
            if self.installing.is_none() {
                self.rules.resume = true;
                self.installing = Some(meta.last);
                self.out.install = Some(Box::new(Install { meta: *meta, from }));
            }
            return Ok(());
        }
        self.learn_chosen(chunk.commit, &chunk.entries);
        let commit = self.commit;
        self.election_deadline = self.now.plus(self.election_timeout);
        let Part::Candidate(phase1) = &mut self.part else {
            return Ok(());
        };
        phase1.adopted = phase1.adopted.split_off(&commit.next());
        for entry in chunk.entries {
            if entry.index > commit {
                let known = phase1.adopted.remove(&entry.index);
                let adopted = synod::adopt(known, entry);
                phase1.adopted.insert(adopted.index, adopted);
            }
        }
        let report = Report {
            ask: chunk.next,
            commit: chunk.commit,
        };
        phase1.reports.insert(from, report);
        let transfer = phase1.handover;
        if let Some(next) = chunk.next {
            let from_slot = next;
            self.send(
                from,
                PaxosBody::Prepare {
                    from: from_slot,
                    transfer,
                },
            );
        } else {
            self.end_phase1();
        }
        Ok(())
    }

    /// Whether a correct acceptor may send this chunk.
    fn check_chunk(&self, chunk: &Chunk) -> Result<(), Rejected> {
        let mut before = chunk.slot.prev();
        // A slot lacks a vote if it was still in flight to the acceptor when later ones arrived.
        // The gap is at most what a leader may have in flight, with room for a leader with other
        // settings.
        let config = &self.config;
        let under_way = config
            .max_inflight_bytes
            .saturating_add(config.max_append_bytes);
        let gap = 1024 + under_way / Entry::OVERHEAD_BYTES * 4;
        for entry in &chunk.entries {
            if entry.index <= before
                || entry.index.since(before.max(self.commit)) > gap
                || entry.ballot >= self.ballot
                || (entry.kind == EntryKind::Config
                    && ConfigCommand::decode(entry.data.clone()).is_err())
            {
                return Err(Rejected::InvalidMessage);
            }
            before = entry.index;
        }
        let snapshot = chunk.snapshot.as_ref();
        if chunk.next.is_some_and(|next| next <= before)
            || snapshot.is_some_and(|meta| {
                meta.membership.validate().is_err() || meta.last.ballot > self.ballot
            })
        {
            return Err(Rejected::InvalidMessage);
        }
        Ok(())
    }

    /// Adopts values that an acceptor knows to be chosen, as far as they follow this node's.
    fn learn_chosen(&mut self, commit: Index, entries: &[Entry]) {
        let mut chosen = self.commit;
        for entry in entries {
            if entry.index != chosen.next() || entry.index > commit {
                continue;
            }
            chosen = entry.index;
            let voted = self.log.entry(entry.index).map(|entry| entry.ballot);
            if entry.index == self.log.last().index.next() {
                self.log.take_after_gap(entry.index);
                self.log.push(entry.clone());
            } else if voted < Some(entry.ballot) {
                self.storage.rewrite(entry.index);
                self.log.replace(entry.clone());
            }
        }
        self.log.close_gap();
        self.set_commit(chosen);
    }

    /// Becomes the leader if a quorum of each configuration that may be in effect has promised.
    pub(super) fn end_phase1(&mut self) {
        let Part::Candidate(phase1) = &self.part else {
            return;
        };
        let id = self.config.id;
        let is_durable = self.storage.durable_vote().0 == self.ballot;
        let decided = self.configs.current().clone();
        let adopted = phase1.adopted.range(self.commit.next()..);
        let configs = adopted
            .filter(|(_, entry)| entry.kind == EntryKind::Config)
            .filter_map(|(_, entry)| ConfigCommand::decode(entry.data.clone()).ok())
            .map(|command| command.membership);
        let mut missing = BTreeSet::new();
        let mut won = true;
        for membership in std::iter::once(decided).chain(configs) {
            won &= membership.is_quorum(|node| {
                if node == id {
                    is_durable
                } else {
                    phase1.has_promised(node)
                        || (is_active(Mutant::Phase1OneShort)
                            && is_overlooked(&membership, id, node))
                }
            });
            missing.extend(membership.voters.iter().filter(|node| **node != id));
        }
        if !won {
            self.prepare(missing);
            return;
        }
        let Part::Candidate(phase1) = std::mem::replace(&mut self.part, Part::Follower) else {
            return;
        };
        let reports = phase1.reports.into_iter();
        let matched = reports.filter(|(_, report)| report.ask.is_none());
        let matched = matched
            .map(|(node, report)| (node, report.commit))
            .collect();
        self.begin_phase2(phase1.adopted, matched);
    }
}
