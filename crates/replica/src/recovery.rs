//! From what the disk kept to a core: log and state machine are checked against each other.

use synod_consensus_core::{ConfigError, HardState, Membership, Restored, SnapshotMeta};
use synod_log::{GroupState, Log, LogError};
use synod_types::{GroupId, LogPosition};

/// Log and state machine don't fit together, or can't be used.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The log forgot entries that the state machine does not have.
    #[error(
        "the state machine is at {applied} but the log begins after {start}: the engine's data is older than the log; restore \
         both from one backup, or remove this member from the cluster and add it again with an empty data directory"
    )]
    StateBehindLog {
        /// The state machine's position.
        applied: LogPosition,
        /// The position before the log's first entry.
        start: LogPosition,
    },
    /// There is a state but no log at all, not even the record that every log begins with.
    #[error(
        "the state machine is at {applied} but there is no log: votes and acknowledged entries may be lost, so this node must \
         not go on; restore the log directory, or remove this member from the cluster and add it again with an empty data directory"
    )]
    LogLost {
        /// The state machine's position.
        applied: LogPosition,
    },
    /// There is data without a membership, and no initial one was given.
    #[error("the stored data names no members: restore the data directory from a backup")]
    NoMembers,
    /// The core refuses its settings or what was restored.
    #[error("cannot start the consensus core: {0}")]
    Core(#[from] ConfigError),
    /// The initial state could not be written.
    #[error("cannot write the initial state to the log: {0}")]
    Log(#[from] LogError),
}

/// The members before the first `Config` entry, which no state machine knows from its entries.
#[derive(Clone, Debug)]
pub(crate) struct InitialMembers(Membership);

impl InitialMembers {
    #[cfg(test)]
    pub(crate) fn of(members: Membership) -> Self {
        Self(members)
    }

    /// Fills in the membership where the state machine has seen none.
    pub(crate) fn complete(&self, mut meta: SnapshotMeta) -> SnapshotMeta {
        if meta.membership.members().is_empty() {
            meta.membership = self.0.clone();
        }
        meta
    }
}

/// Builds what the core starts from. A new group is recorded in the log first, with its initial members.
pub(crate) fn restore(
    log: &Log,
    group: GroupId,
    recovered: Option<GroupState>,
    applied: SnapshotMeta,
    bootstrap: Option<Membership>,
) -> Result<(Restored, InitialMembers), RecoveryError> {
    let state = recovered.unwrap_or_default();
    let is_new = state == GroupState::default();
    let start = match state.start {
        Some(start) => start,
        None => SnapshotMeta {
            last: LogPosition::ZERO,
            membership: bootstrap.unwrap_or_default(),
        },
    };
    if applied.last.index < start.last.index {
        return Err(RecoveryError::StateBehindLog {
            applied: applied.last,
            start: start.last,
        });
    }
    if is_new {
        if applied.last != LogPosition::ZERO {
            let applied = applied.last;
            return Err(RecoveryError::LogLost { applied });
        }
        log.bootstrap(group, start.clone(), HardState::default())?;
    }
    let initial = InitialMembers(start.membership.clone());
    let applied = initial.complete(applied);
    if applied.last != LogPosition::ZERO && applied.membership.members().is_empty() {
        // Only a node that waits to be added may know nobody, and only as long as it has nothing. The index tells: with
        // Multi-Paxos an applied entry may have been accepted again since, under a later ballot.
        let joined = state
            .entries
            .iter()
            .any(|entry| entry.index == applied.last.index);
        if !joined {
            return Err(RecoveryError::NoMembers);
        }
    }
    let restored = Restored {
        hard_state: state.hard_state.unwrap_or_default(),
        start,
        entries: state.entries,
        applied,
    };
    Ok((restored, initial))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use synod_consensus_core::Membership;
    use synod_log::{LogConfig, Metrics, SimDisk};
    use synod_types::{Ballot, Index, NodeId};

    use super::*;
    use crate::completions::Completions;

    const GROUP: GroupId = GroupId::new(1);

    fn position(index: u64) -> LogPosition {
        LogPosition {
            ballot: Ballot::term(1),
            index: Index::new(index),
        }
    }

    fn members(id: u64) -> Membership {
        Membership::of([NodeId::new(id)])
    }

    fn meta(index: u64, membership: Membership) -> SnapshotMeta {
        SnapshotMeta {
            last: position(index),
            membership,
        }
    }

    fn open(disk: &SimDisk) -> (Log, Option<GroupState>) {
        let config = LogConfig::new("unused".into());
        let metrics = Arc::new(Metrics::default());
        let (log, mut recovered) =
            Log::open_on(Arc::new(disk.clone()), &config, metrics, Completions::new()).unwrap();
        (log, recovered.groups.remove(&GROUP))
    }

    #[test]
    fn the_initial_members_are_those_of_the_first_start() {
        let disk = SimDisk::new();
        let (log, recovered) = open(&disk);
        assert_eq!(recovered, None);
        let fresh = SnapshotMeta::default();
        let first = restore(&log, GROUP, recovered, fresh.clone(), Some(members(1))).unwrap();
        assert_eq!(first.0.start.membership, members(1));
        log.close().unwrap();
        drop(log);
        // Other flags later change nothing.
        let (log, recovered) = open(&disk);
        let second = restore(&log, GROUP, recovered, fresh, Some(members(2))).unwrap();
        assert_eq!(second.0, first.0);
        assert_eq!(
            second.1.complete(meta(3, Membership::default())),
            meta(3, members(1))
        );
        assert_eq!(second.1.complete(meta(3, members(7))), meta(3, members(7)));
    }

    #[test]
    fn a_state_that_does_not_fit_the_log_is_refused() {
        let (log, recovered) = open(&SimDisk::new());
        let error = restore(
            &log,
            GROUP,
            recovered,
            meta(5, members(1)),
            Some(members(1)),
        );
        assert!(
            matches!(error, Err(RecoveryError::LogLost { .. })),
            "{error:?}"
        );
        let released = GroupState {
            start: Some(meta(9, members(1))),
            ..GroupState::default()
        };
        let error = restore(&log, GROUP, Some(released), meta(5, members(1)), None);
        assert!(
            matches!(error, Err(RecoveryError::StateBehindLog { .. })),
            "{error:?}"
        );
        let joining = GroupState {
            start: Some(SnapshotMeta::default()),
            ..GroupState::default()
        };
        let nameless = meta(5, Membership::default());
        let error = restore(&log, GROUP, Some(joining), nameless, None);
        assert!(matches!(error, Err(RecoveryError::NoMembers)), "{error:?}");
    }
}
