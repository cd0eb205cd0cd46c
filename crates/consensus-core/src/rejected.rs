//! The reasons why the core rejects an input.

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
        /// The leader, if known.
        leader: Option<NodeId>,
    },
    /// Too many proposals are waiting; retry later.
    #[error("too many proposals are waiting to be committed")]
    Overloaded,
    /// The proposal exceeds `max_entry_bytes`.
    #[error("the proposal is too large")]
    TooLarge,
    /// Another membership change is in progress; retry later.
    #[error("another membership change is in flight")]
    ConfigChangeInFlight,
    /// The new leader has not committed an entry of its own yet; retry.
    #[error("the leader is not ready yet")]
    LeaderNotReady,
    /// The learner's log is too far behind to make it a voter.
    #[error("the learner is not in sync with the leader")]
    LearnerNotReady,
    /// Too few of the future voters answer, so the change would stop the cluster.
    #[error("the new members would not have a healthy quorum")]
    UnhealthyQuorum,
    /// The change doesn't fit the current membership.
    #[error("invalid membership change: {0}")]
    InvalidChange(ChangeError),
    /// The node can't become the leader: it is not a voter, or it is this node itself.
    #[error("leadership cannot be transferred to {to}")]
    InvalidTransfer {
        /// The requested node.
        to: NodeId,
    },
    /// No lease is running; use [`ReadMode::Index`](crate::ReadMode::Index).
    #[error("the leader's lease has run out")]
    LeaseExpired,
    /// Leadership is being transferred; retry.
    #[error("leadership is being transferred")]
    Transferring,
    /// This node can't campaign now: it is no voter, installs a snapshot, or has promised a leader
    /// (or, after a restart, may have promised one) not to.
    #[error("campaigning is not allowed now")]
    CannotCampaign,
    /// A read was not answered in time; retry.
    #[error("the leader did not answer in time")]
    TimedOut,
    /// This node was removed from the group.
    #[error("this node was removed from the group")]
    Removed,
    /// No correct peer sends this message.
    #[error("malformed message")]
    InvalidMessage,
    /// A write failed earlier; the replica has stopped for good.
    #[error("the replica has stopped after a failed write")]
    Failed,
}

/// The reason why a membership change is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ChangeError {
    /// There is no change.
    #[error("no changes")]
    Empty,
    /// Zero is not a node id.
    #[error("zero is not a node")]
    NoNode,
    /// A node is changed twice.
    #[error("{0} is changed twice")]
    Twice(NodeId),
    /// The node to add is already a member.
    #[error("{0} is a member already")]
    AlreadyMember(NodeId),
    /// The node to change is not a member.
    #[error("{0} is not a member")]
    NotMember(NodeId),
    /// The node to promote is already a voter.
    #[error("{0} is not a learner")]
    NotLearner(NodeId),
    /// The node to demote is already a learner.
    #[error("{0} is not a voter")]
    NotVoter(NodeId),
    /// No voter would be left.
    #[error("no voter would be left")]
    NoVoters,
}
