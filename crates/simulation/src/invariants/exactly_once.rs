//! A proposal is applied at most once, never after it was refused, and never without having been
//! made.

use std::collections::{BTreeMap, BTreeSet};

use synod_consensus_core::{Entry, EntryKind};
use synod_types::RequestId;

use super::{Check, Invariant};
use crate::command::{Command, OpId};

pub(crate) const RULE: Invariant = Invariant {
    name: "exactly-once",
    source: "Paxos Made Simple §2.1: only a value that has been proposed may be chosen; Raft §8; the core's own contract",
};

/// The outcomes of proposals.
#[derive(Default)]
pub(crate) struct ExactlyOnce {
    /// Proposals given to a core, with the operation that each is for.
    proposed: BTreeMap<RequestId, Option<OpId>>,
    refused: BTreeSet<RequestId>,
    committed: BTreeSet<RequestId>,
    /// Client operations that took effect.
    happened: BTreeSet<OpId>,
}

impl ExactlyOnce {
    /// A shell gives a proposal to its core. `op` is `None` for a membership change.
    pub(crate) fn proposed(&mut self, id: RequestId, op: Option<OpId>) {
        self.proposed.insert(id, op);
    }

    /// Whether the operation was committed.
    pub(crate) fn has_happened(&self, op: OpId) -> bool {
        self.happened.contains(&op)
    }

    pub(super) fn committed(&mut self, entry: &Entry) -> Check {
        if entry.id == RequestId::NONE {
            return RULE.ensure(entry.kind != EntryKind::Normal, || {
                format!("{entry:?} was never proposed")
            });
        }
        RULE.ensure(self.committed.insert(entry.id), || {
            format!("{entry:?} is committed twice")
        })?;
        RULE.ensure(!self.refused.contains(&entry.id), || {
            format!("{entry:?} was refused and is committed")
        })?;
        let op = self.proposed.get(&entry.id);
        let own = match entry.kind {
            EntryKind::Normal => Command::decode(&entry.data).map(|command| command.op),
            EntryKind::Noop | EntryKind::Config => None,
        };
        RULE.ensure(op.is_some_and(|op| *op == own), || {
            format!("{entry:?} was never proposed like this: {op:?}")
        })?;
        RULE.ensure(own.is_none_or(|op| self.happened.insert(op)), || {
            format!("the operation of {entry:?} happens twice")
        })
    }

    pub(super) fn refused(&mut self, id: RequestId) -> Check {
        self.refused.insert(id);
        RULE.ensure(!self.committed.contains(&id), || {
            format!("{id} is committed and is refused")
        })
    }
}
