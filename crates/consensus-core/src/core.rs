//! The parts that all algorithms share: one member of a group in which one member leads the log.
//!
//! An algorithm is a [`Protocol`]: it defines how a leader is elected, and how entries get from it
//! to the others. Everything else is the same code: time, roles, promises and leases, reads, flow
//! control, forwarding, transfers, snapshots and membership.

mod broken;
mod election;
mod follower;
mod forward;
mod leader;
mod leading;
mod log;
mod members;
pub(crate) mod paxos;
mod peer;
mod protocol;
pub(crate) mod raft;
mod reads;
mod restore;
mod storage;
mod transfer;

use synod_types::{Ballot, Index, LogPosition, NodeId, SplitMix64, Tick};

use self::{
    election::{Asked, Gone, Promise, Votes},
    forward::{Forwarding, Seen},
    leading::Leading,
    log::Log,
    members::Configs,
    protocol::Protocol,
    storage::Storage,
};
use crate::mutants::{Mutant, is_active};
use crate::{
    Body, CommonBody, Consensus, CoreConfig, Entry, HardState, Input, Message, PaxosBody, RaftBody,
    Ready, Rejected, Role, RoleChange, Status,
};

/// One member's part in one group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Core<P: Protocol> {
    /// The state that only the algorithm needs.
    rules: P,
    config: CoreConfig,
    rng: SplitMix64,
    /// The latest time seen.
    now: Tick,
    ballot: Ballot,
    vote: Option<NodeId>,
    part: Part<P::Campaign>,
    leader: Option<NodeId>,
    log: Log,
    configs: Configs,
    storage: Storage,
    commit: Index,
    /// Committed entries up to here were handed out.
    handed: Index,
    applied: Index,
    /// The snapshot that the shell is fetching.
    installing: Option<LogPosition>,
    promise: Promise,
    /// No votes before this: after a restart, earlier promises are unknown.
    silent_until: Tick,
    election_timeout: u64,
    election_deadline: Tick,
    /// The leader whose process seems to have ended, until it or another leader is heard.
    gone: Option<Gone>,
    forwarding: Forwarding,
    seen: Seen,
    removed: bool,
    failed: bool,
    /// The role that was last reported to the shell.
    announced: RoleChange,
    /// Whether something has happened since the last `Ready` that may lead to another one.
    stirred: bool,
    out: Ready,
    /// Always empty. The buffer of the last received append, reused for committed entries.
    spare: Vec<Entry>,
}

/// The role, with the state that only it needs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Part<C> {
    Follower,
    PreCandidate(Votes),
    Candidate(C),
    Leader(Box<Leading>),
}

impl<P: Protocol> Consensus for Core<P> {
    fn step(&mut self, now: Tick, input: Input) -> Result<(), Rejected> {
        if self.failed {
            return Err(Rejected::Failed);
        }
        // Shells report completed work all the time, and usually nothing follows from it.
        let was_stirred = self.stirred || now > self.now;
        self.stirred = true;
        self.now = self.now.max(now);
        match input {
            Input::Tick => self.tick(),
            Input::Message(message) => return self.on_message(message),
            Input::Propose(proposal) => return self.propose(vec![proposal]),
            Input::ProposeMany(proposals) => return self.propose(proposals),
            Input::ChangeMembers(change) => return self.propose_change(change),
            Input::Read { ctx, mode } => return self.read(ctx, mode),
            Input::Transfer { to } => return self.transfer(to),
            Input::Campaign => return self.campaign_now(),
            Input::Persisted(seq) => {
                let commit = self.commit;
                let campaigns = matches!(self.part, Part::Candidate(_));
                self.storage.persisted(seq);
                P::own_vote_durable(self);
                if self.storage.durable() > commit {
                    self.advance_commit();
                }
                self.stirred = was_stirred || campaigns || self.commit != commit;
            }
            Input::PersistFailed(_) if is_active(Mutant::FailedWriteIndexReused) => {
                self.retract_unwritten();
            }
            Input::PersistFailed(_) => self.fail(),
            Input::Applied(index) => {
                self.applied = self.applied.max(index.min(self.handed));
                self.stirred = was_stirred;
            }
            Input::SnapshotInstalled(meta) => return self.on_installed(meta),
            Input::SnapshotFailed => self.installing = None,
            Input::SnapshotSent { to, ok } => self.on_snapshot_sent(to, ok),
            Input::Compact(index) => {
                let index = index.min(self.applied);
                self.configs.compact(index);
                self.log.compact(index);
            }
            Input::Unreachable(node) => self.on_unreachable(node),
            Input::Gone(node) => self.on_gone(node),
        }
        Ok(())
    }

