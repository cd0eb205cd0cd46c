//! A leader changes the membership only after an entry of its own ballot is committed.

use std::collections::BTreeMap;

use synod_consensus_core::{Entry, EntryKind, Write};
use synod_types::{Ballot, Index, NodeId, RequestId};

use super::{Check, Invariant};
use crate::Algorithm;
use crate::disk_model::DurableLog;

pub(crate) const RULE: Invariant = Invariant {
    name: "own-commit-first",
    source: "Ongaro, bug in single-server membership changes (raft-dev, 2015): before that a predecessor's \
             configuration may be committed, unknown to the leader",
};

/// The ballot in which each change was first proposed.
#[derive(Default)]
pub(super) struct Changes {
    first: BTreeMap<RequestId, Ballot>,
}

impl Changes {
    /// Called when a node writes an entry. `leads` is the ballot in which it leads, with its commit
    /// index.
    pub(super) fn check(
        &mut self,
        algorithm: Algorithm,
        node: NodeId,
        shadow: &DurableLog,
        write: &Write,
        leads: Option<(Ballot, Index)>,
    ) -> Check {
        let Write::Put(entry) = write else {
            return Ok(());
        };
        if entry.kind != EntryKind::Config {
            return Ok(());
        }
        let first = *self.first.entry(entry.id).or_insert(entry.ballot);
        let Some((ballot, commit)) = leads.filter(|(ballot, _)| entry.ballot == *ballot) else {
            return Ok(());
        };
        // A Paxos leader proposes its predecessors' entries again, which is not a change of its
        // own.
        if is_adopted(algorithm, entry, first) || entry.index <= commit {
            return Ok(());
        }
        let of = shadow.ballot_at(commit);
        RULE.ensure(of == Some(ballot), || {
            format!("n{node} adds {entry:?} in {ballot}, and has committed up to {commit} of {of:?} only")
        })
    }
}

fn is_adopted(algorithm: Algorithm, entry: &Entry, first: Ballot) -> bool {
    algorithm == Algorithm::MultiPaxos && first < entry.ballot
}
