//! A node that uses a committed configuration uses the one that was committed.

use synod_consensus_core::{Membership, Status};
use synod_types::{Index, NodeId};

use super::{Check, Invariant};

pub(crate) const RULE: Invariant = Invariant {
    name: "config-agreement",
    source: "Raft thesis §4.1, §5.1: the latest configuration is part of the log and of a snapshot; \
             Reconfiguring a State Machine §3.1",
};

/// All committed configurations.
#[derive(Default)]
pub(super) struct Configs {
    committed: Vec<(Index, Membership)>,
}

impl Configs {
    pub(super) fn committed(&mut self, index: Index, membership: Membership) {
        self.committed.push((index, membership));
    }

    /// Called after a turn, when everything up to the node's commit index is known.
    pub(super) fn check(&self, node: NodeId, status: &Status) -> Check {
        if status.membership_index > status.commit {
            return Ok(());
        }
        let mut before = self.committed.iter().rev();
        let Some((at, expected)) = before.find(|(index, _)| *index <= status.commit) else {
            return Ok(());
        };
        RULE.ensure(*expected == status.membership, || {
            let (own, index) = (&status.membership, status.membership_index);
            format!("n{node} uses {own:?} as of {index}, but {expected:?} was committed at {at}")
        })
    }
}
