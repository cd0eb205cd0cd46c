//! Recovers a core from the state on disk.

use synod_consensus_core::SnapshotMeta;
use synod_log::{Action, GroupState, LogCore, Restart, first_writes};

use super::log_thread::GROUP;
use crate::invariants::{Check, LOG_RECOVERY};

/// Builds the core's initial state. A new group is recorded in the log first.
pub(super) fn restore(
    log: &mut LogCore,
    recovered: Option<GroupState>,
    applied: SnapshotMeta,
    bootstrap: &SnapshotMeta,
) -> Check<Restart> {
    let restart = Restart::new(recovered, applied, bootstrap.clone())
        .map_err(|error| LOG_RECOVERY.broken(error.to_string()))?;
    if restart.is_new {
        let writes = first_writes(restart.restored.start.clone());
        let written = log.commit(writes.iter().map(|write| (GROUP, Action::Write(write))));
        written.map_err(|error| LOG_RECOVERY.broken(format!("bootstrap: {error}")))?;
    }
    Ok(restart)
}
