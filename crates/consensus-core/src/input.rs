//! The core's inputs.

use bytes::Bytes;
use synod_types::{Index, NodeId, RequestId, WriteSeq};

use crate::{Message, SnapshotMeta};

/// One event for [`Consensus::step`](crate::Consensus::step).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// Time has passed. Needed at [`Consensus::deadline`](crate::Consensus::deadline); harmless at
    /// any other time.
    Tick,
    /// A message from a peer. The shell has verified the sender.
    Message(Message),
    /// Replicate this proposal.
    Propose(Proposal),
    /// Replicate these proposals, all or none. If this node leads, they get consecutive indexes in
    /// this order.
    ProposeMany(Vec<Proposal>),
    /// Change the membership.
    ChangeMembers(MemberChange),
    /// Request an index at which a linearizable read may be served.
    Read {
        /// Returned in [`ReadState`](crate::ReadState) or in `failed_reads`.
        ctx: ReadContext,
        /// How the leader confirms that it still leads.
        mode: ReadMode,
    },
    /// Transfer leadership to this voter (Raft thesis §3.10). Only a leader accepts it.
    Transfer {
        /// The next leader.
        to: NodeId,
    },
    /// Campaign now instead of at the election timeout.
    Campaign,
    /// Everything up to and including this write sequence number is durable.
    Persisted(WriteSeq),
    /// This write, or an earlier one, failed. The core stops for good: after a failed fsync the
    /// content of the disk is unknown.
    PersistFailed(WriteSeq),
    /// The state machine has applied everything up to here.
    Applied(Index),
    /// The state machine was replaced by this snapshot, durably.
    SnapshotInstalled(SnapshotMeta),
    /// The snapshot of [`Ready::install`](crate::Ready::install) could not be fetched or installed.
    SnapshotFailed,
    /// A peer has finished pulling a snapshot from this node, or given up.
    SnapshotSent {
        /// The peer.
        to: NodeId,
        /// Whether it received everything.
        ok: bool,
    },
    /// Compact entries up to here; the state machine holds them durably. Clamped to the applied
    /// index.
    Compact(Index),
    /// The connection to this peer broke, or messages to it were dropped.
    Unreachable(NodeId),
    /// This peer's process seems to have ended: it closed its connections, and its addresses refuse
    /// new ones. A hint, which may be wrong: where it names the leader, the next election begins
    /// early, and nothing that a lease rests on is given up.
    Gone(NodeId),
}

/// A command to replicate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Proposal {
    /// Returned in the [`Entry`](crate::Entry).
    pub id: RequestId,
    /// The command; opaque to the core.
    pub data: Bytes,
}

/// A membership change, made in one step by joint consensus (Raft thesis §4.3).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MemberChange {
    /// Returned in the [`Entry`](crate::Entry).
    pub id: RequestId,
    /// The changes; each node at most once.
    pub changes: Vec<Change>,
    /// Opaque to the core; for the state machine, for example names and addresses of members.
    pub context: Bytes,
}

/// One node's change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// Add a voter at once. Rejected if the voters that answer now could not commit without it, as
    /// in a cluster of one: add a learner there and promote it.
    AddVoter(NodeId),
    /// Add a member that gets the log but has no vote.
    AddLearner(NodeId),
    /// Make a learner a voter. Rejected until it has almost all of the log.
    Promote(NodeId),
    /// Make a voter a learner.
    Demote(NodeId),
    /// Remove a member of either kind.
    Remove(NodeId),
}

impl Change {
    /// The changed node.
    #[must_use]
    pub const fn node(self) -> NodeId {
        match self {
            Self::AddVoter(node)
            | Self::AddLearner(node)
            | Self::Promote(node)
            | Self::Demote(node)
            | Self::Remove(node) => node,
        }
    }
}

/// The shell's identifier for a read. The core never compares them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadContext(pub u64);

/// How a read is made linearizable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReadMode {
    /// One round of heartbeats to a quorum (Raft thesis §6.4).
    Index,
    /// The leader's lease, without a round trip (Raft thesis §6.4.1). It relies on bounded clock
    /// drift.
    Lease,
}
