//! The shared log without I/O.
//!
//! Batch `n` is the value of one key of an etcd v3 endpoint. One pod, the sequencer, appends
//! batches; all pods read them in order. The parts of a pod:
//! - [`Outbox`]: the pod's own commands that the log does not contain yet. It sends them to the
//!   sequencer, in order, again after each change of the sequencer.
//! - [`Sequencer`]: on the pod that leads, orders commands into batches and appends them.
//! - [`LogReader`]: takes batches from the watch, and notices missing ones.
//! - [`SessionTimers`]: on the pod that leads, which sessions have expired.
//!
//! Rules, each with the module that keeps it:
//! - A batch is appended by a transaction that requires that its key does not exist and that the
//!   sequencer still holds its leadership key. So the log has no gaps, and nothing is appended by a
//!   sequencer that has lost its leadership (`sequencer`).
//! - One append is in flight. If its outcome is unknown, the key is read. If the batch is not
//!   there, the same bytes are sent again, never other ones: the first attempt may still arrive
//!   (`sequencer`).
//! - A pod's commands enter the log in the order of their numbers, each at most once (`outbox`,
//!   `sequencer`, and the machine, which refuses duplicates and gaps).

mod outbox;
mod reader;
mod sequencer;
mod timers;

pub use outbox::{NotSent, Outbox, OutboxLimits};
pub use reader::{LogNumber, LogReader, Missing};
pub use sequencer::{
    Action, Found, Outcome, Sequencer, SequencerLimits, Start, Stopped, Unsequenced,
};
pub use timers::SessionTimers;

#[cfg(test)]
mod tests;
