//! The world: the nodes, their shared environment, and the event loop.

use std::collections::BTreeSet;

use synod_consensus_core::{Membership, Status};
use synod_types::NodeId;

use crate::choices::{Choices, Stream};
use crate::clients::Clients;
use crate::env::Env;
use crate::event::Event;
use crate::invariants::{CORE_ASSERTION, Check, Invariants};
use crate::network::{MAX_NODES, Network};
use crate::node::{End, Node, NodeState, ShellEvent, Start};
use crate::plan::Plan;
use crate::report::Counts;
use crate::run::{CANARY, Options};
use crate::time::{MS, Queue, Time};
use crate::trace::Trace;

/// A run with more events than this is in an endless loop.
const MAX_EVENTS: u64 = 2_000_000;

pub(crate) struct World {
    pub(crate) env: Env,
    pub(crate) nodes: Vec<Node>,
    /// See [`Options::canary`].
    pub(crate) canary: Option<u64>,
    /// The id for the next replacement.
    pub(crate) next_id: u64,
    /// Members that are lost for good and that the group has not removed yet.
    pub(crate) gone: BTreeSet<NodeId>,
}

impl World {
    pub(crate) fn new(options: &Options<'_>) -> Check<Self> {
        let mut choices = match options.replay {
            Some(record) => Choices::replay(record),
            None => Choices::from_seed(options.seed, options.record),
        };
        let plan = Plan::draw(&mut choices, options.flavour, options.seed);
        Self::with_plan(options, choices, plan)
    }

    pub(crate) fn with_plan(options: &Options<'_>, choices: Choices, plan: Plan) -> Check<Self> {
        let members = plan.members();
        let mut env = Env {
            now: 0,
            queue: Queue::default(),
            checks: Invariants::new(options.algorithm, plan.base),
            trace: Trace::new(options.trace),
            counts: Counts::default(),
            net: Network::new(plan.network),
            clients: Clients::default(),
            slots: std::collections::BTreeMap::new(),
            committed_members: members.clone(),
            change_asked_at: 0,
            disk_factors: [1; MAX_NODES],
            calm: false,
            choices,
            plan,
        };
        let total = env.plan.voters + env.plan.spares;
        let plan = format!("{:?}", env.plan);
        if let Some(line) = env.trace.event(0, None, "plan") {
            line.word("of", plan);
        }
        let mut nodes = Vec::new();
        for number in 1..=total {
            let id = NodeId::new(number);
            let own = members.contains(id).then(|| members.clone());
            let slot = nodes.len();
            nodes.push(Node::new(&mut env, slot, id, own)?);
        }
        let mut world = Self {
            env,
            nodes,
            canary: options.canary,
            next_id: total + 1,
            gone: BTreeSet::new(),
        };
        for slot in 0..world.nodes.len() {
            world.start(slot)?;
        }
        for client in 0..world.env.plan.clients {
            let at = world.env.choices.between(Stream::Client, MS, 50 * MS);
            world.env.after(at, Event::Client { client });
        }
        if !world.env.plan.faults.is_empty() {
            world.env.after(100 * MS, Event::Fault);
        }
        world.env.after(150 * MS, Event::Operator);
        Ok(world)
    }

    /// Handles events up to and including this time, or until `done` returns true. Returns whether
    /// it did.
    pub(crate) fn run_until(
        &mut self,
        end: Time,
        mut done: impl FnMut(&mut Self) -> bool,
    ) -> Check<bool> {
        while self.env.queue.next_at().is_some_and(|at| at <= end) {
            let Some((at, event)) = self.env.queue.pop() else {
                break;
            };
            self.env.now = at;
            self.env.counts.events += 1;
            CORE_ASSERTION.ensure(self.env.counts.events < MAX_EVENTS, || {
                format!("{MAX_EVENTS} events by {at} us")
            })?;
            self.dispatch(event)?;
            let commits = self.env.counts.commits;
            CANARY.ensure(self.canary.is_none_or(|end| commits < end), || {
                format!("{commits} entries are committed")
            })?;
            if done(self) {
                return Ok(true);
            }
        }
        self.env.now = end.max(self.env.now);
        Ok(false)
    }

    fn dispatch(&mut self, event: Event) -> Check {
        let Some((slot, epoch)) = event.process() else {
            return self.dispatch_other(event);
        };
        let World { env, nodes, .. } = self;
        let Some(node) = nodes.get_mut(slot) else {
            return Ok(());
        };
        let Some(event) = node.admit(epoch, event) else {
            return Ok(());
        };
        match event {
            Event::Turn { .. } | Event::Wake { .. } => {
                node.turn(env)?;
                self.restart_later(slot);
                Ok(())
            }
            Event::LogDone { .. } => node.log_done(env),
            Event::LogIdle { commits, .. } => {
                node.log_idle(commits);
                Ok(())
            }
            Event::Apply { .. } => node.apply(env),
            Event::Flushed { begun, .. } => {
                node.flushed(env, *begun);
                Ok(())
            }
            Event::Fetch { .. } => self.fetch(slot, epoch),
            Event::SnapshotSent { to, ok, .. } => {
                node.tell(env, ShellEvent::SnapshotSent { to, ok });
                Ok(())
            }
            Event::Deliver { .. }
            | Event::Unreachable { .. }
            | Event::Gone { .. }
            | Event::Start { .. }
            | Event::Resume { .. }
            | Event::Request { .. }
            | Event::Reply { .. }
            | Event::Client { .. }
            | Event::GiveUp { .. }
            | Event::Fault
            | Event::Operator
            | Event::Pulse => Ok(()),
        }
    }

