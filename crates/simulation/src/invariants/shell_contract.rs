//! The core's guarantees to its shell.

use synod_consensus_core::{Entry, Write};
use synod_types::{Index, NodeId};

use super::{Check, Invariant};
use crate::Algorithm;
use crate::disk_model::DurableLog;

pub(crate) const RULE: Invariant = Invariant {
    name: "shell-contract",
    source: "documentation of synod-consensus-core: Ready, Write",
};

/// Committed entries are handed out in order, each once.
pub(super) fn check_handed(node: NodeId, handed: Index, entry: &Entry) -> Check {
    RULE.ensure(entry.index == handed.next(), || {
        format!("n{node} hands out {} after {handed}", entry.index)
    })
}

/// Raft's writes leave no gaps.
pub(super) fn check_write(
    algorithm: Algorithm,
    node: NodeId,
    shadow: &DurableLog,
    write: &Write,
) -> Check {
    let Write::Put(entry) = write else {
        return Ok(());
    };
    let fits = match algorithm {
        Algorithm::Raft => entry.index == shadow.last().index.next(),
        Algorithm::MultiPaxos => entry.index > shadow.start.last.index,
    };
    RULE.ensure(fits, || {
        format!("n{node} writes {entry:?} after {}", shadow.last())
    })
}
