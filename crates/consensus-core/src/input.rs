//! What the shell tells the core.

use bytes::Bytes;
use synod_types::{Index, NodeId, RequestId, WriteSeq};

use crate::{Message, SnapshotMeta};

/// One event for [`Consensus::step`](crate::Consensus::step).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// Time has passed. Needed at [`Consensus::deadline`](crate::Consensus::deadline), harmless at
    /// any time.
    Tick,
    /// A message from a peer. The shell has checked that it comes from where it says.
    Message(Message),
    /// Replicate this.
    Propose(Proposal),
    /// Replicate these, all or none, next to each other and in this order where this node leads.
    ProposeMany(Vec<Proposal>),
    /// Change the membership.
    ChangeMembers(MemberChange),
    /// Ask for an index at which a linearizable read may be served.
    Read {
        /// Comes back in [`ReadState`](crate::ReadState) or in `failed_reads`.
        ctx: ReadContext,
        /// How the leader makes sure that it still leads.
        mode: ReadMode,
    },
    /// Hand the leadership to this voter (Raft thesis §3.10). Only a leader takes it.
    Transfer {
        /// The next leader.
        to: NodeId,
    },
    /// Try to become the leader now instead of at the election timeout.
    Campaign,
    /// Everything up to and including this write sequence number is durable.
    Persisted(WriteSeq),
    /// This write, or an earlier one, failed. The core stops for good: after a failed fsync nobody
    /// knows what the disk holds.
    PersistFailed(WriteSeq),
    /// The state machine has applied everything up to here.
    Applied(Index),
    /// The state machine was replaced by this snapshot, durably.
    SnapshotInstalled(SnapshotMeta),
    /// The snapshot of [`Ready::install`](crate::Ready::install) could not be fetched or installed.
    SnapshotFailed,
    /// A peer has finished, or given up, pulling a snapshot from this node.
    SnapshotSent {
        /// The peer.
        to: NodeId,
        /// Whether it got everything.
        ok: bool,
    },
    /// Forget entries up to here; they are in the state machine's durable state. Clamped to what is
    /// applied.
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
    /// Comes back in the [`Entry`](crate::Entry).
    pub id: RequestId,
    /// The command; opaque here.
    pub data: Bytes,
}

/// A change of the membership, made in one step by joint consensus (Raft thesis §4.3).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MemberChange {
    /// Comes back in the [`Entry`](crate::Entry).
    pub id: RequestId,
    /// What to change; each node at most once.
    pub changes: Vec<Change>,
    /// Opaque here, for the state machine: names and addresses of the members.
    pub context: Bytes,
}

/// One node's change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// Add a voter at once. Refused where the voters that answer now could not commit without it,
    /// as in a cluster of one: add a learner there and promote it.
    AddVoter(NodeId),
    /// Add a member that gets the log and has no vote.
    AddLearner(NodeId),
    /// Make a learner a voter. Refused until it has almost all of the log.
    Promote(NodeId),
    /// Make a voter a learner.
    Demote(NodeId),
    /// Remove a member of either kind.
    Remove(NodeId),
}

impl Change {
    /// The node that is changed.
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

/// The shell's name for a read; the core never compares two of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadContext(pub u64);

/// How a read is made linearizable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReadMode {
    /// One round of heartbeats to a quorum (Raft thesis §6.4).
    Index,
    /// The leader's lease, without a round trip (Raft thesis §6.4.1): rests on bounded clock drift.
    Lease,
}
