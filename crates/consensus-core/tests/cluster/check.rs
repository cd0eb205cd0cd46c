//! The invariants.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use synod_consensus_core::{
    Algorithm, AppendOutcome, Body, Entry, EntryKind, Message, PaxosBody, RaftBody, Role, Status,
    Write,
};
use synod_types::{Ballot, Index, NodeId, RequestId};

use crate::node::{Node, value};

/// Everything seen in the whole cluster, for comparison.
#[derive(Default)]
pub(crate) struct Oracle {
    leaders: BTreeMap<Ballot, NodeId>,
    /// Every entry ever written, with the ballot of the entry before it.
    written: BTreeMap<(Index, Ballot), (Ballot, RequestId, Bytes)>,
    /// Ordered by index.
    pub(crate) committed: Vec<Entry>,
    /// The highest commit index of any core so far.
    pub(crate) commit: Index,
    ids: BTreeSet<RequestId>,
    /// Requests that the cores reported as certainly not appended.
    pub(crate) refused: BTreeSet<RequestId>,
}

impl Oracle {
    /// Called after each step of a core. Returns whether it is a new leader.
    pub(crate) fn after_step(&mut self, node: &Node, status: &Status) -> bool {
        let start = status.start.index;
        assert!(start <= status.applied && status.applied <= status.commit);
        assert!(status.commit <= status.last.index && status.durable <= status.last.index);
        assert!(status.durable <= node.disk.last().index.max(node.machine.index()));
        assert!(
            status.ballot >= node.shadow.hard_state.ballot,
            "ballots grow"
        );
        assert!(
            status.commit >= node.shadow.hard_state.commit,
            "commits grow"
        );
        let commit_before = self.commit;
        self.commit = self.commit.max(status.commit);
        if status.role != Role::Leader {
            return false;
        }
        // Election safety (Raft §5.2).
        if let Some(other) = self.leaders.insert(status.ballot, node.id) {
            assert_eq!(other, node.id, "two leaders in {}", status.ballot);
            return false;
        }
        if node.algorithm == Algorithm::MultiPaxos {
            return true;
        }
        // Leader completeness (Raft §5.4.3): by log matching, the last committed entry stands for
        // all.
        assert!(
            status.last.index >= commit_before,
            "a leader lacks a committed entry"
        );
        if let Some(last) = self.committed.last() {
            assert!(
                node.shadow.holds(last),
                "{} leads without {last:?}",
                node.id
            );
        }
        true
    }

