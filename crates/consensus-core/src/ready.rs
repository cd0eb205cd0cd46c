//! What the core tells the shell to do.

use synod_types::{Ballot, Index, NodeId, RequestId, WriteSeq};

use crate::{Entry, Message, ReadContext, Rejected, Role, SnapshotMeta};

/// One batch of work. The [crate documentation](crate) gives the order in which to do it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ready {
    /// Numbers the writes: one more than before where `writes` isn't empty, else unchanged.
    pub seq: WriteSeq,
    /// For the log, in this order. May be made durable while `messages` are on their way.
    pub writes: Vec<Write>,
    /// To send now.
    pub messages: Vec<Message>,
    /// To send once `seq` is durable, and not before. Where `writes` is empty, `seq` is that of an
    /// earlier Ready that still waits for its [`Input::Persisted`](crate::Input::Persisted).
    pub messages_after_persist: Vec<Message>,
    /// Newly committed entries, contiguous, each handed out once since the start. They may be
    /// committed by a quorum of others before the local copy is durable.
    pub committed: Vec<Entry>,
    /// Reads that may be served as soon as the state machine has applied the index.
    pub reads: Vec<ReadState>,
    /// Reads without an answer; safe to try again.
    pub failed_reads: Vec<(ReadContext, Rejected)>,
    /// Fetch a snapshot and install it.
    pub install: Option<Box<Install>>,
    /// Proposals that certainly were not appended.
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
    /// Store the entry at its index, in place of whatever is there, and leave all others. Raft
    /// truncates first and leaves no gaps; Multi-Paxos overwrites and may leave gaps.
    Put(Entry),
    /// Forget the entries from this index on.
    TruncateFrom(Index),
    /// Forget all entries: the log goes on after this snapshot, which the state machine has
    /// installed.
    Reset(SnapshotMeta),
    /// Forget the entries up to this snapshot, which the state machine has installed, and keep
    /// those after it (Multi-Paxos: an acceptor forgets nothing that it has accepted and that isn't
    /// chosen).
    Advance(SnapshotMeta),
    /// Replace the hard state.
    HardState(HardState),
}

/// What must survive a crash besides the entries. One record, since a vote belongs to its ballot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct HardState {
    /// The latest ballot seen (Raft: current term; Paxos: promised).
    pub ballot: Ballot,
    /// Who got this node's vote in that ballot.
    pub vote: Option<NodeId>,
    /// Known to be committed; may lag behind, since it is only written along with other things.
    pub commit: Index,
}

impl HardState {
    /// What a node begins with that has nothing but the state at `start`.
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
    /// As given with the read.
    pub ctx: ReadContext,
    /// The local state machine must have applied this much.
    pub index: Index,
}

/// A snapshot to fetch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Install {
    /// The least that the snapshot will hold. The peer may serve a later one: report that one's
    /// metadata in [`Input::SnapshotInstalled`](crate::Input::SnapshotInstalled).
    pub meta: SnapshotMeta,
    /// Who has it.
    pub from: NodeId,
}

/// Who leads now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RoleChange {
    /// This node's part.
    pub role: Role,
    /// The leader, where known.
    pub leader: Option<NodeId>,
    /// The latest ballot.
    pub ballot: Ballot,
}
