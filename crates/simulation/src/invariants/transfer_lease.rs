//! A leader that transfers leadership has no lease.
//!
//! The target of a transfer gets the votes of nodes that promised to abstain, which is the purpose
//! of a transfer. So the request ends what the lease relies on. `lease-exclusivity` only detects
//! the consequence, which requires that the target wins before the lease would have ended and the
//! old leader has not learned of it.

use synod_consensus_core::{Role, Status};
use synod_types::{NodeId, Tick};

use super::{Check, Invariant};

pub(crate) const RULE: Invariant = Invariant {
    name: "transfer-ends-lease",
    source: "Raft thesis §3.10 and §6.4.1: a transfer overrides what leases rest on",
};

/// Called after a turn. `lease` is the one published to readers outside the driver.
pub(crate) fn check(node: NodeId, status: &Status, lease: Option<Tick>) -> Check {
    let hands_over = status.role == Role::Leader && status.transferee.is_some();
    RULE.ensure(!(hands_over && lease.is_some()), || {
        format!(
            "n{node} transfers leadership to {:?} in {} and still has a lease",
            status.transferee, status.ballot
        )
    })
}
