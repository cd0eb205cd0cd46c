//! Membership changes, and nodes that lose their data.

use std::collections::BTreeSet;

use synod_consensus_core::mutants::{Mutant, is_active};
use synod_consensus_core::{Change, Membership};
use synod_types::NodeId;

use crate::choices::Stream;
use crate::event::Event;
use crate::invariants::Check;
use crate::node::{End, Node, NodeState, Proposed, WriteRequest};
use crate::time::MS;
use crate::words;
use crate::world::World;

/// The interval of the operator's checks.
const OPERATOR_EVERY: u64 = 60 * MS;

impl World {
    /// Requests a random change from any node.
    pub(super) fn change_members(&mut self) {
        if self.misses_members() {
            return;
        }
        self.env.change_asked_at = self.env.now;
        let membership = self.env.committed_members.clone();
        let ids: Vec<NodeId> = self.nodes.iter().map(|node| node.id).collect();
        let mut changes = Vec::new();
        for id in ids {
            if !self.env.choices.often(Stream::Fault, 300) {
                continue;
            }
            let pick = self.env.choices.often(Stream::Fault, 500);
            changes.push(
                match (membership.is_learner(id), membership.is_voter(id), pick) {
                    (true, _, false) => Change::Promote(id),
                    (_, true, false) => Change::Demote(id),
                    (true, _, true) | (_, true, true) => Change::Remove(id),
                    (false, false, false) => Change::AddLearner(id),
                    (false, false, true) => Change::AddVoter(id),
                },
            );
        }
        let slot = self.any_slot();
        if !changes.is_empty() {
            self.ask(slot, changes);
        }
    }

    fn ask(&mut self, slot: usize, changes: Vec<Change>) {
        let World { env, nodes, .. } = self;
        let Some(node) = nodes.get_mut(slot) else {
            return;
        };
        words::fault(env, Some(node.id), &format!("requested {changes:?}"));
        let deadline = env.now + env.plan.patience_us;
        if let Some(process) = node.process_mut() {
            let what = Proposed::Members(changes);
            process.inbox.writes.push(WriteRequest { what, deadline });
        }
        node.wake(env);
    }

    /// A node loses its disk. It must not return under its old id, since it has forgotten its
    /// promises.
    pub(super) fn wipe_one(&mut self) -> Check {
        let slot = self.any_slot();
        let Some(id) = self.nodes.get(slot).map(|node| node.id) else {
            return Ok(());
        };
        if !self.may_lose(id) {
            return Ok(());
        }
        self.replace(slot)
    }

    /// Replaces a node that can't continue with an empty one.
    fn replace(&mut self, slot: usize) -> Check {
        let World {
            env,
            nodes,
            next_id,
            gone,
            ..
        } = self;
        let Some(node) = nodes.get_mut(slot) else {
            return Ok(());
        };
        node.end(env, End::Kill)?;
        let old = node.id;
        let new = if is_active(Mutant::WipedNodeSameId) {
            old
        } else {
            NodeId::new(*next_id)
        };
        *next_id += 1;
        words::fault(env, Some(old), &format!("lost; n{new} replaces it"));
        env.counts.replacements += 1;
        env.slots.remove(&old);
        env.checks.wiped(old);
        if new != old {
            gone.insert(old);
        }
        let epoch = node.epoch;
        *node = Node::new(env, slot, new, None)?;
        // Events for the old process must not reach the new one.
        node.epoch = epoch + 1;
        self.start(slot)
    }

    /// Removes lost members, replaces nodes that refuse to start, and restores the cluster's size.
    pub(crate) fn operate(&mut self) {
        self.env.after(OPERATOR_EVERY, Event::Operator);
        let refused = self
            .nodes
            .iter()
            .position(|node| matches!(node.state, NodeState::Refused));
        if let Some(slot) = refused
            && self.replace(slot).is_err()
        {
            return;
        }
        let Some((slot, status)) = self.leader() else {
            return;
        };
        let membership = status.membership;
        if membership.is_joint() || status.membership_index > status.commit {
            return;
        }
        let gone = self.gone.iter().find(|id| membership.contains(**id));
        if let Some(id) = gone.copied() {
            self.ask(slot, vec![Change::Remove(id)]);
            return;
        }
        // Replacements or, once faults have stopped, any available node.
        let first_new = self.env.plan.voters + self.env.plan.spares;
        let voters = usize::try_from(self.env.plan.voters).unwrap_or(usize::MAX);
        if membership.voters.len() >= voters {
            return;
        }
        let wanted: BTreeSet<NodeId> = self
            .nodes
            .iter()
            .filter(|node| node.is_running())
            .filter(|node| self.env.calm || node.id.get() > first_new)
            .map(|node| node.id)
            .collect();
        if let Some(change) = next_change(&membership, &wanted) {
            self.ask(slot, vec![change]);
        }
    }
}

/// Adds a learner first and then makes it a voter.
fn next_change(membership: &Membership, wanted: &BTreeSet<NodeId>) -> Option<Change> {
    let learner = wanted.iter().find(|id| membership.is_learner(**id));
    let outsider = wanted.iter().find(|id| !membership.contains(**id));
    learner
        .map(|id| Change::Promote(*id))
        .or_else(|| outsider.map(|id| Change::AddLearner(*id)))
}
