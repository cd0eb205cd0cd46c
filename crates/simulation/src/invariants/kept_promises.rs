//! A node that hears from a leader supports no other candidate for an election timeout, and doesn't
//! even adopt a candidate's ballot.
//!
//! `lease-exclusivity` only detects the consequence, which requires that the candidate wins while
//! the old leader still has its lease.

use std::collections::BTreeMap;

use synod_consensus_core::{Body, Message, PaxosBody, RaftBody};
use synod_types::{Ballot, NodeId, Tick};

use super::{Check, Invariant};

pub(crate) const RULE: Invariant = Invariant {
    name: "kept-promises",
    source: "Raft thesis §4.2.3, §6.4.1: a request for a vote within the minimum election timeout of hearing from a leader is \
             neither answered nor its term adopted, unless that leader transfers leadership",
};

/// How long, by its own clock, a node has promised to abstain, and the ballot of the leader that it
/// promised to.
#[derive(Default)]
pub(super) struct Kept {
    promises: BTreeMap<NodeId, (Ballot, Tick)>,
}

impl Kept {
    /// A leader's message reaches a node, which renews its promise. If the node is already in a
    /// later ballot it doesn't; that shows when it receives a request.
    pub(super) fn heard(&mut self, node: NodeId, message: &Message, until: Tick) {
        self.promises.insert(node, (message.ballot, until));
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
        let promise = self.promises.get(&node);
        let Some((_, until)) = promise.filter(|(ballot, until)| *ballot == before && now < *until)
        else {
            return Ok(());
        };
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
