//! The steps that lead to a model's initial state.

use std::sync::Arc;

use stateright::Model as _;
use synod_consensus_core::{Body, CommonBody, PaxosBody, RaftBody};
use synod_types::NodeId;

use crate::{
    bounds::{NODES, Step},
    model::{Action, CoreModel, World, id},
    node::Core,
};

impl<C: Core> CoreModel<C> {
    /// The world after this step. All bounds stay the same, except for proposals.
    pub(crate) fn begin(&self, world: &World, step: Step) -> World {
        let after = |world: World, action| self.next_state(&world, action).unwrap_or(world);
        let world = world.clone();
        let world = match step {
            Step::Tick(at) => after(world, Action::Tick(at)),
            Step::Propose(at) => after(world, Action::Propose(at)),
            Step::Change(at) => after(world, Action::Change(at)),
            Step::Settle(nodes) => self.settle(world, nodes),
            Step::Lose => World {
                network: Arc::new([]),
                ..world
            },
        };
        World {
            ticks: [0; NODES],
            changes: 0,
            ..world
        }
    }

    /// The world after all messages between these nodes have arrived once and are written.
    fn settle(&self, mut world: World, nodes: &[usize]) -> World {
        let is_one = |node: NodeId| nodes.iter().any(|at| id(*at) == node);
        let mut arrived = Vec::new();
        loop {
            world = self.written(world, nodes);
            let fresh = world.network.iter().copied().find(|number| {
                let message = Arc::clone(self.tables().messages.get(*number));
                !arrived.contains(number) && is_one(message.from) && is_one(message.to)
            });
            let Some(message) = fresh else {
                return world;
            };
            arrived.push(message);
            let next = self.next_state(&world, Action::Deliver(message));
            world = next.unwrap_or(world);
        }
    }

    /// The world after all writes and snapshots in flight to these nodes have arrived.
    fn written(&self, mut world: World, nodes: &[usize]) -> World {
        for at in nodes {
            loop {
                let node = Arc::clone(self.tables().nodes.get(world.nodes[*at]));
                let action = match (node.has_pending(), node.is_installing()) {
                    (true, _) => Action::Persist(*at),
                    (false, true) => Action::Install(*at),
                    (false, false) => break,
                };
                world = self.next_state(&world, action).unwrap_or(world);
            }
        }
        world
    }

    /// The world after an election that only these two nodes noticed.
    pub(crate) fn elect(&self, world: &World, candidate: usize, voter: usize) -> World {
        let after = |world: World, action| {
            let world = self.next_state(&world, action).unwrap_or(world);
            self.written(world, &[candidate, voter])
        };
        let mut world = world.clone();
        let leads = |world: &World| self.tables().nodes.get(world.nodes[candidate]).leads();
        // The voter may already have voted in the candidate's first ballot.
        let tries = if candidate == voter { 1 } else { 2 };
        for _ in 0..tries {
            if leads(&world) {
                break;
            }
            world = after(world, Action::Tick(candidate));
            // Pre-votes, then votes.
            for (from, to) in [(candidate, voter), (voter, candidate)].repeat(2) {
                world = self.exchange_votes(world, id(from), id(to));
                world = self.written(world, &[from, to]);
            }
        }
        assert!(leads(&world) || candidate == voter, "two are a majority");
        if self.bounds.proposals_before && leads(&world) {
            world = after(world, Action::Propose(candidate));
        }
        world = after(world, Action::Crash(candidate, u8::MAX));
        World {
            network: Arc::new([]),
            ticks: [0; NODES],
            crashes: 0,
            ..world
        }
    }

    fn exchange_votes(&self, mut world: World, from: NodeId, to: NodeId) -> World {
        for number in Arc::clone(&world.network).iter() {
            let message = Arc::clone(self.tables().messages.get(*number));
            let is_vote = matches!(
                message.body,
                Body::Common(CommonBody::PreVote { .. } | CommonBody::PreVoteReply { .. })
                    | Body::Raft(RaftBody::Vote { .. } | RaftBody::VoteReply { .. })
                    | Body::Paxos(PaxosBody::Prepare { .. } | PaxosBody::Promise { .. })
            );
            if is_vote && message.from == from && message.to == to {
                let next = self.next_state(&world, Action::Deliver(*number));
                world = next.unwrap_or(world);
            }
        }
        world
    }
}
