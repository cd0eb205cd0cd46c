//! A node that hears from a leader supports no other candidate for as long as the leader asked for,
//! nor for an election timeout unless that leader seems to be gone. It doesn't even adopt a
//! candidate's ballot, or grant it a pre-vote.
//!
//! `lease-exclusivity` only detects the consequence, which requires that the candidate wins while
//! the old leader still has its lease.

use std::collections::BTreeMap;

use synod_consensus_core::{Body, CommonBody, Message, PaxosBody, RaftBody};
use synod_types::{Ballot, NodeId, Tick};

use super::{Check, Invariant};

pub(crate) const RULE: Invariant = Invariant {
    name: "kept-promises",
    source: "Raft thesis §4.2.3, §6.4.1: a request for a vote within the minimum election timeout of hearing from a leader is \
             neither answered nor its term adopted, unless that leader transfers leadership",
};

/// What each node has promised.
#[derive(Default)]
pub(super) struct Kept {
    promises: BTreeMap<NodeId, Promised>,
    /// When a node was last asked for a pre-vote by another, and whether it was free to give it.
    asked: BTreeMap<(NodeId, NodeId), (Tick, bool)>,
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

    /// A node in this ballot is asked for a pre-vote.
    pub(super) fn asked(&mut self, node: NodeId, now: Tick, ballot: Ballot, message: &Message) {
        let is_bound = self.promises.get(&node).is_some_and(|promised| {
            promised.ballot == ballot && now < promised.until.max(promised.loyal_until)
        });
        let asked = self.asked.entry((node, message.from)).or_default();
        // In one turn it may have been free first, and then have heard a leader.
        let was_free = asked.0 == now && asked.1;
        *asked = (now, !is_bound || was_free);
    }

    /// When a message leaves its node, in the turn in which that was asked.
    pub(super) fn check_pre_vote(&self, now: Tick, message: &Message) -> Check {
        let Body::Common(CommonBody::PreVoteReply { granted: true }) = &message.body else {
            return Ok(());
        };
        let (node, candidate) = (message.from, message.to);
        let asked = self.asked.get(&(node, candidate));
        let is_free = asked.is_none_or(|(at, is_free)| *at != now || *is_free);
        RULE.ensure(is_free, || {
            let promised = self.promises.get(&node);
            format!("n{node} encourages n{candidate} at {now}, having promised {promised:?}")
        })
    }

    /// A candidate's request was accepted. The node was in the ballot `before` and is now in
    /// `after`.
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
                "n{node} adopts {after} for n{candidate} at {now}, although it promised the leader in {before} to wait until {until}"
            )
        })
    }
}

/// Whether a promise forbids a node to accept this request. It doesn't if a leader requested the
/// campaign.
pub(crate) fn is_forbidden(message: &Message) -> bool {
    matches!(
        &message.body,
        Body::Raft(RaftBody::Vote { transfer: None, .. })
            | Body::Paxos(PaxosBody::Prepare { transfer: None, .. })
    )
}
