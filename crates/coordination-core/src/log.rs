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
//! - A session that a client has attached again does not expire: the command that closes it names
//!   the attach that the sequencer saw (`timers`, and the machine, which compares).
//! - The log's time passes steadily, whatever the wall clocks of the pods show (`time`).
//! - The sequencer forgets pods that are gone: for each of
//!   [`Machine::idle_pods`](crate::Machine::idle_pods) that it has not heard of lately, it submits
//!   a [`Kind::ForgetPod`](crate::Kind::ForgetPod). A pod that sends a command meanwhile stays
//!   (`sequencer`, and the machine, which compares the number). A forgotten pod is never registered
//!   again, although copies of its commands may still be on their way: a registration names the
//!   last transaction that its pod has seen (`sequencer`, and the machine, which compares it).
//! - A pod's commands enter the log in the order of their numbers, each at most once (`outbox`,
//!   `sequencer`, and the machine, which refuses duplicates and gaps).

mod outbox;
mod reader;
mod sequencer;
mod time;
mod timers;

pub use outbox::{NotSent, Outbox, OutboxLimits};
pub use reader::{LogNumber, LogReader, Missing};
pub use sequencer::{
    Action, Found, Outcome, Sequencer, SequencerLimits, Start, Stopped, Unsequenced,
};
pub use time::Now;
pub use timers::{Expired, SessionTimers};

#[cfg(test)]
mod tests;