    /// While a lease runs no other node leads, regardless of the cluster's state.
    pub(crate) fn leases<'a>(nodes: impl Iterator<Item = &'a Node> + Clone, world: u64) {
        for node in nodes.clone() {
            let Some(core) = &node.core else { continue };
            if core.lease_until().is_none_or(|end| node.now(world) >= end) {
                continue;
            }
            let ballot = core.status().ballot;
            for other in nodes.clone().filter(|other| other.id != node.id) {
                let Some(core) = &other.core else { continue };
                let status = core.status();
                assert!(
                    status.role != Role::Leader || status.ballot < ballot,
                    "{} leads while the lease of {} runs",
                    other.id,
                    node.id
                );
            }
        }
    }

    /// Log matching (Raft §5.3): an entry's position determines its content and everything before
    /// it.
    pub(crate) fn on_write(&mut self, node: &Node, write: &Write, is_leader: bool) {
        let Write::Put(entry) = write else { return };
        if node.algorithm == Algorithm::MultiPaxos {
            self.on_accept(node, entry, is_leader);
            return;
        }
        let before = node.shadow.ballot_at(entry.index.prev()).unwrap();
        let now = (before, entry.id, entry.data.clone());
        let seen = self
            .written
            .insert((entry.index, entry.ballot), now.clone());
        assert!(
            seen.is_none_or(|seen| seen == now),
            "log matching at {entry:?}"
        );
        if is_leader && entry.kind == EntryKind::Config {
            let commit = node.core.as_ref().unwrap().commit();
            let open = node.shadow.entries.range(commit.next()..);
            let open = open.filter(|(_, e)| e.kind == EntryKind::Config).count();
            assert_eq!(open, 0, "two uncommitted configurations");
        }
    }

    /// A ballot has one value per slot (P2c), and nothing is proposed after a configuration that
    /// isn't chosen.
    fn on_accept(&mut self, node: &Node, entry: &Entry, is_leader: bool) {
        let now = (Ballot::ZERO, entry.id, entry.data.clone());
        let seen = self
            .written
            .insert((entry.index, entry.ballot), now.clone());
        assert!(
            seen.is_none_or(|seen| seen == now),
            "two values in one ballot: {entry:?}"
        );
        let core = node.core.as_ref().unwrap();
        if is_leader && entry.index > core.commit() {
            assert_eq!(entry.ballot, core.status().ballot, "{entry:?}");
            let open = node.shadow.entries.range(core.commit().next()..entry.index);
            let open = open.filter(|(_, e)| e.kind == EntryKind::Config);
            assert_eq!(open.count(), 0, "{entry:?} after an open configuration");
        }
    }

    /// A message that claims durability must be true for the sender's disk.
    pub(crate) fn on_send(node: &Node, message: &Message) {
        let disk = &node.disk.hard_state;
        match &message.body {
            Body::Raft(RaftBody::AppendReply {
                outcome: AppendOutcome::Matched(matched),
            }) if message.ballot >= disk.ballot => {
                assert_eq!(message.ballot, disk.ballot, "an early acknowledgement");
                let held = node.disk.last().index.max(node.disk.start.last.index);
                assert!(held >= *matched, "{matched} acknowledged, {held} durable");
            }
            Body::Raft(RaftBody::VoteReply { granted: true }) if message.ballot >= disk.ballot => {
                assert_eq!((message.ballot, Some(message.to)), (disk.ballot, disk.vote));
            }
            Body::Raft(RaftBody::Vote { last, .. }) if message.ballot >= disk.ballot => {
                assert_eq!((message.ballot, Some(node.id)), (disk.ballot, disk.vote));
                assert!(
                    node.disk.last() >= *last,
                    "a vote for a log that may be lost"
                );
            }
            Body::Paxos(PaxosBody::Promise { .. }) | Body::Paxos(PaxosBody::Prepare { .. })
                if message.ballot >= disk.ballot =>
            {
                assert_eq!(message.ballot, disk.ballot, "an early promise");
            }
            Body::Paxos(PaxosBody::Accepted { upto }) if message.ballot >= disk.ballot => {
                assert_eq!(message.ballot, disk.ballot, "an early acknowledgement");
                let chosen = node.core.as_ref().unwrap().commit();
                let start = node.disk.start.last.index;
                for index in (start.get() + 1..=upto.get()).map(Index::new) {
                    let ballot = node.disk.entries.get(&index).map(|entry| entry.ballot);
                    let durable = index <= Index::new(node.machine.durable as u64);
                    assert!(
                        ballot == Some(message.ballot)
                            || durable
                            || (index <= chosen && ballot.is_some()),
                        "{upto} acknowledged, {index} has {ballot:?}"
                    );
                }
            }
            _ => {}
        }
    }

    /// Committed entries never change, and a durable quorum has them.
    pub(crate) fn on_commit(&mut self, nodes: &BTreeMap<NodeId, Node>, at: NodeId, entry: &Entry) {
        let place = usize::try_from(entry.index.get()).unwrap() - 1;
        if let Some(known) = self.committed.get(place) {
            assert_eq!(value(known), value(entry), "a committed entry changed");
            if nodes[&at].algorithm == Algorithm::Raft {
                assert_eq!(known, entry, "a committed entry changed");
            }
            return;
        }
        assert_eq!(place, self.committed.len(), "commits without gaps");
        if entry.id != RequestId::NONE {
            assert!(self.ids.insert(entry.id), "{} applied twice", entry.id);
        }
        self.committed.push(entry.clone());
        let status = nodes[&at].core.as_ref().unwrap().status();
        if status.role == Role::Leader {
            let quorum = status.membership.is_quorum(|node| {
                let node = &nodes[&node];
                node.disk.holds(entry) || node.machine.durable as u64 >= entry.index.get()
            });
            assert!(quorum, "{entry:?} committed without a durable quorum");
        }
    }

    pub(crate) fn at_the_end(&self) {
        for id in &self.refused {
            assert!(!self.ids.contains(id), "{id} was refused and committed");
        }
    }
}
