//! Forwarding from followers to the leader, and the answers.
//!
//! A proposal is forwarded once. If the core reports that it was dropped, no leader will ever
//! append it. Otherwise its outcome is known when (and if) its entry is applied.

use std::collections::{BTreeMap, VecDeque};

use synod_types::{Ballot, Index, NodeId, RequestId, Tick};

use super::{Core, Part, Protocol};
use crate::{
    CommonBody, Entry, EntryKind, ForwardToken, MemberChange, Proposal, ReadContext, ReadMode,
    ReadState, Rejected,
};

/// A follower's requests to its leader.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Forwarding {
    /// Not sent yet.
    proposals: Vec<Proposal>,
    unsent_index: Vec<ReadContext>,
    unsent_lease: Vec<ReadContext>,
    /// Sent, in order of their deadlines.
    asked: VecDeque<Asked>,
    /// The last token used. It starts at a random number, so that an answer to a request from
    /// before a restart never matches one after it.
    token: ForwardToken,
}

/// Reads in flight to the leader.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Asked {
    token: u64,
    contexts: Vec<ReadContext>,
    deadline: Tick,
}

/// The forwarded messages that a leader has seen, so that it accepts none twice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Seen {
    /// The ballot in which this node last led.
    led: Ballot,
    /// The highest number of each sender's session.
    numbers: BTreeMap<(NodeId, u64), u64>,
}

impl Seen {
    pub(super) fn begin(&mut self, ballot: Ballot) {
        self.led = ballot;
        self.numbers.clear();
    }

    /// Whether a message to the leader of `ballot` was certainly not seen before. Records it as
    /// seen.
    fn admit(&mut self, from: NodeId, ballot: Ballot, token: ForwardToken) -> bool {
        if ballot != self.led {
            // From before a restart or an earlier leadership: it may have been seen.
            return false;
        }
        let number = self.numbers.entry((from, token.session)).or_default();
        let is_new = token.number > *number;
        *number = token.number.max(*number);
        is_new
    }
}

impl Forwarding {
    pub(super) fn new(session: u64, first_read: u64) -> Self {
        Self {
            proposals: Vec::new(),
            unsent_index: Vec::new(),
            unsent_lease: Vec::new(),
            asked: VecDeque::new(),
            token: ForwardToken {
                session,
                // Leaves half of the range for counting.
                number: first_read >> 1,
            },
        }
    }

    fn next_token(&mut self) -> ForwardToken {
        self.token.number += 1;
        self.token
    }

    /// Whether there is nothing to send.
    fn is_flushed(&self) -> bool {
        self.proposals.is_empty() && self.unsent_index.is_empty() && self.unsent_lease.is_empty()
    }

    pub(super) fn deadline(&self) -> Tick {
        self.asked.front().map_or(Tick::MAX, |asked| asked.deadline)
    }

    fn reads(&self) -> usize {
        let asked: usize = self.asked.iter().map(|asked| asked.contexts.len()).sum();
        asked + self.unsent_index.len() + self.unsent_lease.len()
    }
}

impl<P: Protocol> Core<P> {
    pub(super) fn propose(&mut self, proposals: Vec<Proposal>) -> Result<(), Rejected> {
        if matches!(self.part, Part::Leader(_)) {
            self.admit(&proposals)?;
            for proposal in proposals {
                P::append_own(self, proposal.id, EntryKind::Normal, proposal.data, None);
            }
            return Ok(());
        }
        self.leader_to_ask()?;
        self.check_sizes(&proposals)?;
        self.forwarding.proposals.extend(proposals);
        Ok(())
    }

    pub(super) fn propose_change(&mut self, change: MemberChange) -> Result<(), Rejected> {
        if matches!(self.part, Part::Leader(_)) {
            return self.change_members(change);
        }
        let leader = self.leader_to_ask()?;
        let token = self.forwarding.next_token();
        let change = Box::new(change);
        self.send(leader, CommonBody::ForwardChange { token, change });
        Ok(())
    }

    pub(super) fn forward_read(
        &mut self,
        ctx: ReadContext,
        mode: ReadMode,
    ) -> Result<(), Rejected> {
        self.leader_to_ask()?;
        if self.forwarding.reads() >= self.config.max_pending_reads {
            return Err(Rejected::Overloaded);
        }
        match mode {
            ReadMode::Index => self.forwarding.unsent_index.push(ctx),
            ReadMode::Lease => self.forwarding.unsent_lease.push(ctx),
        }
        Ok(())
    }

    fn leader_to_ask(&self) -> Result<NodeId, Rejected> {
        if self.removed {
            return Err(Rejected::Removed);
        }
        self.leader.ok_or(Rejected::NoLeader)
    }

