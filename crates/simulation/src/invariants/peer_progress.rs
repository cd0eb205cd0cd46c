//! What a leader takes for durable on a peer is.

use synod_consensus_core::{Role, Status};
use synod_types::NodeId;

use super::{Check, Invariant, Known};
use crate::Algorithm;

pub(crate) const RULE: Invariant = Invariant {
    name: "peer-progress",
    source: "Raft Figure 2: matchIndex is known to be replicated",
};

/// After a leader's turn. A peer that has gone on to a later ballot may have replaced what it had.
pub(super) fn check<'a>(
    algorithm: Algorithm,
    node: NodeId,
    status: &Status,
    known: impl Fn(NodeId) -> Option<&'a Known>,
) -> Check {
    // In Paxos a peer also counts with what it knows to be chosen, whatever its ballot: `durable-quorum` looks at that.
    let counts = status.role == Role::Leader && algorithm == Algorithm::Raft;
    let Some(own) = known(node).filter(|_| counts) else {
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
        let Some(expected) = own.shadow.ballot_at(matched) else {
            continue;
        };
        let found = disk.ballot_at(matched);
        RULE.ensure(found == Some(expected), || {
            format!("n{node} leads and has {matched} of {expected}; of n{id} it thinks the same, but there is {found:?}")
        })?;
    }
    Ok(())
}
