//! A leader only counts acknowledgements of its own ballot.

use std::collections::BTreeMap;

use synod_consensus_core::{AppendOutcome, Body, Message, PaxosBody, RaftBody, Role, Status};
use synod_types::{Ballot, Index, NodeId};

use super::{Check, Invariant};

pub(crate) const RULE: Invariant = Invariant {
    name: "own-acks",
    source: "Raft Figure 2: nextIndex and matchIndex are reinitialized after election, replies of earlier terms are \
             void; Paxos Made Simple §2.2: a proposal is chosen by those who accept that very proposal",
};

/// What peers acknowledged to a node in the latest ballot in which any did.
#[derive(Clone, Debug, Default)]
pub(super) struct Acks {
    ballot: Ballot,
    upto: BTreeMap<NodeId, Index>,
}

impl Acks {
    /// A message reaches a node.
    pub(super) fn received(&mut self, message: &Message) {
        let upto = match &message.body {
            Body::Raft(RaftBody::AppendReply {
                outcome: AppendOutcome::Matched(upto),
            })
            | Body::Paxos(PaxosBody::Accepted { upto }) => *upto,
            // What an acceptor knows to be chosen needs no other acknowledgement.
            Body::Paxos(PaxosBody::Promise { commit, .. }) => *commit,
            Body::Common(_) | Body::Raft(_) | Body::Paxos(_) => return,
        };
        if message.ballot > self.ballot {
            self.ballot = message.ballot;
            self.upto.clear();
        }
        if message.ballot == self.ballot {
            let known = self.upto.entry(message.from).or_default();
            *known = upto.max(*known);
        }
    }

    /// Called after a leader's turn.
    pub(super) fn check(&self, node: NodeId, status: &Status) -> Check {
        if status.role != Role::Leader {
            return Ok(());
        }
        for (peer, progress) in &status.peers {
            let known = self.upto.get(peer).filter(|_| self.ballot == status.ballot);
            let upto = known.copied().unwrap_or_default();
            let (ballot, matched) = (status.ballot, progress.matched);
            RULE.ensure(matched <= upto, || {
                format!("n{node} leads in {ballot} and counts n{peer} up to {matched}, which has acknowledged {upto} there")
            })?;
        }
        Ok(())
    }
}
