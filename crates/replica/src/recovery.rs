//! Recovers a core from stored data.

use synod_consensus_core::{ConfigError, Membership, SnapshotMeta};
use synod_log::{GroupState, Log, LogError, Restart, RestartError};
use synod_types::{GroupId, LogPosition};

/// Log and state machine don't match, or can't be used.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// Log and state machine don't match.
    #[error(transparent)]
    Restart(#[from] RestartError),
    /// The core rejects its configuration or the restored state.
    #[error("cannot start the consensus core: {0}")]
    Core(#[from] ConfigError),
    /// The initial state could not be written.
    #[error("cannot write the initial state to the log: {0}")]
    Log(#[from] LogError),
}

/// Builds the core's initial state. For a new group, first records the initial members in the log.
pub(crate) fn restore(
    log: &Log,
    group: GroupId,
    recovered: Option<GroupState>,
    applied: SnapshotMeta,
    bootstrap: Option<Membership>,
) -> Result<Restart, RecoveryError> {
    let bootstrap = SnapshotMeta {
        last: LogPosition::ZERO,
        membership: bootstrap.unwrap_or_default(),
    };
    let restart = Restart::new(recovered, applied, bootstrap)?;
    if restart.is_new {
        log.bootstrap(group, restart.restored.start.clone())?;
    }
    Ok(restart)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use synod_log::{LogConfig, Metrics, SimDisk};
    use synod_types::NodeId;

    use super::*;
    use crate::completions::Completions;

    const GROUP: GroupId = GroupId::new(1);

    fn members(id: u64) -> Option<Membership> {
        Some(Membership::of([NodeId::new(id)]))
    }

    fn open(disk: &SimDisk) -> (Log, Option<GroupState>) {
        let config = LogConfig::new("unused".into());
        let metrics = Arc::new(Metrics::default());
        let (log, mut recovered) =
            Log::open_on(Arc::new(disk.clone()), &config, metrics, Completions::new()).unwrap();
        (log, recovered.groups.remove(&GROUP))
    }

    #[test]
    fn a_new_group_is_recorded_in_the_log_before_it_starts() {
        let disk = SimDisk::new();
        let (log, recovered) = open(&disk);
        assert_eq!(recovered, None);
        let fresh = SnapshotMeta::default();
        let first = restore(&log, GROUP, recovered, fresh.clone(), members(1)).unwrap();
        assert!(first.is_new);
        log.close().unwrap();
        drop(log);
        // Different flags on a later start change nothing.
        let (log, recovered) = open(&disk);
        let second = restore(&log, GROUP, recovered, fresh, members(2)).unwrap();
        assert!(!second.is_new);
        assert_eq!(second.restored, first.restored);
        assert_eq!(second.initial, first.initial);
    }
}
