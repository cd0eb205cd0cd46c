//! The parts of an election that all algorithms share: timeouts, pre-votes, and the promise not to
//! help another candidate (Raft thesis §4.2.3, §6.4.1, §9.6).

use std::collections::BTreeMap;

use synod_types::{Ballot, Index, LogPosition, NodeId, RequestId, Tick};

use super::{Core, Leading, Part, Protocol};
use crate::mutants::{Mutant, is_active};
use crate::{CommonBody, CoreConfig, EntryKind, Handover, Priority, Rejected, TransferEpoch};

/// Answers to a campaign.
pub(super) type Votes = BTreeMap<NodeId, bool>;

/// A follower's promise to its leader: it helps no other candidate for as long as the leader has
/// asked. The leader's lease depends on it, so it holds whatever happens to the ballot meanwhile.
/// Then the node stays loyal for the rest of an election timeout, so that no candidate disturbs a
/// leader that works. Only the loyalty ends early if the leader seems to be gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Promise {
    /// When the promise ends.
    pub(super) until: Tick,
    /// When the loyalty ends.
    pub(super) loyal_until: Tick,
    /// The leader's ballot.
    pub(super) ballot: Ballot,
    /// The highest number of given-up transfers that the leader has announced.
    pub(super) transfers: TransferEpoch,
    /// How long a promise the leader has asked for.
    pub(super) lease_ticks: u64,
}

/// The promise that a leader's message asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Asked {
    pub(super) transfers: TransferEpoch,
    /// `None` if the message doesn't say.
    pub(super) lease_ticks: Option<u64>,
}

/// A leader whose process seems to have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Gone {
    pub(super) node: NodeId,
    /// The delay of the next early campaign is drawn from this many ticks.
    spread: u64,
}

/// The first early delay is drawn from an election timeout divided by this, and each further one
/// from twice as much, as long as that is at most half an election timeout.
const EARLY_PART: u64 = 10;

impl<P: Protocol> Core<P> {
    /// Handles a tick on a node that doesn't lead.
    pub(super) fn tick_election(&mut self) {
        if self.now < self.election_deadline {
            P::ask_again(self);
            return;
        }
        self.set_leader(None);
        self.part = Part::Follower;
        if self.may_campaign() {
            let hasty = is_active(Mutant::CampaignWithoutPreVote)
                || (self.gone.is_some() && is_active(Mutant::GoneWithoutPreVote));
            if self.config.pre_vote && !hasty {
                self.pre_campaign();
            } else {
                P::campaign(self, None);
            }
        } else {
            self.draw_timeout();
        }
    }

    /// Campaigns because the shell requests it.
    pub(super) fn campaign_now(&mut self) -> Result<(), Rejected> {
        if matches!(self.part, Part::Leader(_)) {
            return Ok(());
        }
        // The promise forbids a vote for this node as much as a vote for others.
        if !self.may_campaign() || self.refuses_to_vote(None) {
            return Err(Rejected::CannotCampaign);
        }
        self.set_leader(None);
        if self.config.pre_vote {
            self.pre_campaign();
        } else {
            P::campaign(self, None);
        }
        Ok(())
    }

    pub(super) fn may_campaign(&self) -> bool {
        P::may_vote(self) && self.installing.is_none() && self.now >= self.silent_until
    }

    pub(super) fn next_ballot(&self) -> Ballot {
        P::next_ballot(self.ballot, self.config.id)
    }

    /// Draws and starts a new election timeout. Called for each campaign: otherwise two nodes that
    /// drew the same one could split the vote forever.
    pub(super) fn draw_timeout(&mut self) {
        if is_active(Mutant::TimeoutDrawnOnce) && self.election_timeout > 0 {
            self.election_deadline = self.now.plus(self.election_timeout);
            return;
        }
        let base = self.config.election_ticks;
        self.election_timeout = base + self.draw(base);
        self.election_deadline = self.now.plus(self.election_timeout);
    }

    fn draw(&mut self, spread: u64) -> u64 {
        match self.config.priority {
            Priority::High => self.rng.below(spread / 2),
            Priority::Normal => self.rng.below(spread),
            Priority::Low => spread + self.rng.below(spread),
        }
    }

