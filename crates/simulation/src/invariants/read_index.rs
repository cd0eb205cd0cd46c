//! A linearizable read is served at an index that is not before the commit index at the time of the
//! request.

use synod_types::{Index, NodeId};

use super::{Check, Invariant};

pub(crate) const RULE: Invariant = Invariant {
    name: "read-index",
    source: "Raft thesis §6.4, §6.4.1",
};

/// `floor` is the highest index that any node knew to be committed when the read began.
pub(super) fn check(node: NodeId, index: Index, floor: Index) -> Check {
    RULE.ensure(index >= floor, || {
        format!("n{node} serves a read at {index} that began when {floor} was committed")
    })
}
