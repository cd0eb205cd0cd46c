//! Error families, one per operation. "Certainly not applied" and "outcome unknown" are different
//! variants.

use std::error::Error as _;
use std::io::{self, ErrorKind};

use synod_consensus_core::Rejected;

use crate::state_machine::ApplyError;

/// Why a proposal or a membership change got no output.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProposeError {
    /// The core refused it. Certainly not applied: safe to retry.
    #[error("proposal rejected: {0}")]
    Rejected(Rejected),
    /// No leader was found before the deadline. Certainly not applied: safe to retry.
    #[error("no leader was known before the deadline")]
    NoLeader,
    /// Too many proposals are waiting here. Certainly not applied: retry after a pause.
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

/// Why a read got no index. Reads change nothing, so that every one of these is safe to retry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The core refused it for good.
    #[error("read rejected: {0}")]
    Rejected(Rejected),
    /// No leader was known before the deadline.
    #[error("no leader was known before the deadline")]
    NoLeader,
    /// Too many reads are waiting here.
    #[error("too many reads are waiting")]
    TooBusy,
    /// No quorum confirmed the read, or this node did not catch up, before the deadline.
    #[error("the deadline passed before the read was confirmed")]
    Timeout,
    /// The replica is not running.
    #[error("the replica is not running")]
    Stopped,
}

/// Why leadership did not move.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// The core refused it: not the leader, unknown target, another transfer, ...
    #[error("leadership transfer rejected: {0}")]
    Rejected(Rejected),
    /// The target did not take over before the deadline; this node may still lead.
    #[error("the deadline passed before the leadership moved")]
    Timeout,
    /// The replica is not running.
    #[error("the replica is not running")]
    Stopped,
}

/// Why a replica stopped by itself. It never starts again in this process (fail-stop).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// A write to the log failed: nothing after it is durable.
    #[error("the log failed: {0}")]
    Log(String),
    /// The state machine failed on a committed entry, an install or a flush.
    #[error("the state machine failed: {0}")]
    StateMachine(String),
    /// A thread or the driver ended unexpectedly.
    #[error("internal fault: {0}")]
    Internal(String),
}

impl Fault {
    /// The state machine failed, for whatever causes. The text says what to do about a full disk.
    pub(crate) fn state_machine(error: &ApplyError) -> Self {
        let mut text = error.to_string();
        let mut is_disk_full = false;
        let mut cause = error.source();
        while let Some(error) = cause {
            let detail = error.to_string();
            // Some errors tell their cause themselves.
            if !text.contains(&detail) {
                text = format!("{text}: {detail}");
            }
            let kind = error.downcast_ref().map(io::Error::kind);
            is_disk_full |= kind == Some(ErrorKind::StorageFull);
            is_disk_full |= kind == Some(ErrorKind::QuotaExceeded);
            cause = error.source();
        }
        if is_disk_full {
            text += "; free some space and start again: what was acknowledged is safe";
        }
        Self::StateMachine(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As an engine wraps what the system said.
    #[derive(Debug, thiserror::Error)]
    #[error("engine i/o error")]
    struct Wrapped(#[source] io::Error);

    #[test]
    fn a_full_disk_is_known_by_its_kind_and_not_by_a_text() {
        let advice = "; free some space and start again: what was acknowledged is safe";
        for (error, is_full) in [
            (io::Error::from_raw_os_error(28), true),
            (io::Error::from(ErrorKind::QuotaExceeded), true),
            (io::Error::from_raw_os_error(5), false),
            (io::Error::other("No space left on device"), false),
        ] {
            let said = error.to_string();
            let error = ApplyError::caused_by("the engine refused a batch", Wrapped(error));
            let Fault::StateMachine(text) = Fault::state_machine(&error) else {
                unreachable!("it is the state machine's");
            };
            let causes = format!("the engine refused a batch: engine i/o error: {said}");
            assert!(text.contains(&causes), "{text}");
            assert_eq!(text.ends_with(advice), is_full, "{text}");
        }
    }
}
