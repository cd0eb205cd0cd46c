//! What some [mutants](crate::mutants) do that takes more than a line. Never called without one.

use synod_types::{Index, NodeId};

use super::{Core, Protocol};
use crate::{ConfigCommand, EntryKind, Membership};

impl<P: Protocol> Core<P> {
    /// After a failed write: the entries are gone, and their indexes free.
    pub(super) fn retract_unwritten(&mut self) {
        let from = self.storage.durable().max(self.commit).next();
        if from <= self.log.last().index {
            self.log.truncate_from(from);
            self.storage.truncate_from(from);
            self.configs.truncate_from(from);
        }
    }

    /// The configurations that were committed after `before`, on a node that didn't take them when
    /// they came.
    pub(super) fn adopt_committed_configs(&mut self, before: Index) {
        let known = self.configs.current_index();
        let entries = self.log.range(before.next(), self.commit);
        let configs =
            entries.filter(|entry| entry.kind == EntryKind::Config && entry.index > known);
        let configs = configs.filter_map(|entry| {
            let command = ConfigCommand::decode(entry.data.clone()).ok()?;
            Some((entry.index, command.membership))
        });
        for (index, membership) in configs.collect::<Vec<_>>() {
            self.configs.push(index, membership);
        }
    }
}

/// Whether this is the one that a quorum lacks where one node too few is enough.
pub(super) fn is_overlooked(membership: &Membership, own: NodeId, node: NodeId) -> bool {
    let mut others = membership.voters.iter().filter(|voter| **voter != own);
    others.next() == Some(&node)
}
