//! A leader has at most one configuration that is not committed.

use synod_consensus_core::{EntryKind, Write};
use synod_types::{Ballot, Index, NodeId};

use super::{Check, Invariant, Known};
use crate::Algorithm;

pub(crate) const RULE: Invariant = Invariant {
    name: "one-config",
    source: "Raft thesis §4.1, §4.3; Ongaro, bug in single-server membership changes (2015)",
};

/// When a leader writes a configuration. A new leader may find two of them before it knows that the first is committed,
/// so only those that it adds itself count. A Paxos leader may find several values of earlier ballots in its window of
/// slots; which configurations count there is for `agreement` and `durable-quorum` to see.
pub(super) fn check(
    algorithm: Algorithm,
    node: NodeId,
    known: &Known,
    write: &Write,
    leads: Option<(Ballot, Index)>,
) -> Check {
    let (Write::Put(entry), Some((ballot, commit)), Algorithm::Raft) = (write, leads, algorithm)
    else {
        return Ok(());
    };
    if entry.kind != EntryKind::Config || entry.ballot != ballot {
        return Ok(());
    }
    let open = known.shadow.entries.range(commit.next()..entry.index);
    let open = open.filter(|(_, entry)| entry.kind == EntryKind::Config);
    RULE.ensure(open.count() == 0, || {
        format!("n{node} adds {entry:?} in {ballot} while another configuration is not committed")
    })
}
