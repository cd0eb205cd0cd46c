//! Who hears a leader helps nobody else for an election timeout, and doesn't even take up a
//! candidate's ballot.
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

/// Up to when, by its own clock, a node has promised its abstention, and to the leader of which
/// ballot.
#[derive(Default)]
pub(super) struct Kept {
    promises: BTreeMap<NodeId, (Ballot, Tick)>,
}

impl Kept {
    /// A leader's message reaches a node, which promises anew; unless it is in a later ballot,
    /// which shows when it is asked.
    pub(super) fn heard(&mut self, node: NodeId, message: &Message, until: Tick) {
        self.promises.insert(node, (message.ballot, until));
    }

    /// A candidate's request was taken: the node was in the ballot `before`, and is in `after`.
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
