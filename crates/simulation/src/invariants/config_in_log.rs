//! In Raft, the last configuration in a node's log is in effect, committed or not.

use synod_consensus_core::{ConfigCommand, EntryKind, Status};
use synod_types::NodeId;

use super::{Check, Invariant};
use crate::Algorithm;
use crate::disk_model::DurableLog;

pub(crate) const RULE: Invariant = Invariant {
    name: "config-in-log",
    source: "Raft §6: a server uses the latest configuration in its log, whether or not it is committed; thesis §4.1",
};

/// Called after a turn, in which everything that the core appended was handed out.
pub(super) fn check(
    algorithm: Algorithm,
    node: NodeId,
    shadow: &DurableLog,
    status: &Status,
) -> Check {
    if algorithm != Algorithm::Raft || status.failed {
        return Ok(());
    }
    let entries = shadow.entries.values().rev();
    let mut configs = entries.filter(|entry| entry.kind == EntryKind::Config);
    let last = configs.next().and_then(|entry| {
        let command = ConfigCommand::decode(entry.data.clone()).ok()?;
        Some((entry.index, command.membership))
    });
    let (at, expected) = match &last {
        Some((index, membership)) => (*index, membership),
        None => (status.membership_index, &shadow.start.membership),
    };
    let is_last = at == status.membership_index && *expected == status.membership;
    RULE.ensure(is_last, || {
        let (own, index) = (&status.membership, status.membership_index);
        format!(
            "n{node} uses {own:?} as of {index}, but the last in its log is {expected:?} at {at}"
        )
    })
}
