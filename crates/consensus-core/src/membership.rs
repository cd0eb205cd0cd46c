//! A group's members and its quorums.

use std::collections::BTreeSet;

use synod_types::NodeId;

use crate::mutants::{Mutant, is_active};
use crate::{Change, ChangeError};

/// The members of a group. During a change there are two sets of voters, and everything needs a
/// majority of both (joint consensus; Raft thesis §4.3).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Membership {
    /// The voters; in a joint configuration the incoming ones.
    pub voters: BTreeSet<NodeId>,
    /// The voters before the change; empty unless joint.
    pub outgoing: BTreeSet<NodeId>,
    /// Members that get the log but have no vote.
    pub learners: BTreeSet<NodeId>,
    /// Outgoing voters that become learners when the joint configuration ends.
    pub learners_next: BTreeSet<NodeId>,
}

/// The reason why a membership is inconsistent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum MembershipError {
    /// Zero is a member.
    #[error("zero is not a node")]
    NoNode,
    /// There are members but no voters.
    #[error("no voters")]
    NoVoters,
    /// A node is both a voter and a learner.
    #[error("{0} is both voter and learner")]
    VoterAndLearner(NodeId),
    /// A node is going to be a learner but is not an outgoing voter.
    #[error("{0} is not an outgoing voter")]
    NotOutgoing(NodeId),
}

