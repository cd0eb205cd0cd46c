//! Who is in a group, and what a quorum of it is.

use std::collections::BTreeSet;

use synod_types::NodeId;

use crate::mutants::{Mutant, is_active};
use crate::{Change, ChangeError};

/// The members of a group. While it changes there are two sets of voters, and everything needs a
/// majority of both (joint consensus; Raft thesis §4.3).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Membership {
    /// The voters; of a joint configuration the incoming ones.
    pub voters: BTreeSet<NodeId>,
    /// The voters before the change; empty unless joint.
    pub outgoing: BTreeSet<NodeId>,
    /// Members that get the log and have no vote.
    pub learners: BTreeSet<NodeId>,
    /// Outgoing voters that become learners when the joint configuration ends.
    pub learners_next: BTreeSet<NodeId>,
}

/// The sets of a membership contradict each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum MembershipError {
    /// Zero among the members.
    #[error("zero is not a node")]
    NoNode,
    /// Members, but nobody votes.
    #[error("no voters")]
    NoVoters,
    /// A node both votes and learns.
    #[error("{0} is both voter and learner")]
    VoterAndLearner(NodeId),
    /// A node waits to become a learner without being an outgoing voter.
    #[error("{0} is not an outgoing voter")]
    NotOutgoing(NodeId),
}

impl Membership {
    /// A membership of voters only.
    pub fn of(voters: impl IntoIterator<Item = NodeId>) -> Self {
        Self {
            voters: voters.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Whether a change of the voters is under way.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether the node's vote counts, in either set.
    #[must_use]
    pub fn is_voter(&self, node: NodeId) -> bool {
        self.voters.contains(&node) || self.outgoing.contains(&node)
    }

    /// Whether the node gets the log without a vote.
    #[must_use]
    pub fn is_learner(&self, node: NodeId) -> bool {
        self.learners.contains(&node)
    }

    /// Whether the node is a member of any kind.
    #[must_use]
    pub fn contains(&self, node: NodeId) -> bool {
        self.is_voter(node) || self.is_learner(node)
    }

    /// Whether nobody else has a vote.
    #[must_use]
    pub fn is_sole_voter(&self, node: NodeId) -> bool {
        self.voters.len() == 1
            && self.voters.contains(&node)
            && self.outgoing.is_subset(&self.voters)
    }

    /// All members, in ascending order, each once.
    #[must_use]
    pub fn members(&self) -> BTreeSet<NodeId> {
        let mut all = self.voters.clone();
        all.extend(&self.outgoing);
        all.extend(&self.learners);
        all
    }

    /// The highest value that a quorum has reached: of a majority of the voters and, while joint,
    /// also of the outgoing ones. Zero where there are no voters.
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

    /// Whether those for whom `holds` is true are a quorum.
    #[must_use]
    pub fn is_quorum(&self, holds: impl Fn(NodeId) -> bool) -> bool {
        self.quorum_value(|node| u64::from(holds(node))) == 1
    }

    /// Whether no quorum is possible without those for whom `holds` is true: an election is lost
    /// when these have refused.
    #[must_use]
    pub fn is_blocked_by(&self, holds: impl Fn(NodeId) -> bool) -> bool {
        !self.is_quorum(|node| !holds(node))
    }

    /// Whether the sets fit together. An empty membership does: that of a node that waits to be
    /// added.
    ///
    /// # Errors
    ///
    /// [`MembershipError`] says what does not.
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

    /// The membership that begins these changes: joint where the voters change, else final.
    ///
    /// # Errors
    ///
    /// [`ChangeError`] where a change doesn't fit. The membership must not be joint.
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
                    // It votes until the joint configuration ends, and can't be a learner before.
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
    /// Groups up to this size are sorted on the stack: this runs for every acknowledgement.
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
