//! Who hears a leader helps nobody else for as long as the leader has asked for, nor for an election
//! timeout unless that leader seems to be gone, and doesn't even take up a candidate's ballot.
//!
//! `lease-exclusivity` sees the damage, for which the candidate must win and the old leader still
//! have its lease.

use std::collections::BTreeMap;

use synod_consensus_core::{Body, Message, PaxosBody, RaftBody};
use synod_types::{Ballot, NodeId, Tick};

use super::{Check, Invariant};

pub(crate) const RULE: Invariant = Invariant {
    name: "kept-promises",
    source: "Raft thesis §4.2.3, §6.4.1: a request for a vote within the minimum election timeout of hearing from a leader is \
             neither answered nor its term taken up, unless that leader hands over",
};

/// What each node has promised.
#[derive(Default)]
pub(super) struct Kept {
    promises: BTreeMap<NodeId, Promised>,
}

#[derive(Clone, Copy, Debug)]
struct Promised {
    leader: NodeId,
    ballot: Ballot,
    /// By the node's own clock.
    until: Tick,
    loyal_until: Tick,
}

impl Kept {
    /// A leader's message reaches a node, which promises anew; unless it is in a later ballot,
    /// which shows when it is asked.
    pub(super) fn heard(
        &mut self,
        node: NodeId,
        message: &Message,
        until: Tick,
        loyal_until: Tick,
    ) {
        let promised = Promised {
            leader: message.from,
            ballot: message.ballot,
            until,
            loyal_until,
        };
        self.promises.insert(node, promised);
    }

    /// A node is told that a peer seems to be gone.
    pub(super) fn gone(&mut self, node: NodeId, now: Tick, peer: NodeId) {
        if let Some(promised) = self.promises.get_mut(&node)
            && promised.leader == peer
        {
            promised.loyal_until = now;
        }
    }

    /// A candidate's request was taken: the node was in the ballot `before`, and is in `after`.
    pub(super) fn check(
        &self,
        node: NodeId,
        now: Tick,
        (before, after): (Ballot, Ballot),
        candidate: NodeId,
    ) -> Check {
        let Some(promised) = self.promises.get(&node) else {
            return Ok(());
        };
        let until = promised.until.max(promised.loyal_until);
        if promised.ballot != before || now >= until {
            return Ok(());
        }
        RULE.ensure(after == before, || {
            format!(
                "n{node} takes up {after} for n{candidate} at {now}, having promised the leader in {before} to wait until {until}"
            )
        })
    }
}

/// Whether this is a request that a promise forbids to hear: one that no leader has asked for.
pub(crate) fn is_forbidden(message: &Message) -> bool {
    matches!(
        &message.body,
        Body::Raft(RaftBody::Vote { transfer: None, .. })
            | Body::Paxos(PaxosBody::Prepare { transfer: None, .. })
    )
}
