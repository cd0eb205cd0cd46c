//! While a leader's lease runs, by its own clock, no other node leads in a later ballot.

use std::collections::BTreeMap;

use synod_types::{Ballot, NodeId};

use super::{Check, Invariant};
use crate::time::Time;

pub(crate) const RULE: Invariant = Invariant {
    name: "lease-exclusivity",
    source: "Gray and Cheriton, Leases §2; Raft thesis §6.4.1",
};

/// What a node may do without a round trip.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lease {
    pub(crate) ballot: Ballot,
    /// Whether it is the leader.
    pub(crate) leads: bool,
    /// When its lease ends, in true time; `None` without a lease.
    pub(crate) until: Option<Time>,
}

/// The nodes' leases.
#[derive(Default)]
pub(crate) struct Leases {
    nodes: BTreeMap<NodeId, Lease>,
}

impl Leases {
    pub(super) fn gone(&mut self, node: NodeId) {
        self.nodes.remove(&node);
    }

    /// A node's role or lease may have changed.
    pub(crate) fn check(&mut self, now: Time, node: NodeId, lease: Lease) -> Check {
        if !lease.leads {
            self.nodes.remove(&node);
            return Ok(());
        }
        for (other, theirs) in &self.nodes {
            if *other == node {
                continue;
            }
            let (old, new, holder) = if theirs.ballot < lease.ballot {
                (theirs, &lease, other)
            } else {
                (&lease, theirs, &node)
            };
            RULE.ensure(old.until.is_none_or(|until| now >= until), || {
                format!(
                    "n{holder} has a lease in {} up to {:?}, but {} is led already at {now}",
                    old.ballot, old.until, new.ballot
                )
            })?;
        }
        self.nodes.insert(node, lease);
        Ok(())
    }
}
