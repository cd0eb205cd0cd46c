//! What waits for the driver.

use synod_consensus_core::{Message, SnapshotMeta};
use synod_types::{Index, NodeId, WriteSeq};

use crate::command::{Command, OpId};
use crate::time::Time;

/// Filled by messages, the log, the apply thread and clients; emptied by each turn.
#[derive(Default)]
pub(crate) struct Inbox {
    pub(crate) messages: Vec<Message>,
    pub(crate) persisted: Option<WriteSeq>,
    pub(crate) applied: Option<Index>,
    pub(crate) events: Vec<ShellEvent>,
    pub(crate) writes: Vec<WriteRequest>,
    pub(crate) reads: Vec<ReadRequest>,
    pub(crate) transfers: Vec<NodeId>,
    /// Until then the node campaigns at every tick.
    pub(crate) campaigns_until: Time,
    /// The log or the state machine is dead.
    pub(crate) failed: bool,
}

/// What else happened.
#[derive(Debug)]
pub(crate) enum ShellEvent {
    Installed(SnapshotMeta),
    InstallFailed,
    SnapshotSent {
        to: NodeId,
        ok: bool,
    },
    /// The engine holds everything up to here durably.
    Flushed(SnapshotMeta),
    Campaign,
    Unreachable(NodeId),
    Gone(NodeId),
    /// Only with a mutant: the process ends where a write fails.
    WriteFailed(WriteSeq),
    /// Cut the log now, whatever its size.
    Compact,
}

/// A client's change, or an operator's.
#[derive(Clone, Debug)]
pub(crate) struct WriteRequest {
    pub(crate) what: Proposed,
    /// When the client gives up.
    pub(crate) deadline: Time,
}

#[derive(Clone, Debug)]
pub(crate) enum Proposed {
    Command(Command),
    Members(Vec<synod_consensus_core::Change>),
}

/// A client's read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadRequest {
    pub(crate) op: OpId,
    pub(crate) kind: ReadKind,
    pub(crate) deadline: Time,
    /// The highest committed index when the read began.
    pub(crate) floor: Index,
}

/// How fresh a read has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadKind {
    Linearizable,
    Lease,
    Serializable,
}
