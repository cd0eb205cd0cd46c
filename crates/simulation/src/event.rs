//! The events of the simulation.

use synod_consensus_core::Message;
use synod_types::{Index, NodeId};

use crate::command::{Applied, OpId, Value};
use crate::node::Flush;

/// An event. `epoch` identifies the node's process that it is for.
#[derive(Debug)]
pub(crate) enum Event {
    /// A message arrives.
    Deliver { slot: usize, message: Box<Message> },
    /// The driver has work.
    Turn { slot: usize, epoch: u64 },
    /// The driver's timer has fired.
    Wake { slot: usize, epoch: u64 },
    /// The log's write and sync have completed.
    LogDone { slot: usize, epoch: u64 },
    /// The log was idle for a while.
    LogIdle {
        slot: usize,
        epoch: u64,
        commits: u64,
    },
    /// The apply thread has applied a batch.
    Apply { slot: usize, epoch: u64 },
    /// The engine's flush has completed.
    Flushed {
        slot: usize,
        epoch: u64,
        begun: Box<Flush>,
    },
    /// A snapshot transfer takes its next step.
    Fetch { slot: usize, epoch: u64 },
    /// A peer has received this node's snapshot, or has given up.
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
    /// A paused process continues.
    Resume { slot: usize, epoch: u64 },
    /// A client's request arrives.
    Request { slot: usize, op: OpId },
    /// An answer arrives at its client.
    Reply { op: OpId, answer: Answer },
    /// A client chooses its next operation.
    Client { client: u32 },
    /// A client stops waiting.
    GiveUp { op: OpId },
    /// Time for the next fault.
    Fault,
    /// The operator checks the members.
    Operator,
    /// No effect, but a waiting condition is checked again.
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

/// The answer to a client's request.
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
    /// The outcome is unknown.
    Unknown,
}