    fn ready(&mut self) -> Option<Ready> {
        if !std::mem::take(&mut self.stirred) {
            return None;
        }
        self.next_ready()
    }

    fn status(&self) -> Status {
        let leading = match &self.part {
            Part::Leader(leading) => Some(leading),
            Part::Follower | Part::PreCandidate(_) | Part::Candidate(_) => None,
        };
        let peers = leading.into_iter().flat_map(|l| l.peers.iter());
        Status {
            id: self.config.id,
            role: self.role(),
            leader: self.leader,
            ballot: self.ballot,
            commit: self.commit,
            applied: self.applied,
            start: self.log.start(),
            last: self.log.last(),
            durable: self.storage.durable(),
            membership: self.configs.decided().clone(),
            membership_index: self.configs.current_index(),
            peers: peers.map(|(node, peer)| (node, peer.status())).collect(),
            lease_until: self.lease_until(),
            transferee: leading.and_then(|l| l.transfer).map(|t| t.to),
            removed: self.removed,
            failed: self.failed,
        }
    }

    fn deadline(&self) -> Tick {
        if self.failed {
            return Tick::MAX;
        }
        match &self.part {
            Part::Leader(leading) => leading
                .transfer
                .map_or(Tick::MAX, |transfer| transfer.deadline)
                .min(leading.next_heartbeat),
            Part::Follower | Part::PreCandidate(_) => {
                self.election_deadline.min(self.forwarding.deadline())
            }
            Part::Candidate(campaign) => self
                .election_deadline
                .min(self.forwarding.deadline())
                .min(P::ask_again_at(campaign)),
        }
    }

    fn commit(&self) -> Index {
        self.commit
    }

    fn lease_until(&self) -> Option<Tick> {
        self.lease_end()
    }
}

impl<P: Protocol> Core<P> {
    fn role(&self) -> Role {
        match self.part {
            Part::Follower => Role::Follower,
            Part::PreCandidate(_) => Role::PreCandidate,
            Part::Candidate(_) => Role::Candidate,
            Part::Leader(_) => Role::Leader,
        }
    }

    /// Not inlined, since most calls of [`Consensus::ready`] find that nothing has happened.
    #[inline(never)]
    fn next_ready(&mut self) -> Option<Ready> {
        if !self.failed {
            self.start_read_round();
            self.hand_over();
            self.replicate();
            self.resign();
            self.flush_forwards();
            self.collect();
        }
        if self.out.is_empty() {
            return None;
        }
        // There may be more committed entries than fit into one `Ready`.
        self.stirred = self.installing.is_none() && self.handed < P::settled(self);
        // Set only now, so that the state doesn't depend on how many calls found nothing to do.
        self.out.seq = self.storage.seq();
        Some(std::mem::take(&mut self.out))
    }

    fn tick(&mut self) {
        self.expire_reads();
        if matches!(self.part, Part::Leader(_)) {
            self.tick_leader();
        } else {
            self.tick_election();
        }
    }

