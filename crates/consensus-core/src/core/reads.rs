//! Heartbeats, and what depends on them: the leader's knowledge that it still leads, read indexes
//! and leases (Raft thesis §6.2, §6.4).

use synod_types::{Ballot, Index, LogPosition, NodeId, Tick};

use super::{Asked, Core, Leading, Part, Protocol};
use crate::mutants::{Mutant, is_active};
use crate::{CommonBody, ReadContext, ReadMode, ReadState, Rejected};

/// A caller that waits for a read index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Reader {
    Local(ReadContext),
    Remote { node: NodeId, token: u64 },
}

/// Reads that a heartbeat round will confirm.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ReadRound {
    round: u64,
    /// The commit index when the round began.
    index: Index,
    readers: Vec<Reader>,
}

/// The maximum number of heartbeat rounds in flight for reads. Later reads share the next round.
const MAX_READ_ROUNDS: usize = 4;

/// The maximum error from rounding both clocks to whole ticks.
const ROUNDING_TICKS: u64 = 2;

impl<P: Protocol> Core<P> {
    /// Handles a tick on the leader.
    pub(super) fn tick_leader(&mut self) {
        let now = self.now;
        let Part::Leader(leading) = &mut self.part else {
            return;
        };
        if leading.transfer.is_some_and(|t| now >= t.deadline) {
            self.abort_transfer();
        }
        let Part::Leader(leading) = &self.part else {
            return;
        };
        if now < leading.next_heartbeat {
            return;
        }
        let lost = self.has_lost_quorum(leading) && !is_active(Mutant::LeaderWithoutStepDown);
        if self.config.check_quorum && lost {
            // The others may have elected someone else by now, and this one would never hear of it.
            self.become_follower(self.ballot, None);
            return;
        }
        P::note_commit(self);
        self.broadcast_heartbeat();
    }

    fn has_lost_quorum(&self, leading: &Leading) -> bool {
        let heard_at = self.membership().quorum_value(|node| {
            if node == self.config.id {
                return self.now.get();
            }
            leading.peers.get(node).map_or(0, |p| p.heard_at.get())
        });
        self.now.since(Tick::new(heard_at)) >= self.config.election_ticks
    }

    /// Starts a heartbeat round.
    pub(super) fn broadcast_heartbeat(&mut self) {
        let Some(commit) = self.log.position_at(self.commit) else {
            return;
        };
        let Part::Leader(leading) = &mut self.part else {
            return;
        };
        leading.next_heartbeat = self.now.plus(self.config.heartbeat_ticks);
        leading.round += 1;
        leading.rounds.push_back((leading.round, self.now));
        let body = CommonBody::Heartbeat {
            round: leading.round,
            commit,
            transfers: leading.transfers,
            lease_ticks: Some(self.config.lease_ticks),
        };
        let nodes: Vec<NodeId> = leading.peers.iter().map(|(node, _)| node).collect();
        for node in nodes {
            self.send(node, body.clone());
        }
        self.confirm_rounds();
    }

    pub(super) fn on_heartbeat(
        &mut self,
        from: NodeId,
        round: u64,
        commit: LogPosition,
        asked: Asked,
    ) -> Result<(), Rejected> {
        self.heard_leader(from, asked)?;
        P::learn_commit(self, commit);
        P::note_commit(self);
        let body = CommonBody::HeartbeatReply { round };
        if self.storage.durable_vote().0 > Ballot::ZERO {
            self.send(from, body);
        } else {
            // This is the first ballot of a new group. A node that lost it in a crash would not be
            // silent after its restart, although a lease may depend on this answer.
            self.send_durable(from, body);
        }
        Ok(())
    }

    pub(super) fn on_heartbeat_reply(&mut self, from: NodeId, round: u64) -> Result<(), Rejected> {
        let now = self.now;
        let Part::Leader(leading) = &mut self.part else {
            return Ok(());
        };
        if round > leading.round {
            return Err(Rejected::InvalidMessage);
        }
        let Some(peer) = leading.peers.get_mut(from) else {
            return Ok(());
        };
        peer.heard_at = now;
        let answered = if is_active(Mutant::AnyHeartbeatConfirmsReads) {
            leading.round
        } else {
            round
        };
        peer.acked_round = peer.acked_round.max(answered);
        // The message that told it to campaign may have been lost.
        if let Some(transfer) = &mut leading.transfer
            && transfer.to == from
        {
            transfer.retell = true;
        }
        self.nudge(from, round);
        self.confirm_rounds();
        Ok(())
    }