    /// The shell saw what looks like the end of a peer's process. A leader behind a firewall that
    /// refuses connections looks the same and may still serve reads, so the promise to it holds.
    pub(super) fn on_gone(&mut self, node: NodeId) {
        let follows = self.leader.is_some() && !matches!(self.part, Part::Leader(_));
        let named = self.leader == Some(node) || is_active(Mutant::AnyPeerGone);
        if !follows || !named {
            return;
        }
        self.promise.loyal_until = self.now;
        if is_active(Mutant::GoneEndsPromise) {
            self.promise.until = self.now;
        }
        self.set_leader(None);
        let spread = (self.config.election_ticks / EARLY_PART).max(2);
        self.gone = Some(Gone { node, spread });
        self.campaign_early();
    }

    /// Schedules the next campaign soon if the leader seems to be gone. This is repeated a few
    /// times, since the others may notice a little later, or vote for themselves at the same time.
    /// After that the election timeout applies again.
    pub(super) fn campaign_early(&mut self) {
        let Some(Gone { node, spread }) = self.gone else {
            return;
        };
        if spread > self.config.election_ticks / 2 {
            self.gone = None;
            return;
        }
        let early = self.now.max(self.promise.until);
        let early = early.plus(1 + self.draw(spread));
        self.election_deadline = self.election_deadline.min(early);
        let spread = spread * 2;
        self.gone = Some(Gone { node, spread });
    }

    /// The votes at the start of a campaign. A node that is gone won't answer. It counts as a
    /// refusal, so that a campaign which the others refuse is over at once.
    pub(super) fn no_votes(&self) -> Votes {
        self.gone
            .map(|gone| (gone.node, false))
            .into_iter()
            .collect()
    }

    fn pre_campaign(&mut self) {
        self.draw_timeout();
        self.part = Part::PreCandidate(self.no_votes());
        let ballot = self.next_ballot();
        let last = self.log.last();
        for node in self.other_voters() {
            self.send_as(ballot, node, CommonBody::PreVote { last });
        }
        self.count_pre_vote(self.config.id, true);
    }

    pub(super) fn other_voters(&self) -> Vec<NodeId> {
        let membership = self.membership();
        let all = membership.voters.union(&membership.outgoing);
        all.copied()
            .filter(|node| *node != self.config.id)
            .collect()
    }

    /// Counts an answer to a pre-vote, by this node's own configuration.
    fn count_pre_vote(&mut self, from: NodeId, granted: bool) {
        let Part::PreCandidate(votes) = &mut self.part else {
            return;
        };
        *votes.entry(from).or_default() |= granted;
        let membership = self.configs.current();
        if membership.is_quorum(|node| votes.get(&node) == Some(&true)) {
            P::campaign(self, None);
        } else if membership.is_blocked_by(|node| votes.get(&node) == Some(&false)) {
            self.part = Part::Follower;
            self.campaign_early();
        }
    }

    /// Becomes the leader. Its first own entry will be at `first_own`.
    pub(super) fn lead(&mut self, first_own: Index) {
        self.gone = None;
        self.part = Part::Leader(Box::new(Leading::new(first_own, self.now)));
        self.seen.begin(self.ballot);
        self.set_leader(Some(self.config.id));
        self.sync_peers();
    }

    /// Appends a no-op. Its commit also commits the entries of earlier ballots (Raft §5.4.2, §8).
    pub(super) fn append_noop(&mut self) {
        P::append_own(
            self,
            RequestId::NONE,
            EntryKind::Noop,
            bytes::Bytes::new(),
            None,
        );
    }

    /// Becomes a follower in this ballot, of `leader` if it is known.
    pub(super) fn become_follower(&mut self, ballot: Ballot, leader: Option<NodeId>) {
        let part = std::mem::replace(&mut self.part, Part::Follower);
        if ballot > self.ballot {
            self.set_ballot(ballot);
        }
        self.set_leader(leader);
        if let Part::Leader(leading) = part {
            if is_active(Mutant::CommitLostOnStepDown) {
                self.commit = self.commit.min(self.storage.durable());
            }
            self.fail_reads_of(*leading);
            P::stepped_down(self);
            self.draw_timeout();
        }
    }

