//! A pre-vote is granted only to a candidate that would get the vote, so that no node disturbs the
//! group in vain.

use std::collections::BTreeMap;

use synod_consensus_core::{Body, CommonBody, Message};
use synod_types::{Ballot, LogPosition, NodeId};

use super::{Check, Invariant};
use crate::Algorithm;

pub(crate) const RULE: Invariant = Invariant {
    name: "pre-vote",
    source: "Raft thesis §9.6: a pre-vote is granted only to who would get the vote, by its log",
};

/// The log positions that candidates claimed.
#[derive(Default)]
pub(super) struct PreVotes {
    asked: BTreeMap<(NodeId, Ballot), LogPosition>,
}

impl PreVotes {
    /// Called when a message leaves a node whose disk holds a log up to `last`. Everything on the
    /// disk was in the log before, so it is at most as up to date as the position that the node
    /// compared.
    pub(super) fn check(
        &mut self,
        algorithm: Algorithm,
        last: LogPosition,
        message: &Message,
    ) -> Check {
        match algorithm {
            Algorithm::Raft => {}
            // Any candidate that reaches a quorum may lead, because phase 1 supplies its log.
            Algorithm::MultiPaxos => return Ok(()),
        }
        let (from, to, ballot) = (message.from, message.to, message.ballot);
        if let Body::Common(CommonBody::PreVote { last }) = &message.body {
            let known = self.asked.entry((from, ballot)).or_insert(*last);
            *known = (*known).max(*last);
        }
        if let Body::Common(CommonBody::PreVoteReply { granted: true }) = &message.body {
            let said = self.asked.get(&(to, ballot)).copied().unwrap_or(last);
            return RULE.ensure(said >= last, || {
                format!(
                    "n{from}, which has {last}, grants a pre-vote to n{to}, which has {said}, in {ballot}"
                )
            });
        }
        Ok(())
    }
}
