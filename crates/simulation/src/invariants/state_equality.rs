//! State machines that have applied the same entries are equal.

use std::collections::BTreeMap;

use synod_types::{Index, NodeId};

use super::{Agreement, Check, Invariant};
use crate::command::Applied;

pub(crate) const RULE: Invariant = Invariant {
    name: "state-equality",
    source: "Schneider, Implementing Fault-Tolerant Services Using the State Machine Approach, §2; Raft Figure 3",
};

/// Checksums of whole states, by applied index.
#[derive(Default)]
pub(crate) struct States {
    hashes: BTreeMap<Index, u32>,
}

impl States {
    /// Checks the checksum of everything that members have in common.
    pub(crate) fn check(&mut self, node: NodeId, index: Index, hash: u32) -> Check {
        let known = *self.hashes.entry(index).or_insert(hash);
        RULE.ensure(known == hash, || {
            format!("n{node} has hash {hash:08x} at {index}, another node had {known:08x}")
        })
    }
}

/// Called after an apply. Outputs and digest must be those that the committed entries lead to.
pub(super) fn check(
    node: NodeId,
    agreement: &Agreement,
    first: Index,
    outcomes: &[Applied],
    digest: u64,
) -> Check {
    let mut index = first.prev();
    for outcome in outcomes {
        index = index.next();
        let expected = agreement.outcome(index);
        RULE.ensure(expected == Some(*outcome), || {
            format!("n{node} applies {index} with {outcome:?}, expected {expected:?}")
        })?;
    }
    let expected = agreement.digest(index);
    RULE.ensure(expected == Some(digest), || {
        format!("n{node} has digest {digest:x} at {index}, expected {expected:x?}")
    })
}
