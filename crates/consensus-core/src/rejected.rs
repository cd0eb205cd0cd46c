//! Why the core refused something.

use synod_types::NodeId;

/// The input had no effect. For a proposal this is certain: it was not appended and never will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Rejected {
    /// No leader is known; try again.
    #[error("no leader is known")]
    NoLeader,
    /// Only the leader can do this.
    #[error("not the leader")]
    NotLeader {
        /// The leader, where known.
        leader: Option<NodeId>,
    },
    /// Too much is waiting; try again later.
    #[error("too much is waiting to be committed")]
    Overloaded,
    /// A proposal over the limit of `max_entry_bytes`.
    #[error("the proposal is too large")]
    TooLarge,
    /// The membership changes already; try again later.
    #[error("another membership change is in flight")]
    ConfigChangeInFlight,
    /// The new leader has not committed an entry of its own yet; try again.
    #[error("the leader is not ready yet")]
    LeaderNotReady,
    /// The learner's log is too far behind to make it a voter.
    #[error("the learner is not in sync with the leader")]
    LearnerNotReady,
    /// Too few of the future voters answer: the change would stop the cluster.
    #[error("the new members would not have a healthy quorum")]
    UnhealthyQuorum,
    /// The change doesn't fit the membership.
    #[error("invalid membership change: {0}")]
    InvalidChange(ChangeError),
    /// The node can't become the leader: it is no voter, or this node itself.
    #[error("leadership cannot be transferred to {to}")]
    InvalidTransfer {
        /// As asked.
        to: NodeId,
    },
    /// The lease isn't running; use [`ReadMode::Index`](crate::ReadMode::Index).
    #[error("the leader's lease has run out")]
    LeaseExpired,
    /// Leadership is being handed over; try again.
    #[error("leadership is being transferred")]
    Transferring,
    /// This node can't campaign now: it is no voter, installs a snapshot, or has promised a leader
    /// (or, after a restart, may have promised one) not to.
    #[error("campaigning is not allowed now")]
    CannotCampaign,
    /// A read got no answer in time; try again.
    #[error("no answer from the leader in time")]
    TimedOut,
    /// This node was removed from the group.
    #[error("this node was removed from the group")]
    Removed,
    /// A message that no correct peer sends.
    #[error("malformed message")]
    InvalidMessage,
    /// A write failed earlier; the replica has stopped for good.
    #[error("the replica has stopped after a failed write")]
    Failed,
}

/// Why a membership change doesn't fit the membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ChangeError {
    /// Nothing to change.
    #[error("no changes")]
    Empty,
    /// The id of no node.
    #[error("zero is not a node")]
    NoNode,
    /// One node twice in a change.
    #[error("{0} is changed twice")]
    Twice(NodeId),
    /// The node to add is there.
    #[error("{0} is a member already")]
    AlreadyMember(NodeId),
    /// The node to change is not there.
    #[error("{0} is not a member")]
    NotMember(NodeId),
    /// The node to promote is a voter.
    #[error("{0} is not a learner")]
    NotLearner(NodeId),
    /// The node to demote is a learner.
    #[error("{0} is not a voter")]
    NotVoter(NodeId),
    /// Nobody would be left to vote.
    #[error("no voter would be left")]
    NoVoters,
}
