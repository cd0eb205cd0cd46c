//! The driver's inbox.

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
    /// Until this time the node campaigns at every tick.
    pub(crate) campaigns_until: Time,
    /// Whether the log or the state machine has failed.
    pub(crate) failed: bool,
}

/// Other events.
#[derive(Debug)]
pub(crate) enum ShellEvent {
    Installed(SnapshotMeta),
    InstallFailed,
    SnapshotSent {
        to: NodeId,
        ok: bool,
    },
    /// The engine durably holds everything up to here.
    Flushed(SnapshotMeta),
    Campaign,
    Unreachable(NodeId),
    Gone(NodeId),
    /// Only with a mutant; otherwise the process ends if a write fails.
    WriteFailed(WriteSeq),
    /// Compact the log now, regardless of its size.
    Compact,
}

/// A change requested by a client or an operator.
#[derive(Clone, Debug)]
pub(crate) struct WriteRequest {
    pub(crate) what: Proposed,
    /// When the client stops waiting.
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

/// The consistency of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadKind {
    Linearizable,
    Lease,
    Serializable,
}
