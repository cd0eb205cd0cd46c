//! Everything that a leader considers durable on a peer is durable there.

use synod_consensus_core::{Role, Status};
use synod_types::{Index, NodeId};

use super::{Check, Invariant, Known};
use crate::Algorithm;
use crate::disk_model::{DurableLog, same_entry};

pub(crate) const RULE: Invariant = Invariant {
    name: "peer-progress",
    source: "Raft Figure 2: matchIndex is known to be replicated; Paxos Made Simple §2.2: a value counts once accepted",
};

/// Called after a leader's turn. A peer that has moved to a later ballot may have replaced its
/// entries.
pub(super) fn check<'a>(
    algorithm: Algorithm,
    node: NodeId,
    status: &Status,
    chosen: Index,
    known: impl Fn(NodeId) -> Option<&'a Known>,
) -> Check {
    let Some(own) = known(node).filter(|_| status.role == Role::Leader) else {
        return Ok(());
    };
    for (id, peer) in &status.peers {
        let Some(disk) = known(*id).map(|known| &known.disk) else {
            continue;
        };
        let matched = peer.matched;
        let is_covered = matched <= disk.start.last.index.max(disk.installed);
        if disk.hard_state.ballot > status.ballot || is_covered {
            continue;
        }
        if algorithm == Algorithm::MultiPaxos {
            check_values(node, *id, own, disk, (chosen, matched))?;
            continue;
        }
        let Some(expected) = own.shadow.ballot_at(matched) else {
            continue;
        };
        let found = disk.ballot_at(matched);
        RULE.ensure(found == Some(expected), || {
            format!("n{node} leads and has {matched} of {expected}; it assumes the same of n{id}, which has {found:?}")
        })?;
    }
    Ok(())
}

/// In Paxos, what a peer knows to be chosen counts too, in any ballot, and only the value is
/// compared.
fn check_values(
    node: NodeId,
    peer: NodeId,
    own: &Known,
    disk: &DurableLog,
    (chosen, matched): (Index, Index),
) -> Check {
    if matched <= chosen {
        return Ok(());
    }
    for (slot, expected) in own.shadow.entries.range(chosen.next()..=matched) {
        let found = disk.entries.get(slot);
        let is_same = found.is_some_and(|found| same_entry(Algorithm::MultiPaxos, expected, found));
        RULE.ensure(is_same || *slot <= disk.start.last.index, || {
            format!("n{node} leads and proposes {expected:?}; it assumes that n{peer} has accepted that, which has {found:?}")
        })?;
    }
    Ok(())
}
