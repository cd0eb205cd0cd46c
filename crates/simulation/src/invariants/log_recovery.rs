//! After any crash a log holds what it had reported as durable, then perhaps a prefix of the
//! records in flight, and nothing else.

use synod_consensus_core::{SnapshotMeta, Write};
use synod_log::GroupState;
use synod_types::NodeId;

use super::{Check, Invariant};
use crate::disk_model::DurableLog;

pub(crate) const RULE: Invariant = Invariant {
    name: "log-recovery",
    source: "Pillai et al., All File Systems Are Not Created Equal §2; the log's own contract",
};

/// What a restart found.
pub(crate) struct Recovered<'a> {
    pub(crate) state: &'a GroupState,
    /// The records given to the log but not reported as durable, in order.
    pub(crate) under_way: &'a [LogAction],
}

/// One record for the log.
#[derive(Clone, Debug)]
pub(crate) enum LogAction {
    Write(Write),
    Release(SnapshotMeta),
}

impl LogAction {
    fn apply(&self, disk: &mut DurableLog) {
        match self {
            Self::Write(write) => disk.write(write),
            Self::Release(meta) => disk.release(meta),
        }
    }
}

/// Returns the log's current content.
pub(super) fn check(
    node: NodeId,
    durable: &DurableLog,
    recovered: &Recovered<'_>,
) -> Check<DurableLog> {
    let found = DurableLog::recovered(recovered.state, durable.installed);
    let mut allowed = durable.clone();
    if allowed == found {
        return Ok(found);
    }
    for action in recovered.under_way {
        action.apply(&mut allowed);
        if allowed == found {
            return Ok(found);
        }
    }
    let pending = recovered.under_way.len();
    Err(RULE.broken(format!(
        "n{node} finds {} after a restart; {} was durable and {pending} records were in flight",
        brief(&found),
        brief(durable)
    )))
}

fn brief(disk: &DurableLog) -> String {
    let (start, last, hard_state) = (disk.start.last, disk.last(), disk.hard_state);
    format!(
        "({start}, {last}] with {} entries and {hard_state:?}",
        disk.entries.len()
    )
}
