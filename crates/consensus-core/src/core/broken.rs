//! The [mutants](crate::mutants) that take more than one line. Unless one is active, this module
//! changes nothing.

use synod_types::{Ballot, Index, NodeId};

use super::{Core, Protocol};
use crate::mutants::{Mutant, is_active};
use crate::{Body, ConfigCommand, EntryKind, Membership, PaxosBody, RaftBody};

impl<P: Protocol> Core<P> {
    /// Whether a message of this earlier ballot is treated like one of the current ballot.
    pub(super) fn overlooks_ballot(&mut self, ballot: Ballot, body: &Body) -> bool {
        let is_ack = matches!(
            body,
            Body::Raft(RaftBody::AppendReply { .. }) | Body::Paxos(PaxosBody::Accepted { .. })
        );
        if is_ack && is_active(Mutant::StaleAck) {
            return true;
        }
        let is_accept = matches!(body, Body::Paxos(PaxosBody::Accept { .. }));
        if is_accept && is_active(Mutant::AcceptBelowPromise) {
            self.ballot = ballot;
            return true;
        }
        false
    }

    /// Drops the entries of a failed write, so that their indexes are used again.
    pub(super) fn retract_unwritten(&mut self) {
        let from = self.storage.durable().max(self.commit).next();
        if from <= self.log.last().index {
            self.log.truncate_from(from);
            self.storage.truncate_from(from);
            self.configs.truncate_from(from);
        }
    }

    /// Adopts the configurations that were committed after `before`, on a node that didn't adopt
    /// them when they arrived.
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

/// Whether this is the node whose answer is not awaited if one node less than a quorum is enough:
/// the first voter besides `own`.
pub(super) fn is_overlooked(membership: &Membership, own: NodeId, node: NodeId) -> bool {
    let mut others = membership.voters.iter().filter(|voter| **voter != own);
    others.next() == Some(&node)
}
