//! What can happen.

use synod_consensus_core::Message;
use synod_types::{Index, NodeId};

use crate::command::{Applied, OpId, Value};
use crate::node::Flush;

/// One event of the world. `epoch` says for which process of the node it is meant.
#[derive(Debug)]
pub(crate) enum Event {
    /// A message arrives.
    Deliver { slot: usize, message: Box<Message> },
    /// The driver has work.
    Turn { slot: usize, epoch: u64 },
    /// The driver wanted to be woken now.
    Wake { slot: usize, epoch: u64 },
    /// The log's write and sync have ended.
    LogDone { slot: usize, epoch: u64 },
    /// The log had nothing to do for a while.
    LogIdle {
        slot: usize,
        epoch: u64,
        commits: u64,
    },
    /// The apply thread has applied a batch.
    Apply { slot: usize, epoch: u64 },
    /// The engine's flush has ended.
    Flushed {
        slot: usize,
        epoch: u64,
        begun: Box<Flush>,
    },
    /// The transfer of a snapshot takes its next step.
    Fetch { slot: usize, epoch: u64 },
    /// A peer has a snapshot of this node, or has given up.
    SnapshotSent {
        slot: usize,
        epoch: u64,
        to: NodeId,
        ok: bool,
    },
    /// A stream to a peer broke.
    Unreachable { slot: usize, node: NodeId },
    /// A peer's process seems to have ended.
    Gone { slot: usize, node: NodeId },
    /// A node that is down starts.
    Start { slot: usize },
    /// A paused process goes on.
    Resume { slot: usize, epoch: u64 },
    /// A client's request arrives.
    Request { slot: usize, op: OpId },
    /// An answer arrives at its client.
    Reply { op: OpId, answer: Answer },
    /// A client thinks of something to do.
    Client { client: u32 },
    /// A client gives up waiting.
    GiveUp { op: OpId },
    /// Time for a fault.
    Fault,
    /// An operator looks after the members.
    Operator,
    /// Nothing; but who waits for something looks whether it is there.
    Pulse,
}

impl Event {
    /// The process that the event is for.
    pub(crate) fn process(&self) -> Option<(usize, u64)> {
        match self {
            Self::Turn { slot, epoch }
            | Self::Wake { slot, epoch }
            | Self::LogDone { slot, epoch }
            | Self::LogIdle { slot, epoch, .. }
            | Self::Apply { slot, epoch }
            | Self::Flushed { slot, epoch, .. }
            | Self::Fetch { slot, epoch }
            | Self::SnapshotSent { slot, epoch, .. } => Some((*slot, *epoch)),
            Self::Deliver { .. }
            | Self::Unreachable { .. }
            | Self::Gone { .. }
            | Self::Start { .. }
            | Self::Resume { .. }
            | Self::Request { .. }
            | Self::Reply { .. }
            | Self::Client { .. }
            | Self::GiveUp { .. }
            | Self::Fault
            | Self::Operator
            | Self::Pulse => None,
        }
    }
}

/// How a client's request ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    Wrote {
        index: Index,
        applied: Applied,
    },
    Read {
        index: Index,
        value: Option<Value>,
    },
    /// Certainly without effect.
    Refused,
    /// Nobody knows.
    Unknown,
}
