//! A Raft leader commits by counting only entries of its own term.

use synod_consensus_core::{Role, Status};
use synod_types::{Ballot, Index, NodeId};

use super::{Check, Invariant};
use crate::Algorithm;
use crate::disk_model::DurableLog;

pub(crate) const RULE: Invariant = Invariant {
    name: "own-term",
    source: "Raft §5.4.2, figure 8: an entry of an earlier term may be replaced even where a majority has it",
};

/// The ballot in which a node led after its last turn, and its commit index then.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Led {
    by: Option<(Ballot, Index)>,
}

/// Called after a turn. Entries committed before the node led may have any term.
pub(super) fn check(
    algorithm: Algorithm,
    node: NodeId,
    led: &mut Led,
    shadow: &DurableLog,
    status: &Status,
) -> Check {
    let leads = status.role == Role::Leader && algorithm == Algorithm::Raft;
    let before = led.by.replace((status.ballot, status.commit));
    if !leads {
        led.by = None;
        return Ok(());
    }
    let Some((ballot, commit)) = before else {
        return Ok(());
    };
    if ballot != status.ballot || commit == status.commit {
        return Ok(());
    }
    let of = shadow.ballot_at(status.commit);
    RULE.ensure(of.is_none_or(|of| of == ballot), || {
        let index = status.commit;
        format!("n{node} leads in {ballot} and commits {index}, which is of {of:?}")
    })
}
