//! The core's output for the shell.

use synod_types::{Ballot, Index, NodeId, RequestId, WriteSeq};

use crate::{Entry, Message, ReadContext, Rejected, Role, SnapshotMeta};

/// One batch of work. The [crate documentation](crate) gives the order in which to carry it out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ready {
    /// The number of the writes. One more than before if `writes` isn't empty, otherwise unchanged.
    pub seq: WriteSeq,
    /// Writes for the log, in this order. They may be made durable while `messages` are being sent.
    pub writes: Vec<Write>,
    /// Messages to send now.
    pub messages: Vec<Message>,
    /// Messages to send once `seq` is durable, and not before. If `writes` is empty, `seq` is that
    /// of an earlier `Ready` that still waits for its
    /// [`Input::Persisted`](crate::Input::Persisted).
    pub messages_after_persist: Vec<Message>,
    /// Newly committed entries, contiguous. Each is handed out once per start. A quorum of other
    /// nodes may have committed them before the local copy is durable.
    pub committed: Vec<Entry>,
    /// Reads that may be served as soon as the state machine has applied their index.
    pub reads: Vec<ReadState>,
    /// Reads that failed; safe to retry.
    pub failed_reads: Vec<(ReadContext, Rejected)>,
    /// A snapshot to fetch and install.
    pub install: Option<Box<Install>>,
    /// Proposals that were certainly not appended.
    pub dropped: Vec<(RequestId, Rejected)>,
    /// The role, leader or ballot has changed. Stop serving lease reads before sending any message.
    pub role: Option<RoleChange>,
}

impl Ready {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
            && self.messages.is_empty()
            && self.messages_after_persist.is_empty()
            && self.committed.is_empty()
            && self.reads.is_empty()
            && self.failed_reads.is_empty()
            && self.install.is_none()
            && self.dropped.is_empty()
            && self.role.is_none()
    }
}

/// One change of the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Write {
    /// Store the entry at its index, replacing any entry there and no other. Raft truncates first
    /// and leaves no gaps; Multi-Paxos overwrites and may leave gaps.
    Put(Entry),
    /// Remove the entries from this index on.
    TruncateFrom(Index),
    /// Remove all entries: the log continues after this snapshot, which the state machine has
    /// installed.
    Reset(SnapshotMeta),
    /// Remove the entries up to this snapshot, which the state machine has installed, and keep
    /// those after it (Multi-Paxos: an acceptor never forgets an accepted value that isn't chosen).
    Advance(SnapshotMeta),
    /// Replace the hard state.
    HardState(HardState),
}

/// The state besides the entries that must survive a crash. It is one record, since a vote belongs
/// to its ballot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct HardState {
    /// The latest ballot seen (Raft: the current term; Paxos: the promised ballot).
    pub ballot: Ballot,
    /// The node that got this node's vote in that ballot.
    pub vote: Option<NodeId>,
    /// A known commit index. It may lag: it is usually written only together with other data.
    pub commit: Index,
}

impl HardState {
    /// The initial hard state of a node that has only the state at `start`.
    #[must_use]
    pub fn at(start: &SnapshotMeta) -> Self {
        Self {
            ballot: start.last.ballot,
            vote: None,
            commit: start.last.index,
        }
    }
}

/// A read that may be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReadState {
    /// The context given with the read.
    pub ctx: ReadContext,
    /// The local state machine must have applied this index.
    pub index: Index,
}

/// A snapshot to fetch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Install {
    /// The minimum content of the snapshot. The peer may serve a later one: report that one's
    /// metadata in [`Input::SnapshotInstalled`](crate::Input::SnapshotInstalled).
    pub meta: SnapshotMeta,
    /// The peer that has it.
    pub from: NodeId,
}

/// A change of the leadership.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RoleChange {
    /// This node's role.
    pub role: Role,
    /// The leader, if known.
    pub leader: Option<NodeId>,
    /// The latest ballot.
    pub ballot: Ballot,
}
