//! Converts recovered data to a core's initial state, and checks that log and state machine match.

use synod_consensus_core::{HardState, InitialMembers, Restored, SnapshotMeta, Write};
use synod_types::LogPosition;

use crate::replay::GroupState;

/// Log and state machine don't match.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestartError {
    /// The log no longer has entries that the state machine lacks.
    #[error(
        "the state machine is at {applied} but the log begins after {start}: the engine's data is older than the log; put \
         back the engine directory that belongs to this log, or remove this member from the cluster and add it again with an \
         empty data directory"
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
         not continue; restore the log directory, or remove this member from the cluster and add it again with an empty data directory"
    )]
    LogLost {
        /// The state machine's position.
        applied: LogPosition,
    },
}

/// The initial state of a group.
#[derive(Clone, Debug, PartialEq)]
pub struct Restart {
    /// The core's initial state.
    pub restored: Restored,
    /// The members before the first `Config` entry.
    pub initial: InitialMembers,
    /// Whether the log has nothing of the group. If so, [`first_writes`] of `restored.start` must
    /// be durable before the core starts.
    pub is_new: bool,
}

impl Restart {
    /// Combines the log's content for a group, if any, with the position that its state machine has
    /// applied durably. A new group begins at `bootstrap`, which its state machine must match.
    /// `bootstrap` has the group's members, or none on a node that waits to be added.
    ///
    /// # Errors
    /// [`RestartError`] says why they don't match and what to do.
    pub fn new(
        recovered: Option<GroupState>,
        applied: SnapshotMeta,
        bootstrap: SnapshotMeta,
    ) -> Result<Self, RestartError> {
        let state = recovered.unwrap_or_default();
        let is_new = state == GroupState::default();
        let start = state.start.unwrap_or(bootstrap);
        if applied.last.index < start.last.index {
            return Err(RestartError::StateBehindLog {
                applied: applied.last,
                start: start.last,
            });
        }
        if is_new && applied.last != start.last {
            let applied = applied.last;
            return Err(RestartError::LogLost { applied });
        }
        let initial = InitialMembers::of(start.membership.clone());
        let applied = initial.complete(applied);
        let first = if is_new {
            HardState::at(&start)
        } else {
            HardState::default()
        };
        Ok(Self {
            restored: Restored {
                hard_state: state.hard_state.unwrap_or(first),
                start,
                entries: state.entries,
                applied,
            },
            initial,
            is_new,
        })
    }
}

/// The first writes of a new group's log.
#[must_use]
pub fn first_writes(start: SnapshotMeta) -> [Write; 2] {
    let hard_state = HardState::at(&start);
    [Write::Reset(start), Write::HardState(hard_state)]
}

#[cfg(test)]
mod tests {
    use synod_consensus_core::Membership;
    use synod_types::{Ballot, Index, NodeId};

    use super::*;

    fn members(id: u64) -> Membership {
        Membership::of([NodeId::new(id)])
    }

    fn meta(index: u64, membership: Membership) -> SnapshotMeta {
        let last = LogPosition {
            ballot: Ballot::term(1),
            index: Index::new(index),
        };
        SnapshotMeta { last, membership }
    }

    fn log_from(start: SnapshotMeta) -> Option<GroupState> {
        Some(GroupState {
            start: Some(start),
            ..GroupState::default()
        })
    }

    fn nobody() -> SnapshotMeta {
        SnapshotMeta::default()
    }

    #[test]
    fn a_new_group_begins_at_its_bootstrap_position() {
        let restart = Restart::new(None, meta(7, Membership::default()), meta(7, members(1)));
        let restart = restart.unwrap();
        assert!(restart.is_new);
        let restored = restart.restored;
        assert_eq!(restored.start, meta(7, members(1)));
        assert_eq!(restored.applied, meta(7, members(1)));
        assert_eq!(restored.hard_state.ballot, Ballot::term(1));
        assert_eq!(restored.hard_state.commit, Index::new(7));
        assert_eq!(
            first_writes(restored.start.clone()),
            [
                Write::Reset(restored.start),
                Write::HardState(restored.hard_state)
            ]
        );
    }

    #[test]
    fn the_initial_members_are_those_of_the_first_start() {
        let log = log_from(meta(1, members(1)));
        // Different flags on a later start change nothing.
        let restart = Restart::new(log, meta(3, Membership::default()), meta(1, members(2)));
        let restart = restart.unwrap();
        assert!(!restart.is_new);
        assert_eq!(restart.restored.applied, meta(3, members(1)));
        let initial = restart.initial;
        assert_eq!(
            initial.complete(meta(3, Membership::default())),
            meta(3, members(1))
        );
        assert_eq!(initial.complete(meta(3, members(7))), meta(3, members(7)));
    }

    #[test]
    fn a_state_that_does_not_fit_the_log_is_refused() {
        let refused = |log, applied: SnapshotMeta, bootstrap| {
            Restart::new(log, applied, bootstrap).expect_err("they don't match")
        };
        let state = meta(5, members(1));
        let bootstrap = SnapshotMeta {
            last: LogPosition::ZERO,
            membership: members(1),
        };
        let applied = state.last;
        assert_eq!(
            refused(None, state.clone(), bootstrap),
            RestartError::LogLost { applied }
        );
        let start = meta(9, members(1));
        assert_eq!(
            refused(log_from(start.clone()), state, nobody()),
            RestartError::StateBehindLog {
                applied,
                start: start.last
            }
        );
    }

    /// Such a node receives entries before the one that adds it. A quorum of other nodes commits
    /// them before this node's copy is durable.
    #[test]
    fn a_node_that_waits_to_be_added_may_be_ahead_of_its_log() {
        let nameless = meta(5, Membership::default());
        let restart = Restart::new(log_from(nobody()), nameless.clone(), nobody()).unwrap();
        assert_eq!(restart.restored.applied, nameless);
        assert_eq!(restart.restored.start, nobody());
    }
}
