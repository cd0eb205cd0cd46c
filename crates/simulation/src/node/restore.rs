//! From what the disk kept to what a core starts from: as `synod_replica::recovery`.

use synod_consensus_core::{HardState, Membership, Restored, SnapshotMeta, Write};
use synod_log::{Action, GroupState, LogCore};
use synod_types::LogPosition;

use super::log_thread::GROUP;
use crate::invariants::{Check, LOG_RECOVERY};

/// Builds what the core starts from, and the membership before the first configuration entry. A new group is recorded
/// in the log first.
pub(super) fn restore(
    log: &mut LogCore,
    recovered: Option<GroupState>,
    applied: SnapshotMeta,
    bootstrap: &SnapshotMeta,
) -> Check<(Restored, Membership)> {
    let state = recovered.unwrap_or_default();
    let is_new = state == GroupState::default();
    let start = state.start.unwrap_or_else(|| bootstrap.clone());
    let mut hard_state = state.hard_state.unwrap_or_default();
    LOG_RECOVERY.ensure(applied.last.index >= start.last.index, || {
        format!(
            "the state machine is at {} and the log begins after {}",
            applied.last, start.last
        )
    })?;
    if is_new {
        LOG_RECOVERY.ensure(applied.last == start.last, || {
            format!(
                "the state machine is at {} and there is no log",
                applied.last
            )
        })?;
        hard_state = first_hard_state(&start);
        let writes = [Write::Reset(start.clone()), Write::HardState(hard_state)];
        let written = log.commit(writes.iter().map(|write| (GROUP, Action::Write(write))));
        written.map_err(|error| LOG_RECOVERY.broken(format!("bootstrap: {error}")))?;
    }
    let initial = start.membership.clone();
    let mut applied = applied;
    if applied.membership.members().is_empty() {
        applied.membership = initial.clone();
    }
    let restored = Restored {
        hard_state,
        start,
        entries: state.entries,
        applied,
    };
    Ok((restored, initial))
}

/// What the log of a new group begins with.
pub(super) fn first_hard_state(start: &SnapshotMeta) -> HardState {
    if start.last == LogPosition::ZERO {
        HardState::default()
    } else {
        HardState {
            ballot: start.last.ballot,
            vote: None,
            commit: start.last.index,
        }
    }
}
