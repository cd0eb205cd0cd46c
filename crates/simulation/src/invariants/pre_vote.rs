//! A pre-vote says what a vote would say: nobody is encouraged to disturb the group for nothing.

use std::collections::BTreeMap;

use synod_consensus_core::{Body, CommonBody, Message};
use synod_types::{Ballot, LogPosition, NodeId};

use super::{Check, Invariant};
use crate::Algorithm;

pub(crate) const RULE: Invariant = Invariant {
    name: "pre-vote",
    source: "Raft thesis §9.6: a pre-vote is granted only to who would get the vote, by its log",
};

/// What candidates said of their logs.
#[derive(Default)]
pub(super) struct PreVotes {
    asked: BTreeMap<(NodeId, Ballot), LogPosition>,
}

impl PreVotes {
    /// When a message leaves a node whose disk holds a log up to `last`. What is on the disk was in
    /// the log before, so it is no more up to date than what the node compared with.
    pub(super) fn check(
        &mut self,
        algorithm: Algorithm,
        last: LogPosition,
        message: &Message,
    ) -> Check {
        match algorithm {
            Algorithm::Raft => {}
            // Whoever a quorum reaches may lead: phase 1 brings it the log.
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
                    "n{from}, which has {last}, encourages n{to}, which has {said}, in {ballot}"
                )
            });
        }
        Ok(())
    }
}