    fn dispatch_other(&mut self, event: Event) -> Check {
        match event {
            Event::Deliver { slot, message } => {
                let World { env, nodes, .. } = self;
                if let Some(node) = nodes.get_mut(slot) {
                    node.receive(env, *message);
                }
                Ok(())
            }
            Event::Unreachable { slot, node: peer } => {
                let World { env, nodes, .. } = self;
                if let Some(node) = nodes.get_mut(slot) {
                    node.tell(env, ShellEvent::Unreachable(peer));
                }
                Ok(())
            }
            Event::Gone { slot, node: peer } => {
                let World { env, nodes, .. } = self;
                if let Some(node) = nodes.get_mut(slot) {
                    node.tell(env, ShellEvent::Gone(peer));
                }
                Ok(())
            }
            Event::Start { slot } => self.start(slot),
            Event::Resume { slot, epoch } => {
                let World { env, nodes, .. } = self;
                if let Some(node) = nodes.get_mut(slot).filter(|node| node.epoch == epoch) {
                    node.resume(env);
                }
                Ok(())
            }
            Event::Request { slot, op } => self.request(slot, op),
            Event::Reply { op, answer } => self.reply(op, answer),
            Event::Client { client } => {
                self.client(client);
                Ok(())
            }
            Event::GiveUp { op } => self.give_up(op),
            Event::Fault => self.fault(),
            Event::Operator => {
                self.operate();
                Ok(())
            }
            Event::Pulse
            | Event::Turn { .. }
            | Event::Wake { .. }
            | Event::LogDone { .. }
            | Event::LogIdle { .. }
            | Event::Apply { .. }
            | Event::Flushed { .. }
            | Event::Fetch { .. }
            | Event::SnapshotSent { .. } => Ok(()),
        }
    }

    /// Starts a node that is down. Retries if the start is interrupted.
    pub(crate) fn start(&mut self, slot: usize) -> Check {
        let World { env, nodes, .. } = self;
        let Some(node) = nodes.get_mut(slot) else {
            return Ok(());
        };
        match node.start(env)? {
            Start::Running | Start::Refused => {}
            Start::Interrupted => env.after(50 * MS, Event::Start { slot }),
        }
        Ok(())
    }

    /// Restarts a process that ended by itself, like a supervisor.
    fn restart_later(&mut self, slot: usize) {
        if let Some(node) = self.nodes.get(slot)
            && matches!(node.state, NodeState::Down)
        {
            self.env.process_ended(node.id, End::Exit);
            let pause = self.env.choices.between(Stream::Fault, 20 * MS, 250 * MS);
            self.env.after(pause, Event::Start { slot });
        }
    }

    pub(crate) fn node_mut(&mut self, slot: usize) -> Option<&mut Node> {
        self.nodes.get_mut(slot)
    }

    /// The running leader with the latest ballot.
    pub(crate) fn leader(&self) -> Option<(usize, Status)> {
        let running = self.nodes.iter().filter(|node| node.is_running());
        let leaders = running.filter_map(|node| {
            let status = node.process()?.core.status();
            let leads = status.role == synod_consensus_core::Role::Leader;
            leads.then_some((node.slot, status))
        });
        leaders.max_by_key(|(_, status)| status.ballot)
    }

    /// The configurations in use by any node.
    pub(crate) fn memberships(&self) -> Vec<Membership> {
        let mut all = vec![self.env.committed_members.clone()];
        for node in &self.nodes {
            let own = node
                .process()
                .map(|process| process.core.status().membership);
            for membership in own
                .into_iter()
                .chain(self.env.checks.memberships_of(node.id))
            {
                if !membership.voters.is_empty() && !all.contains(&membership) {
                    all.push(membership);
                }
            }
        }
        all
    }

    /// Whether a member may be lost for good now. Not while another one is lost, nor during a
    /// change that an operator aware of the loss would not request.
    pub(crate) fn may_lose(&self, id: NodeId) -> bool {
        let quiet_since = self.env.change_asked_at + 2 * self.env.plan.patience_us + 800 * MS;
        let asked = self.env.change_asked_at > 0 && self.env.now < quiet_since;
        !asked && !self.misses_members() && self.survives_without(&[id])
    }

    /// Whether a member is lost for good and the group has not removed it yet.
    pub(crate) fn misses_members(&self) -> bool {
        let members = &self.env.committed_members;
        let useless = |node: &Node| node.damaged && members.contains(node.id);
        self.gone.iter().any(|gone| members.contains(*gone)) || self.nodes.iter().any(useless)
    }

    /// Whether every configuration that may be in effect has a quorum of nodes that may return,
    /// without these.
    pub(crate) fn survives_without(&self, without: &[NodeId]) -> bool {
        let lives = |id: NodeId| {
            let node = self
                .env
                .slots
                .get(&id)
                .and_then(|slot| self.nodes.get(*slot));
            let usable = node.is_some_and(|node| {
                node.id == id && !matches!(node.state, NodeState::Refused) && !node.damaged
            });
            usable && !without.contains(&id)
        };
        self.memberships()
            .iter()
            .all(|membership| membership.is_quorum(lives))
    }
}
