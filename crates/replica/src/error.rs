//! Error types, one per operation. "Certainly not applied" and "outcome unknown" are different
//! variants.

use synod_consensus_core::Rejected;

/// The reason why a proposal or a membership change returned no output.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProposeError {
    /// The core rejected it. Certainly not applied: safe to retry.
    #[error("proposal rejected: {0}")]
    Rejected(Rejected),
    /// No leader was found before the deadline. Certainly not applied: safe to retry.
    #[error("no leader was known before the deadline")]
    NoLeader,
    /// Too many proposals are waiting on this node. Certainly not applied: retry after a delay.
    #[error("too many proposals are waiting")]
    TooBusy,
    /// The payload is larger than
    /// [`Limits::max_proposal_bytes`](crate::Limits::max_proposal_bytes). Certainly not applied.
    #[error("proposal of {bytes} bytes is larger than the limit of {limit}")]
    TooLarge {
        /// The payload's size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The deadline passed after the proposal was handed over. **Outcome unknown**: it may still be
    /// applied.
    #[error("the deadline passed before the proposal was applied; its outcome is unknown")]
    Timeout,
    /// The replica stopped while the proposal was in flight. **Outcome unknown**.
    #[error("the replica stopped before the proposal was applied; its outcome is unknown")]
    Stopped,
    /// The replica had already stopped. Certainly not applied.
    #[error("the replica is not running")]
    NotRunning,
}

impl ProposeError {
    /// Whether the proposal was certainly not applied and never will be.
    #[must_use]
    pub const fn is_certain(&self) -> bool {
        !matches!(self, Self::Timeout | Self::Stopped)
    }
}

/// The reason why a read returned no index. Reads change nothing, so all of these are safe to
/// retry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The core rejected it for good.
    #[error("read rejected: {0}")]
    Rejected(Rejected),
    /// No leader was known before the deadline.
    #[error("no leader was known before the deadline")]
    NoLeader,
    /// Too many reads are waiting on this node.
    #[error("too many reads are waiting")]
    TooBusy,
    /// No quorum confirmed the read, or this node did not catch up, before the deadline.
    #[error("the deadline passed before the read was confirmed")]
    Timeout,
    /// The replica is not running.
    #[error("the replica is not running")]
    Stopped,
}

/// The reason why leadership was not transferred.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// The core rejected it: not the leader, unknown target, another transfer, ...
    #[error("leadership transfer rejected: {0}")]
    Rejected(Rejected),
    /// The target did not take over before the deadline; this node may still lead.
    #[error("the deadline passed before the leadership moved")]
    Timeout,
    /// The replica is not running.
    #[error("the replica is not running")]
    Stopped,
}

/// The reason why a replica stopped by itself. It never restarts in this process (fail-stop).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// A write to the log failed. Nothing after it is durable.
    #[error("the log failed: {0}")]
    Log(String),
    /// The state machine failed on a committed entry, an install or a flush.
    #[error("the state machine failed: {0}")]
    StateMachine(String),
    /// A thread or the driver ended unexpectedly.
    #[error("internal fault: {0}")]
    Internal(String),
}

/// An error and its causes in one line.
pub(crate) fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let detail = error.to_string();
        // Some errors include their cause in their own message.
        if !text.contains(&detail) {
            text = format!("{text}: {detail}");
        }
        cause = error.source();
    }
    text
}
