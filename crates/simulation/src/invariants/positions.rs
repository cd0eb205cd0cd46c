//! Compacted <= applied <= committed <= last, and durable <= last.

use synod_consensus_core::Status;
use synod_types::NodeId;

use super::{Check, Invariant};

pub(crate) const RULE: Invariant = Invariant {
    name: "positions",
    source: "Raft Figure 2: commitIndex, lastApplied; §7: only applied entries are compacted",
};

pub(super) fn check(node: NodeId, status: &Status) -> Check {
    let start = status.start.index;
    let (applied, commit, last) = (status.applied, status.commit, status.last.index);
    RULE.ensure(
        start <= applied && applied <= commit && commit <= last && status.durable <= last,
        || {
            let durable = status.durable;
            format!("n{node}: {start} <= {applied} <= {commit} <= {last}, durable {durable}")
        },
    )
}
