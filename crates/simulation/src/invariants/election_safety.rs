//! A ballot has at most one leader.

use std::collections::BTreeMap;

use synod_consensus_core::{Role, Status};
use synod_types::{Ballot, NodeId};

use super::{Check, Invariant};

pub(crate) const RULE: Invariant = Invariant {
    name: "election-safety",
    source: "Raft §5.2 and Figure 3; Paxos Made Simple §2.2: proposals have different numbers",
};

/// The leaders so far.
#[derive(Default)]
pub(super) struct Elections {
    leaders: BTreeMap<Ballot, NodeId>,
}

impl Elections {
    /// Returns whether the node is a leader that was not seen before.
    pub(super) fn check(&mut self, node: NodeId, status: &Status) -> Check<bool> {
        if status.role != Role::Leader {
            return Ok(false);
        }
        let known = self.leaders.insert(status.ballot, node);
        RULE.ensure(known.is_none_or(|other| other == node), || {
            format!("n{node} and {known:?} both lead in {}", status.ballot)
        })?;
        Ok(known.is_none())
    }
}