    pub(super) fn set_ballot(&mut self, ballot: Ballot) {
        assert!(ballot > self.ballot, "ballots only grow");
        self.ballot = ballot;
        self.vote = None;
    }

    pub(super) fn set_leader(&mut self, leader: Option<NodeId>) {
        if self.leader != leader {
            self.drop_unsent_forwards(leader);
            self.leader = leader;
        }
    }

    /// Handles a message of the current ballot's leader: follows it, restarts the election timeout
    /// and promises not to help others. This may shorten the promise to an earlier leader. That
    /// one's lease is over, or this leader could not have been elected.
    pub(super) fn heard_leader(&mut self, from: NodeId, asked: Asked) -> Result<(), Rejected> {
        if matches!(self.part, Part::Leader(_)) {
            // Two leaders in one ballot: the sender is not a correct peer.
            return Err(Rejected::InvalidMessage);
        }
        if !matches!(self.part, Part::Follower) || self.leader != Some(from) {
            self.become_follower(self.ballot, Some(from));
        }
        self.election_deadline = self.now.plus(self.election_timeout);
        let election_ticks = self.config.election_ticks;
        let (transfers, lease_ticks) = if self.promise.ballot == self.ballot {
            (self.promise.transfers, self.promise.lease_ticks)
        } else {
            // A leader never asks for more than that.
            (TransferEpoch::default(), election_ticks)
        };
        let lease_ticks = asked.lease_ticks.unwrap_or(lease_ticks);
        let lease_ticks = lease_ticks.min(CoreConfig::MAX_ELECTION_TICKS);
        let stays_gone = self.gone.is_some() && is_active(Mutant::HeardLeaderStaysGone);
        let loyal_until = if stays_gone {
            self.promise.loyal_until
        } else {
            self.gone = None;
            self.now.plus(election_ticks)
        };
        self.promise = Promise {
            until: self.now.plus(lease_ticks),
            loyal_until,
            ballot: self.ballot,
            transfers: transfers.max(asked.transfers),
            lease_ticks,
        };
        Ok(())
    }

    /// Whether a promise forbids helping a candidate. A leader that hands over leadership tells its
    /// successor so (`handover`), which releases this node from its promise, unless that leader has
    /// given up the transfer since.
    pub(super) fn refuses_to_vote(&self, handover: Option<Handover>) -> bool {
        if !self.config.check_quorum {
            return false;
        }
        if self.now < self.silent_until {
            return true;
        }
        let own = self.membership().is_voter(self.config.id);
        if is_active(Mutant::OwnConfigGovernsVotes) && !own {
            return true;
        }
        let promise = match &self.part {
            Part::Leader(leading) => Promise {
                until: Tick::MAX,
                ballot: self.ballot,
                transfers: leading.transfers,
                ..Promise::default()
            },
            Part::Follower | Part::PreCandidate(_) | Part::Candidate(_) => self.promise,
        };
        if self.now >= promise.until.max(promise.loyal_until) {
            return false;
        }
        handover.is_none_or(|handover| {
            (handover.by, handover.transfers) < (promise.ballot, promise.transfers)
        })
    }

    /// Answers without changing anything. A refusal carries this node's ballot, so that a candidate
    /// that is behind adopts it. Otherwise nodes with a newer ballot and an older log would refuse
    /// that candidate forever.
    pub(super) fn on_pre_vote(&mut self, from: NodeId, ballot: Ballot, last: LogPosition) {
        let may_lead = P::may_lead(self, last) || is_active(Mutant::PreVoteOnLivenessOnly);
        let granted = ballot > self.ballot && may_lead && !self.refuses_to_vote(None);
        let bears = if granted { ballot } else { self.ballot };
        self.send_as(bears, from, CommonBody::PreVoteReply { granted });
    }

    pub(super) fn on_pre_vote_reply(&mut self, from: NodeId, ballot: Ballot, granted: bool) {
        if granted {
            if matches!(self.part, Part::PreCandidate(_)) && ballot == self.next_ballot() {
                self.count_pre_vote(from, true);
            }
        } else if ballot > self.ballot && !is_active(Mutant::PreVoteWithoutCatchUp) {
            self.become_follower(ballot, None);
        } else if matches!(self.part, Part::PreCandidate(_)) {
            self.count_pre_vote(from, false);
        }
    }
}