impl Membership {
    /// A membership with only voters.
    pub fn of(voters: impl IntoIterator<Item = NodeId>) -> Self {
        Self {
            voters: voters.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Whether a change of the voters is in progress.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether the node has a vote, in either set.
    #[must_use]
    pub fn is_voter(&self, node: NodeId) -> bool {
        self.voters.contains(&node) || self.outgoing.contains(&node)
    }

    /// Whether the node gets the log without having a vote.
    #[must_use]
    pub fn is_learner(&self, node: NodeId) -> bool {
        self.learners.contains(&node)
    }

    /// Whether the node is a member of any kind.
    #[must_use]
    pub fn contains(&self, node: NodeId) -> bool {
        self.is_voter(node) || self.is_learner(node)
    }

    /// Whether no other node has a vote.
    #[must_use]
    pub fn is_sole_voter(&self, node: NodeId) -> bool {
        self.voters.len() == 1
            && self.voters.contains(&node)
            && self.outgoing.is_subset(&self.voters)
    }

    /// All members in ascending order, without duplicates.
    #[must_use]
    pub fn members(&self) -> BTreeSet<NodeId> {
        let mut all = self.voters.clone();
        all.extend(&self.outgoing);
        all.extend(&self.learners);
        all
    }

    /// The highest value that a quorum has reached: a majority of the voters and, while joint, also
    /// of the outgoing ones. Zero if there are no voters.
    #[must_use]
    pub fn quorum_value(&self, value_of: impl Fn(NodeId) -> u64) -> u64 {
        if self.voters.is_empty() {
            return 0;
        }
        let incoming = majority_value(&self.voters, &value_of);
        if self.outgoing.is_empty() {
            return incoming;
        }
        incoming.min(majority_value(&self.outgoing, &value_of))
    }

    /// Whether the nodes for which `holds` is true are a quorum.
    #[must_use]
    pub fn is_quorum(&self, holds: impl Fn(NodeId) -> bool) -> bool {
        self.quorum_value(|node| u64::from(holds(node))) == 1
    }

    /// Whether no quorum is possible without the nodes for which `holds` is true. If those have
    /// refused, an election is lost.
    #[must_use]
    pub fn is_blocked_by(&self, holds: impl Fn(NodeId) -> bool) -> bool {
        !self.is_quorum(|node| !holds(node))
    }

    /// Whether the sets are consistent. An empty membership is: it belongs to a node that waits to
    /// be added.
    ///
    /// # Errors
    ///
    /// [`MembershipError`] with the inconsistency.
    pub fn validate(&self) -> Result<(), MembershipError> {
        let members = self.members();
        if members.contains(&NodeId::NONE) || self.learners_next.contains(&NodeId::NONE) {
            return Err(MembershipError::NoNode);
        }
        if self.voters.is_empty() && !members.is_empty() {
            return Err(MembershipError::NoVoters);
        }
        if let Some(node) = self.learners.iter().find(|node| self.is_voter(**node)) {
            return Err(MembershipError::VoterAndLearner(*node));
        }
        for node in &self.learners_next {
            if self.voters.contains(node) {
                return Err(MembershipError::VoterAndLearner(*node));
            }
            if !self.outgoing.contains(node) {
                return Err(MembershipError::NotOutgoing(*node));
            }
        }
        Ok(())
    }

    /// The first membership that these changes lead to: joint if the voters change, otherwise
    /// final.
    ///
    /// # Errors
    ///
    /// [`ChangeError`] if a change is invalid. The membership must not be joint.
    pub fn change(&self, changes: &[Change]) -> Result<Self, ChangeError> {
        let mut next = self.clone();
        let mut seen = BTreeSet::new();
        if changes.is_empty() {
            return Err(ChangeError::Empty);
        }
        for change in changes {
            let node = change.node();
            if !node.is_some() {
                return Err(ChangeError::NoNode);
            }
            if !seen.insert(node) {
                return Err(ChangeError::Twice(node));
            }
            match change {
                Change::AddVoter(_) | Change::AddLearner(_) if self.contains(node) => {
                    return Err(ChangeError::AlreadyMember(node));
                }
                Change::Promote(_) | Change::Demote(_) | Change::Remove(_)
                    if !self.contains(node) =>
                {
                    return Err(ChangeError::NotMember(node));
                }
                Change::Promote(_) if !self.is_learner(node) => {
                    return Err(ChangeError::NotLearner(node));
                }
                Change::Demote(_) if !self.is_voter(node) => {
                    return Err(ChangeError::NotVoter(node));
                }
                Change::AddVoter(_) | Change::Promote(_) => {
                    next.learners.remove(&node);
                    next.voters.insert(node);
                }
                Change::AddLearner(_) => {
                    next.learners.insert(node);
                }
                Change::Demote(_) => {
                    next.voters.remove(&node);
                    // It votes until the joint configuration ends, and can't be a learner before
                    // that.
                    next.learners_next.insert(node);
                }
                Change::Remove(_) => {
                    next.voters.remove(&node);
                    next.learners.remove(&node);
                }
            }
        }
        if next.voters.is_empty() {
            return Err(ChangeError::NoVoters);
        }
        if next.voters != self.voters {
            next.outgoing.clone_from(&self.voters);
        }
        Ok(next)
    }

    /// The membership after the joint configuration ends.
    #[must_use]
    pub fn leave(&self) -> Self {
        Self {
            voters: self.voters.clone(),
            outgoing: BTreeSet::new(),
            learners: self.learners.union(&self.learners_next).copied().collect(),
            learners_next: BTreeSet::new(),
        }
    }
}

/// The highest value that a majority of `nodes` has reached.
fn majority_value(nodes: &BTreeSet<NodeId>, value_of: &impl Fn(NodeId) -> u64) -> u64 {
    /// Groups up to this size are sorted on the stack, because this runs for every acknowledgement.
    const INLINE: usize = 9;
    let pick = |values: &mut [u64]| {
        if !is_active(Mutant::QuorumUnsorted) {
            values.sort_unstable();
        }
        // Of n ascending values, the one at (n - 1) / 2 is reached by n / 2 + 1 nodes.
        values[(values.len() - 1) / 2]
    };
    if nodes.len() <= INLINE {
        let mut values = [0; INLINE];
        for (value, node) in values.iter_mut().zip(nodes) {
            *value = value_of(*node);
        }
        pick(&mut values[..nodes.len()])
    } else {
        let mut values: Vec<u64> = nodes.iter().map(|node| value_of(*node)).collect();
        pick(&mut values)
    }
}