    /// Completes the rounds that a quorum has answered. They prove that this node led when they
    /// were sent.
    fn confirm_rounds(&mut self) {
        let id = self.config.id;
        let Part::Leader(leading) = &mut self.part else {
            return;
        };
        let confirmed = self.configs.current().quorum_value(|node| {
            if node == id {
                leading.round
            } else {
                leading.peers.get(node).map_or(0, |p| p.acked_round)
            }
        });
        while let Some((round, sent_at)) = leading.rounds.front().copied()
            && round <= confirmed
        {
            leading.rounds.pop_front();
            if round > leading.lease_floor {
                let from_receipt = is_active(Mutant::LeaseFromReceipt);
                leading.confirmed_at = Some(if from_receipt { self.now } else { sent_at });
            }
        }
        let mut done = Vec::new();
        while let Some(reads) = leading.read_rounds.front()
            && reads.round <= confirmed
        {
            done.extend(leading.read_rounds.pop_front());
        }
        for ReadRound { index, readers, .. } in done {
            for reader in readers {
                self.answer(reader, Ok(index));
            }
        }
    }

    /// The time until which no other leader can have been elected, by any node's clock.
    pub(super) fn lease_end(&self) -> Option<Tick> {
        let Part::Leader(leading) = &self.part else {
            return None;
        };
        // No lease: while another node is told to campaign, since promises don't hold then; outside
        // the voters, since a sole voter that restarts may lead at once; and before an own entry is
        // committed, since this node's commit index may be old.
        if !self.config.check_quorum
            || (leading.transfer.is_some() && !is_active(Mutant::LeaseDuringTransfer))
            || !self.membership().voters.contains(&self.config.id)
            || !leading.may_read(self.commit)
        {
            return None;
        }
        if self.membership().is_sole_voter(self.config.id) {
            // Nobody can be elected without this node's vote, whatever the clocks say.
            return Some(Tick::MAX);
        }
        let percent = if is_active(Mutant::LeaseWithoutDriftBound) {
            0
        } else {
            self.config.max_clock_drift_percent
        };
        let asked = if is_active(Mutant::LeaseLongerThanAsked) {
            self.config.election_ticks
        } else {
            self.config.lease_ticks
        };
        let drift = (asked * percent).div_ceil(100);
        let term = asked.checked_sub(drift + ROUNDING_TICKS)?;
        Some(leading.confirmed_at?.plus(term))
    }

    pub(super) fn read(&mut self, ctx: ReadContext, mode: ReadMode) -> Result<(), Rejected> {
        if self.removed {
            return Err(Rejected::Removed);
        }
        if !matches!(self.part, Part::Leader(_)) {
            return self.forward_read(ctx, mode);
        }
        match mode {
            ReadMode::Lease => {
                if self.lease_end().is_none_or(|end| self.now >= end) {
                    return Err(Rejected::LeaseExpired);
                }
                let index = self.commit;
                self.out.reads.push(ReadState { ctx, index });
                Ok(())
            }
            ReadMode::Index => self.await_round(Reader::Local(ctx)),
        }
    }

    pub(super) fn on_read_index(&mut self, node: NodeId, token: u64, mode: ReadMode) {
        let reader = Reader::Remote { node, token };
        if mode == ReadMode::Lease && self.lease_end().is_some_and(|end| self.now < end) {
            self.answer(reader, Ok(self.commit));
        } else if let Err(reason) = self.await_round(reader) {
            self.answer(reader, Err(reason));
        }
    }

    fn await_round(&mut self, reader: Reader) -> Result<(), Rejected> {
        let reason = self.not_leader();
        let Part::Leader(leading) = &mut self.part else {
            return Err(reason);
        };
        let under_way: usize = leading.read_rounds.iter().map(|r| r.readers.len()).sum();
        if leading.waiting.len() + under_way >= self.config.max_pending_reads {
            return Err(Rejected::Overloaded);
        }
        leading.waiting.push(reader);
        Ok(())
    }

    /// Starts a round for the reads that arrived since the last `Ready`. The round's number
    /// identifies them on this leader: contexts may repeat, rounds don't.
    pub(super) fn start_read_round(&mut self) {
        let Part::Leader(leading) = &mut self.part else {
            return;
        };
        if leading.waiting.is_empty()
            || leading.read_rounds.len() >= MAX_READ_ROUNDS
            // Before that, entries may be committed that it does not know as committed (Raft §8).
            || !leading.may_read(self.commit)
        {
            return;
        }
        leading.read_rounds.push_back(ReadRound {
            round: leading.round + 1,
            index: self.commit,
            readers: std::mem::take(&mut leading.waiting),
        });
        self.broadcast_heartbeat();
    }

    fn answer(&mut self, reader: Reader, result: Result<Index, Rejected>) {
        match (reader, result) {
            (Reader::Local(ctx), Ok(index)) => self.out.reads.push(ReadState { ctx, index }),
            (Reader::Local(ctx), Err(reason)) => self.out.failed_reads.push((ctx, reason)),
            (Reader::Remote { node, token }, result) => {
                self.send(node, CommonBody::ReadIndexReply { token, result });
            }
        }
    }

    /// Fails the reads of a leadership that has ended.
    pub(super) fn fail_reads_of(&mut self, leading: Leading) {
        let reason = self.not_leader();
        let under_way = leading.read_rounds.into_iter().flat_map(|r| r.readers);
        for reader in under_way.chain(leading.waiting) {
            self.answer(reader, Err(reason));
        }
    }
}