    /// Sends what arrived since the last `Ready`.
    pub(super) fn flush_forwards(&mut self) {
        let Some(leader) = self.leader.filter(|leader| *leader != self.config.id) else {
            return;
        };
        if self.forwarding.is_flushed() {
            return;
        }
        let mut batch = Vec::new();
        let mut bytes = 0;
        for proposal in std::mem::take(&mut self.forwarding.proposals) {
            let size = proposal.data.len() as u64 + Entry::OVERHEAD_BYTES;
            if !batch.is_empty() && bytes + size > self.config.max_append_bytes {
                self.forward(leader, std::mem::take(&mut batch));
                bytes = 0;
            }
            bytes += size;
            batch.push(proposal);
        }
        if !batch.is_empty() {
            self.forward(leader, batch);
        }
        let lease = std::mem::take(&mut self.forwarding.unsent_lease);
        self.ask(leader, ReadMode::Lease, lease);
        let index = std::mem::take(&mut self.forwarding.unsent_index);
        self.ask(leader, ReadMode::Index, index);
    }

    fn forward(&mut self, leader: NodeId, proposals: Vec<Proposal>) {
        let token = self.forwarding.next_token();
        self.send(leader, CommonBody::Forward { token, proposals });
    }

    fn ask(&mut self, leader: NodeId, mode: ReadMode, contexts: Vec<ReadContext>) {
        if contexts.is_empty() {
            return;
        }
        let token = self.forwarding.next_token().number;
        self.forwarding.asked.push_back(Asked {
            token,
            contexts,
            deadline: self.now.plus(self.config.election_ticks),
        });
        self.send(leader, CommonBody::ReadIndex { token, mode });
    }

    /// The leader has changed. Requests that were not sent to the old one go back to the shell.
    pub(super) fn drop_unsent_forwards(&mut self, leader: Option<NodeId>) {
        let reason = match leader {
            None => Rejected::NoLeader,
            Some(_) => Rejected::NotLeader { leader },
        };
        for proposal in self.forwarding.proposals.drain(..) {
            self.out.dropped.push((proposal.id, reason));
        }
        let forwarding = &mut self.forwarding;
        let asked = forwarding.asked.drain(..).flat_map(|asked| asked.contexts);
        let unsent = forwarding.unsent_lease.drain(..);
        let contexts = asked.chain(unsent).chain(forwarding.unsent_index.drain(..));
        self.out
            .failed_reads
            .extend(contexts.map(|ctx| (ctx, reason)));
    }

    /// Gives up reads that were lost in transit.
    pub(super) fn expire_reads(&mut self) {
        while let Some(asked) = self.forwarding.asked.front()
            && asked.deadline <= self.now
        {
            let failed = asked.contexts.iter().map(|ctx| (*ctx, Rejected::TimedOut));
            self.out.failed_reads.extend(failed);
            self.forwarding.asked.pop_front();
        }
    }

    pub(super) fn on_forward(
        &mut self,
        from: NodeId,
        ballot: Ballot,
        token: ForwardToken,
        proposals: Vec<Proposal>,
    ) {
        if !self.seen.admit(from, ballot, token) {
            return;
        }
        let mut refused = Vec::new();
        let mut reason = None;
        for proposal in proposals {
            // After the first rejection all are rejected, so that a client's proposals stay in
            // order.
            if reason.is_none() {
                reason = self.admit(std::slice::from_ref(&proposal)).err();
            }
            if reason.is_some() {
                refused.push(proposal.id);
            } else {
                P::append_own(
                    self,
                    proposal.id,
                    EntryKind::Normal,
                    proposal.data,
                    Some(from),
                );
            }
        }
        if let Some(reason) = reason {
            self.refuse_forward(from, refused, reason);
        }
    }

    pub(super) fn on_forward_change(
        &mut self,
        from: NodeId,
        ballot: Ballot,
        token: ForwardToken,
        change: MemberChange,
    ) {
        if !self.seen.admit(from, ballot, token) {
            return;
        }
        let id = change.id;
        if let Err(reason) = self.change_members(change) {
            self.refuse_forward(from, vec![id], reason);
        }
    }

    pub(super) fn refuse_forward(&mut self, to: NodeId, ids: Vec<RequestId>, reason: Rejected) {
        self.send(to, CommonBody::ForwardRejected { ids, reason });
    }

    pub(super) fn on_forward_rejected(&mut self, ids: Vec<RequestId>, reason: Rejected) {
        let dropped = ids.into_iter().map(|id| (id, reason));
        self.out.dropped.extend(dropped);
    }

    pub(super) fn on_read_index_reply(&mut self, token: u64, result: Result<Index, Rejected>) {
        let asked = &mut self.forwarding.asked;
        let Some(at) = asked.iter().position(|asked| asked.token == token) else {
            return;
        };
        for ctx in asked.remove(at).into_iter().flat_map(|a| a.contexts) {
            match result {
                Ok(index) => self.out.reads.push(ReadState { ctx, index }),
                Err(reason) => self.out.failed_reads.push((ctx, reason)),
            }
        }
    }
}
