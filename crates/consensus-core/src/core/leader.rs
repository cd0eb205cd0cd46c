//! The parts of a leader that all algorithms share: what to send to whom, and what is committed
//! (Raft §5.3; thesis §10.2.1 for the parallel disk write).

use synod_types::{Ballot, Index, LogPosition, NodeId, Tick};

use super::{Core, Leading, Part, Protocol, log::Log, members::Configs, peer::Peer};
use crate::{
    Body, CommonBody, CoreConfig, Entry, Message, PeerMode, Proposal, Rejected, SnapshotMeta,
};

impl<P: Protocol> Core<P> {
    /// The leader's state, if this node leads and accepts proposals.
    pub(super) fn accepting_leader(&self) -> Result<&Leading, Rejected> {
        if self.removed {
            return Err(Rejected::Removed);
        }
        let Part::Leader(leading) = &self.part else {
            return Err(self.not_leader());
        };
        let stays = self.membership().is_voter(self.config.id);
        if leading.transfer.is_some() || leading.resigning || !stays {
            return Err(Rejected::Transferring);
        }
        Ok(leading)
    }

    pub(super) fn not_leader(&self) -> Rejected {
        match self.leader {
            None => Rejected::NoLeader,
            leader @ Some(_) => Rejected::NotLeader { leader },
        }
    }

    /// Whether the leader can accept these proposals.
    pub(super) fn admit(&self, proposals: &[Proposal]) -> Result<(), Rejected> {
        self.accepting_leader()?;
        self.check_sizes(proposals)?;
        let uncommitted =
            self.log.bytes_between(self.commit, self.log.last().index) + P::queued_bytes(self);
        let bytes: u64 = proposals
            .iter()
            .map(|p| p.data.len() as u64 + Entry::OVERHEAD_BYTES)
            .sum();
        if uncommitted > 0 && uncommitted.saturating_add(bytes) > self.config.max_uncommitted_bytes
        {
            return Err(Rejected::Overloaded);
        }
        Ok(())
    }

    pub(super) fn check_sizes(&self, proposals: &[Proposal]) -> Result<(), Rejected> {
        let max = self.config.max_entry_bytes;
        if proposals.iter().any(|p| p.data.len() as u64 > max) {
            return Err(Rejected::TooLarge);
        }
        Ok(())
    }

    /// Sends what the peers can accept now. Called once per `Ready`, so that many proposals become
    /// one append, which carries the commit index too.
    pub(super) fn replicate(&mut self) {
        let Part::Leader(leading) = &mut self.part else {
            return;
        };
        let source = Source::<P> {
            rules: std::marker::PhantomData,
            config: &self.config,
            log: &self.log,
            configs: &self.configs,
            ballot: self.ballot,
            commit: self.commit,
            applied: self.applied,
            now: self.now,
            round: leading.round,
        };
        let mut some_removed = false;
        for (node, peer) in leading.peers.iter_mut() {
            source.feed(node, peer, &mut self.out.messages);
            some_removed |= peer.removed_at.is_some();
        }
        if some_removed {
            self.forget_removed_peers();
        }
    }

    /// A peer durably holds everything up to `matched`.
    pub(super) fn on_matched(&mut self, from: NodeId, matched: Index) {
        let now = self.now;
        let Part::Leader(leading) = &mut self.part else {
            return;
        };
        let Some(peer) = leading.peers.get_mut(from) else {
            return;
        };
        peer.heard_at = now;
        let news = peer.acknowledge(matched);
        match peer.mode {
            PeerMode::Probe => peer.replicate(),
            PeerMode::Snapshot if peer.matched >= self.log.start().index => peer.replicate(),
            PeerMode::Snapshot | PeerMode::Replicate => {}
        }
        // A peer that is not past the commit index can't advance it.
        if news && matched > self.commit {
            self.advance_commit();
        }
    }

    /// A peer lacks an entry at or before `at`; it may have everything up to `agreed`.
    pub(super) fn on_lacking(&mut self, from: NodeId, at: Index, agreed: Index) {
        let now = self.now;
        let Part::Leader(leading) = &mut self.part else {
            return;
        };
        let Some(peer) = leading.peers.get_mut(from) else {
            return;
        };
        peer.heard_at = now;
        match peer.mode {
            // An answer to an earlier probe or append has no new information.
            PeerMode::Probe if at != peer.next.prev() => {}
            PeerMode::Replicate if at <= peer.matched => {}
            PeerMode::Snapshot => {}
            PeerMode::Probe | PeerMode::Replicate => {
                peer.probe_from(agreed.min(at.prev()).next());
            }
        }
    }

    /// Commits what a quorum holds durably, if the algorithm allows it.
    pub(super) fn advance_commit(&mut self) {
        let Part::Leader(leading) = &self.part else {
            return;
        };
        let (id, durable) = (self.config.id, self.storage.durable());
        let quorum = Index::new(self.configs.current().quorum_value(|node| {
            if node == id {
                durable.get()
            } else {
                leading.peers.get(node).map_or(0, |p| p.matched.get())
            }
        }));
        if quorum > self.commit && P::may_commit(self, quorum) {
            self.set_commit(quorum);
        }
    }

    pub(super) fn snapshot_meta(&self) -> SnapshotMeta {
        snapshot_meta(&self.log, &self.configs, self.applied)
    }

