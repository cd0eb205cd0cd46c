//! A leader has all committed entries.

use synod_consensus_core::Status;
use synod_types::NodeId;

use super::{Agreement, Check, Invariant, Known};
use crate::Algorithm;

pub(crate) const RULE: Invariant = Invariant {
    name: "leader-completeness",
    source: "Raft §5.4 and Figure 3. A Paxos leader learns what is chosen in phase 1 (Paxos Made Simple §3); \
             there `agreement` covers it",
};

/// Called when a leader is first seen. By log matching, the last entry committed in an earlier
/// ballot stands for all. Entries of later ballots don't concern a leader that learns late that it
/// was elected.
pub(super) fn check(
    algorithm: Algorithm,
    node: NodeId,
    known: &Known,
    status: &Status,
    agreement: &Agreement,
) -> Check {
    match algorithm {
        Algorithm::Raft => {}
        Algorithm::MultiPaxos => return Ok(()),
    }
    let Some(last) = agreement.last_before(status.ballot) else {
        return Ok(());
    };
    RULE.ensure(
        known.shadow.holds(algorithm, last) && status.last.index >= last.index,
        || {
            format!(
                "n{node} leads in {} with a log up to {} and without the committed {last:?}",
                status.ballot, status.last
            )
        },
    )
}
