//! Ballots and commit indexes never decrease, even across restarts, and a node votes once per
//! ballot.

use synod_consensus_core::{HardState, Status};
use synod_types::{Ballot, Index, NodeId};

use super::{Check, Invariant};
use crate::disk_model::DurableLog;

pub(crate) const RULE: Invariant = Invariant {
    name: "monotonic",
    source: "Raft Figure 2: currentTerm increases monotonically, votedFor; Paxos Made Simple §2.2: P1a",
};

/// The last observed state.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Last {
    ballot: Ballot,
    commit: Index,
    durable: HardState,
}

impl Last {
    /// The ballot after the last turn.
    pub(super) fn ballot(&self) -> Ballot {
        self.ballot
    }

    /// The commit index after the last turn.
    pub(super) fn commit(&self) -> Index {
        self.commit
    }
}

/// Called after a turn.
pub(super) fn check(node: NodeId, last: &mut Last, status: &Status) -> Check {
    RULE.ensure(
        status.ballot >= last.ballot && status.commit >= last.commit,
        || {
            let (ballot, commit) = (status.ballot, status.commit);
            format!("n{node} goes from {last:?} to ballot {ballot}, commit {commit}")
        },
    )?;
    last.ballot = status.ballot;
    last.commit = status.commit;
    Ok(())
}

/// Called after writes became durable.
pub(super) fn durable(node: NodeId, last: &mut Last, disk: &DurableLog) -> Check {
    let (old, new) = (last.durable, disk.hard_state);
    let one_vote = new.ballot != old.ballot || old.vote.is_none() || new.vote == old.vote;
    RULE.ensure(
        new.ballot >= old.ballot && new.commit >= old.commit && one_vote,
        || format!("n{node} replaces {old:?} by {new:?} on its disk"),
    )?;
    last.durable = new;
    Ok(())
}

/// A process starts with the state on its disk, which must include what the disk had before.
pub(super) fn at_restart(node: NodeId, last: &mut Last, disk: &DurableLog) -> Check {
    durable(node, last, disk)?;
    *last = Last {
        ballot: disk.hard_state.ballot,
        commit: disk.hard_state.commit.min(last.commit),
        durable: disk.hard_state,
    };
    Ok(())
}