    fn on_message(&mut self, message: Message) -> Result<(), Rejected> {
        let (from, ballot, body) = (message.from, message.ballot, &message.body);
        if message.to != self.config.id
            || from == self.config.id
            || !from.is_some()
            || ballot.round == u64::MAX
            || !P::admits(from, ballot, body)
        {
            return Err(Rejected::InvalidMessage);
        }
        if self.gone.is_some_and(|gone| gone.node == from)
            && !is_active(Mutant::HeardLeaderStaysGone)
        {
            self.gone = None;
        }
        // These two may carry a ballot that no node has yet.
        if let Body::Common(CommonBody::PreVote { last }) = *body {
            self.on_pre_vote(from, ballot, last);
            return Ok(());
        }
        if let Body::Common(CommonBody::PreVoteReply { granted }) = *body {
            self.on_pre_vote_reply(from, ballot, granted);
            return Ok(());
        }
        if ballot < self.ballot {
            if self.overlooks_ballot(ballot, body) {
                return self.on_current(from, message.body);
            }
            self.on_stale(from, ballot, message.body);
            return Ok(());
        }
        if let Some(handover) = P::candidacy(ballot, body)
            && self.refuses_to_vote(handover)
            && !is_active(Mutant::LeaseIgnoredByVoters)
        {
            // Ignored together with its ballot, which would depose the leader.
            return Ok(());
        }
        if ballot > self.ballot {
            if is_active(Mutant::BallotBeforeRole) {
                self.set_ballot(ballot);
            } else {
                self.become_follower(ballot, None);
            }
        }
        self.on_current(from, message.body)
    }

    /// A message of the current ballot.
    fn on_current(&mut self, from: NodeId, body: Body) -> Result<(), Rejected> {
        match body {
            Body::Common(body) => self.on_common(from, body),
            Body::Raft(_) | Body::Paxos(_) => P::on_message(self, from, body),
        }
    }

    fn on_common(&mut self, from: NodeId, body: CommonBody) -> Result<(), Rejected> {
        let ballot = self.ballot;
        match body {
            CommonBody::PreVote { .. } | CommonBody::PreVoteReply { .. } => {}
            CommonBody::Commit { commit } => {
                self.heard_leader(from, Asked::default())?;
                P::learn_commit(self, commit);
            }
            CommonBody::Heartbeat {
                round,
                commit,
                transfers,
                lease_ticks,
            } => {
                let election_ticks = self.config.election_ticks;
                let asked = Asked {
                    transfers,
                    lease_ticks: lease_ticks.or(Some(election_ticks)),
                };
                return self.on_heartbeat(from, round, commit, asked);
            }
            CommonBody::HeartbeatReply { round } => return self.on_heartbeat_reply(from, round),
            CommonBody::Snapshot { meta } => return self.on_snapshot(from, *meta),
            CommonBody::TimeoutNow { transfers } => return self.on_timeout_now(from, transfers),
            CommonBody::Forward { token, proposals } => {
                self.on_forward(from, ballot, token, proposals);
            }
            CommonBody::ForwardChange { token, change } => {
                self.on_forward_change(from, ballot, token, *change);
            }
            CommonBody::ForwardRejected { ids, reason } => self.on_forward_rejected(ids, reason),
            CommonBody::ReadIndex { token, mode } => self.on_read_index(from, token, mode),
            CommonBody::ReadIndexReply { token, result } => {
                self.on_read_index_reply(token, result);
            }
        }
        Ok(())
    }

    /// Handles a message of an earlier ballot. If it matters, the sender is told the current
    /// ballot: an old leader that is not told would keep leading until it misses its quorum.
    fn on_stale(&mut self, from: NodeId, ballot: Ballot, body: Body) {
        match body {
            Body::Common(body) => self.on_stale_common(from, ballot, body),
            Body::Raft(RaftBody::Append { .. }) => self.tell_stale_leader(from),
            Body::Raft(RaftBody::Vote { .. }) => {
                self.send(from, RaftBody::VoteReply { granted: false });
            }
            Body::Paxos(PaxosBody::Prepare { .. } | PaxosBody::Accept { .. }) => {
                self.send(from, PaxosBody::Nack);
            }
            // Answers to requests that no longer matter to this node.
            Body::Raft(_) | Body::Paxos(_) => {}
        }
    }