    pub(super) fn on_unreachable(&mut self, node: NodeId) {
        if let Part::Leader(leading) = &mut self.part
            && let Some(peer) = leading.peers.get_mut(node)
            && peer.mode != PeerMode::Snapshot
        {
            peer.probe_from(peer.matched.next());
        }
    }

    pub(super) fn on_snapshot_sent(&mut self, to: NodeId, ok: bool) {
        let patience = if ok { self.config.election_ticks } else { 0 };
        if let Part::Leader(leading) = &mut self.part
            && let Some(peer) = leading.peers.get_mut(to)
        {
            peer.offer_at = self.now.plus(patience);
        }
    }

    /// Handles an answer to a heartbeat: a good time to detect lost messages.
    pub(super) fn nudge(&mut self, node: NodeId, round: u64) {
        let Part::Leader(leading) = &mut self.part else {
            return;
        };
        let Some(peer) = leading.peers.get_mut(node) else {
            return;
        };
        // A heartbeat sent after the probe was answered, but the probe wasn't.
        peer.probing = peer.probing.filter(|sent_after| round <= *sent_after);
        let stalled = peer.matched == peer.matched_at_heartbeat;
        peer.matched_at_heartbeat = peer.matched;
        let sent = peer.next.prev();
        if peer.mode != PeerMode::Replicate || !stalled || peer.matched >= sent {
            return;
        }
        let Some(prev) = self.log.position_at(sent) else {
            // The entries were compacted while in flight. If the peer didn't receive them, it needs
            // a snapshot.
            peer.probe_from(peer.matched.next());
            return;
        };
        // It is rejected at once if an earlier append was lost, and acknowledged otherwise.
        let body = P::append(self.ballot, prev, std::iter::empty(), self.commit);
        self.send(node, body);
    }
}

/// The minimum content of a snapshot of this node.
fn snapshot_meta(log: &Log, configs: &Configs, applied: Index) -> SnapshotMeta {
    SnapshotMeta {
        last: log.position_at(applied).unwrap_or_else(|| log.start()),
        membership: configs.at(applied).clone(),
    }
}

/// What a leader needs to send messages.
struct Source<'a, P> {
    rules: std::marker::PhantomData<P>,
    config: &'a CoreConfig,
    log: &'a Log,
    configs: &'a Configs,
    ballot: Ballot,
    commit: Index,
    applied: Index,
    now: Tick,
    /// The last heartbeat round.
    round: u64,
}

impl<P: Protocol> Source<'_, P> {
    /// Sends a peer everything that it can accept.
    fn feed(&self, node: NodeId, peer: &mut Peer, out: &mut Vec<Message>) {
        loop {
            let wants = match peer.mode {
                PeerMode::Probe => peer.probing.is_none(),
                PeerMode::Replicate => {
                    peer.next <= self.log.last().index && peer.has_window(self.config)
                }
                PeerMode::Snapshot => self.now >= peer.offer_at,
            };
            let joins = self.joins(node, peer);
            if !wants || (joins && self.applied == Index::ZERO) {
                break;
            }
            let body = match self.log.position_at(peer.next.prev()) {
                Some(prev) if peer.mode != PeerMode::Snapshot && !joins => self.append(prev, peer),
                Some(_) | None => self.offer(peer),
            };
            out.push(self.message(node, body));
        }
        // Eagerly, because otherwise followers would apply entries (and answer their clients) one
        // heartbeat later.
        if peer.mode == PeerMode::Replicate
            && peer.told_commit < self.commit
            && peer.next > self.commit
            && let Some(commit) = self.log.position_at(self.commit)
        {
            peer.told_commit = self.commit;
            out.push(self.message(node, CommonBody::Commit { commit }));
        }
    }

    /// Whether the peer starts with nothing and must not start with the log.
    fn joins(&self, node: NodeId, peer: &Peer) -> bool {
        P::JOINS_BY_SNAPSHOT
            && peer.next == Index::new(1)
            && !self.configs.at(self.log.start().index).contains(node)
    }

    fn append(&self, prev: LogPosition, peer: &mut Peer) -> Body {
        let last = self.log.last().index;
        let end = self
            .log
            .batch_end(peer.next, self.config.max_append_bytes)
            .min(last);
        let entries = self.log.range(peer.next, end);
        if peer.mode == PeerMode::Probe {
            peer.probing = Some(self.round);
        } else {
            peer.sent(end, self.log.bytes_between(prev.index, end));
        }
        if self.commit <= end {
            peer.told_commit = peer.told_commit.max(self.commit);
        }
        P::append(self.ballot, prev, entries, self.commit)
    }

    /// The peer needs compacted entries, so it has to fetch the state as applied here.
    #[cold]
    fn offer(&self, peer: &mut Peer) -> Body {
        peer.await_snapshot(self.now.plus(self.config.election_ticks));
        let meta = snapshot_meta(self.log, self.configs, self.applied);
        Body::Common(CommonBody::Snapshot {
            meta: Box::new(meta),
        })
    }

    fn message(&self, to: NodeId, body: impl Into<Body>) -> Message {
        Message {
            from: self.config.id,
            to,
            ballot: self.ballot,
            body: body.into(),
        }
    }
}
