//! A leader that hands over has no lease.
//!
//! The one whom it asks to campaign gets the votes of those who promised their abstention: that is
//! what a transfer is for. So what the lease rests on is gone with the request. `lease-exclusivity`
//! sees the damage, for which the candidate must have won before the lease would have ended, and
//! the old leader must not have heard of it.

use synod_consensus_core::{Role, Status};
use synod_types::{NodeId, Tick};

use super::{Check, Invariant};

pub(crate) const RULE: Invariant = Invariant {
    name: "transfer-ends-lease",
    source: "Raft thesis §3.10 and §6.4.1: a transfer overrides what leases rest on",
};

/// After a turn. `lease` is what readers beside the driver go by.
pub(crate) fn check(node: NodeId, status: &Status, lease: Option<Tick>) -> Check {
    let hands_over = status.role == Role::Leader && status.transferee.is_some();
    RULE.ensure(!(hands_over && lease.is_some()), || {
        format!(
            "n{node} hands over to {:?} in {} and has a lease",
            status.transferee, status.ballot
        )
    })
}