    fn on_stale_common(&mut self, from: NodeId, ballot: Ballot, body: CommonBody) {
        match body {
            CommonBody::Commit { .. }
            | CommonBody::Heartbeat { .. }
            | CommonBody::Snapshot { .. }
            | CommonBody::TimeoutNow { .. } => self.tell_stale_leader(from),
            CommonBody::Forward { token, proposals } => {
                self.on_forward(from, ballot, token, proposals);
            }
            CommonBody::ForwardChange { token, change } => {
                self.on_forward_change(from, ballot, token, *change);
            }
            CommonBody::ReadIndex { token, .. } => {
                let result = Err(self.not_leader());
                self.send(from, CommonBody::ReadIndexReply { token, result });
            }
            // The rejection is certain in any ballot.
            CommonBody::ForwardRejected { ids, reason } => self.on_forward_rejected(ids, reason),
            CommonBody::PreVote { .. }
            | CommonBody::PreVoteReply { .. }
            | CommonBody::HeartbeatReply { .. }
            | CommonBody::ReadIndexReply { .. } => {}
        }
    }

    fn tell_stale_leader(&mut self, leader: NodeId) {
        if !is_active(Mutant::StaleLeaderNotTold) {
            self.send(leader, CommonBody::HeartbeatReply { round: 0 });
        }
    }

    /// Fills the `Ready` with what follows from the state.
    fn collect(&mut self) {
        let hard_state = HardState {
            ballot: self.ballot,
            vote: self.vote,
            commit: self.commit,
        };
        if self.storage.has_writes(&self.log, &hard_state) {
            self.out.writes = self.storage.take_writes(&self.log, hard_state);
        }
        if !self.out.messages_after_persist.is_empty() && self.storage.is_settled() {
            // Nothing to wait for.
            let out = &mut self.out;
            out.messages.append(&mut out.messages_after_persist);
        }
        let settled = P::settled(self);
        if self.installing.is_none() && self.handed < settled {
            let from = self.handed.next();
            let end = self.log.batch_end(from, self.config.max_committed_bytes);
            let end = end.min(settled);
            self.out.committed = std::mem::take(&mut self.spare);
            self.out
                .committed
                .extend(self.log.range(from, end).cloned());
            self.handed = end;
        }
        let now = RoleChange {
            role: self.role(),
            leader: self.leader,
            ballot: self.ballot,
        };
        if now != self.announced {
            self.announced = now;
            self.out.role = Some(now);
        }
    }

    /// After a failed write the content of the disk is unknown, so the core stops sending and
    /// acting. The last `Ready` tells the shell so.
    fn fail(&mut self) {
        self.out.messages.clear();
        self.become_follower(self.ballot, None);
        self.out.messages.clear();
        self.out.messages_after_persist.clear();
        self.out.install = None;
        self.failed = true;
        self.out.role = Some(RoleChange {
            role: Role::Follower,
            leader: None,
            ballot: self.ballot,
        });
    }

    fn send(&mut self, to: NodeId, body: impl Into<Body>) {
        self.send_as(self.ballot, to, body);
    }

    fn send_as(&mut self, ballot: Ballot, to: NodeId, body: impl Into<Body>) {
        let message = self.message(ballot, to, body);
        self.out.messages.push(message);
    }

    /// Sends a message once everything decided so far is durable.
    fn send_durable(&mut self, to: NodeId, body: impl Into<Body>) {
        let message = self.message(self.ballot, to, body);
        self.out.messages_after_persist.push(message);
    }

    /// Like [`Self::send_durable`], but sends at once if the mutant `rule` is active.
    fn send_when_durable(&mut self, rule: Mutant, to: NodeId, body: impl Into<Body>) {
        if is_active(rule) {
            self.send(to, body);
        } else {
            self.send_durable(to, body);
        }
    }

    fn message(&self, ballot: Ballot, to: NodeId, body: impl Into<Body>) -> Message {
        Message {
            from: self.config.id,
            to,
            ballot,
            body: body.into(),
        }
    }
}
