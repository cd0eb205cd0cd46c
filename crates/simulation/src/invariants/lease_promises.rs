//! A leader's lease ends before enough of the voters behind it are free to elect another leader.
//!
//! `lease-exclusivity` only detects the consequence, which requires a candidate at the right
//! moment. This invariant compares the clocks themselves, at every turn of a leader.

use std::collections::BTreeMap;

use synod_consensus_core::{Body, CommonBody, Membership, Message, PaxosBody, RaftBody};
use synod_types::{Ballot, NodeId, Tick};

use super::durable_quorum::has_quorum;
use super::kept_promises::Kept;
use super::{Check, Invariant, Lease};
use crate::time::{Clock, Time};

pub(crate) const RULE: Invariant = Invariant {
    name: "lease-promises",
    source: "Gray and Cheriton, Leases §2, §5: a lease ends for its holder before it ends for those who gave it, \
             as far as clocks may differ; Raft thesis §6.4.1",
};

/// The voters' promises, each by its own clock.
#[derive(Default)]
pub(crate) struct Promises {
    clocks: BTreeMap<NodeId, Clock>,
    until: BTreeMap<NodeId, Tick>,
    /// For how many ticks each leader asks.
    asked: BTreeMap<Ballot, u64>,
    pub(super) kept: Kept,
}

impl Promises {
    /// A message reaches a node that was in this ballot. If a leader sent it, the node supports no
    /// other candidate for as long as the leader asks. That also holds after a restart, because the
    /// node is silent then.
    pub(super) fn received(
        &mut self,
        node: NodeId,
        ballot: Ballot,
        (now, loyal_until): (Tick, Tick),
        message: &Message,
    ) {
        if let Body::Common(CommonBody::Heartbeat { lease_ticks, .. }) = &message.body {
            let asked = lease_ticks.unwrap_or_default();
            self.asked.insert(message.ballot, asked);
        }
        let is_leaders = match &message.body {
            Body::Common(body) => matches!(
                body,
                CommonBody::Heartbeat { .. }
                    | CommonBody::Commit { .. }
                    | CommonBody::Snapshot { .. }
            ),
            Body::Raft(body) => matches!(body, RaftBody::Append { .. }),
            Body::Paxos(body) => matches!(body, PaxosBody::Accept { .. }),
        };
        if is_leaders && message.ballot >= ballot {
            // No heartbeat yet: no lease rests on this.
            let asked = self.asked.get(&message.ballot).copied().unwrap_or_default();
            let until = now.plus(asked);
            self.until.insert(node, until);
            self.kept.heard(node, message, until, loyal_until);
        }
    }

    /// A node has acted, or its clock has changed. When the leader's lease ends, in true time, the
    /// voters that are free must not be a quorum of the leader's configuration.
    pub(crate) fn check(
        &mut self,
        now: Time,
        node: NodeId,
        clock: Clock,
        membership: &Membership,
        lease: &Lease,
    ) -> Check {
        self.clocks.insert(node, clock);
        let Some(until) = lease.until.filter(|until| lease.leads && *until > now) else {
            return Ok(());
        };
        // The leader itself is not counted as free: its lease ends when it steps down.
        let is_free = |id| id != node && self.free_at(id, now) < until;
        RULE.ensure(!has_quorum(membership, is_free), || {
            let others = membership.members().into_iter().filter(|id| *id != node);
            let free: Vec<(NodeId, Time)> = others.map(|id| (id, self.free_at(id, now))).collect();
            let ballot = lease.ballot;
            format!("n{node} has a lease in {ballot} up to {until}, but others are free to elect another leader from {free:?} on")
        })
    }

    /// The true time from which a node may support any candidate; never earlier than now.
    fn free_at(&self, node: NodeId, now: Time) -> Time {
        let until = self.until.get(&node).copied().unwrap_or_default();
        let clock = self.clocks.get(&node);
        clock.map_or(now, |clock| clock.time_of(until, now).unwrap_or(Time::MAX))
    }
}
