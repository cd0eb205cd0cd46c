//! Votes (Raft §5.2, §5.4.1).

use synod_types::{LogPosition, NodeId};

use super::RaftRules;
use crate::core::{Core, Part};
use crate::mutants::Mutant;
use crate::{RaftBody, TransferEpoch};

impl Core<RaftRules> {
    /// Requests votes in the next term. This node's own vote counts when it is durable, and only
    /// then do the others hear of the campaign. Otherwise it might get votes after a crash that
    /// were meant for a log it has lost.
    pub(super) fn campaign(&mut self, transfer: Option<TransferEpoch>) {
        self.draw_timeout();
        self.set_leader(None);
        self.set_ballot(self.next_ballot());
        self.vote = Some(self.config.id);
        self.part = Part::Candidate(self.no_votes());
        let last = self.log.last();
        for node in self.other_voters() {
            let body = RaftBody::Vote { last, transfer };
            self.send_when_durable(Mutant::CampaignBeforeDurable, node, body);
        }
    }

    /// Counts an answer in the current campaign, by this node's own configuration.
    fn count_vote(&mut self, from: NodeId, granted: bool) {
        let Part::Candidate(votes) = &mut self.part else {
            return;
        };
        *votes.entry(from).or_default() |= granted;
        let membership = self.configs.current();
        if membership.is_quorum(|node| votes.get(&node) == Some(&true)) {
            self.lead(self.log.last().index.next());
            self.append_noop();
            self.broadcast_heartbeat();
        } else if membership.is_blocked_by(|node| votes.get(&node) == Some(&false)) {
            self.part = Part::Follower;
            self.campaign_early();
        }
    }

    /// Counts this node's own vote if it is durable.
    pub(super) fn count_own_vote(&mut self) {
        if matches!(self.part, Part::Candidate(_))
            && self.storage.durable_vote() == (self.ballot, Some(self.config.id))
        {
            self.count_vote(self.config.id, true);
        }
    }

    /// Handles a vote request in the current term.
    pub(super) fn on_vote(&mut self, from: NodeId, last: LogPosition) {
        let free = self.vote == Some(from) || (self.vote.is_none() && self.leader.is_none());
        if free && last >= self.log.last() {
            self.vote = Some(from);
            self.election_deadline = self.now.plus(self.election_timeout);
            let body = RaftBody::VoteReply { granted: true };
            self.send_when_durable(Mutant::HelpBeforeDurable, from, body);
        } else {
            self.send(from, RaftBody::VoteReply { granted: false });
        }
    }

    pub(super) fn on_vote_reply(&mut self, from: NodeId, granted: bool) {
        self.count_vote(from, granted);
    }
}
