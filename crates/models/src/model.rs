//! The group and its network as a [`Model`].

use std::{
    fmt,
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use stateright::{Checker as _, HasDiscoveries, Model, Property};
use synod_consensus_core::{Body, CoreConfig, EntryKind, Input, Proposal};
use synod_types::{NodeId, RequestId};

use crate::{
    ghost::{Ghost, Violations},
    node::{Core, Disks, Effects, Node, Shell},
    tables::{Event, Outcome, Tables},
};

/// Nodes of the group.
const NODES: usize = 3;

/// How far a run may go.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// How often each node's next deadline may come: election timeouts, or heartbeats of a leader.
    pub ticks: [u8; NODES],
    /// How often any of them may come.
    pub all_ticks: u8,
    /// Proposals, each at a node that leads.
    pub proposals: u8,
    /// Crashes, each with a restart.
    pub crashes: u8,
    /// The disks.
    pub disks: Disks,
    /// What the network ever delivers.
    pub traffic: Traffic,
    /// Entries in a message, at most one instead of all that fit.
    pub single_entries: bool,
    /// Pre-vote, and promises not to vote (with them, leases).
    pub promises: bool,
    /// Elections that came before, as candidate and voter: of each only the votes between these two
    /// arrived, and nothing else that was sent ever will. The new leader wrote its no-op and crashed.
    /// A candidate that is its own voter got no vote at all.
    pub before: &'static [(usize, usize)],
    /// Whether each of these leaders also wrote a proposal before it crashed.
    pub proposals_before: bool,
    /// The shell.
    pub shell: Shell,
}

/// What the network delivers at all. What it never does is lost in every run, which cores must bear: the
/// states get fewer, and none is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// Everything.
    All,
    /// All but heartbeats and their answers.
    NoHeartbeats,
    /// Only what elects leaders, and replicates and acknowledges entries: no heartbeats, and no word about
    /// commits but that in appends.
    Essential,
}

impl Traffic {
    fn delivers(self, body: &Body) -> bool {
        match self {
            Self::All => true,
            Self::NoHeartbeats => !is_heartbeat(body),
            Self::Essential => !is_heartbeat(body) && !matches!(body, Body::Commit { .. }),
        }
    }
}

fn is_heartbeat(body: &Body) -> bool {
    matches!(body, Body::Heartbeat { .. } | Body::HeartbeatReply { .. })
}

/// The model of a group of `C`.
#[derive(Debug)]
pub struct CoreModel<C> {
    bounds: Bounds,
    tables: Mutex<Tables<C>>,
    core: PhantomData<C>,
    #[cfg(feature = "mutants")]
    mutant: Option<synod_consensus_core::mutants::Mutant>,
}

/// A state of the group: numbers that stand for values in the model's tables.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    nodes: [u32; NODES],
    /// All that was ever sent, ascending.
    network: Arc<[u32]>,
    ghost: u32,
    ticks: [u8; NODES],
    proposals: u8,
    crashes: u8,
}

/// One thing that can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A message arrives.
    Deliver(u32),
    /// Time passes at this node.
    Tick(usize),
    /// The next proposal is made at this node.
    Propose(usize),
    /// The oldest writes under way reach this node's disk.
    Persist(usize),
    /// This node crashes and starts again, with so many writes of the oldest batch on its disk.
    Crash(usize, u8),
}

/// What a check found.
#[derive(Debug)]
pub struct Report {
    /// Different states.
    pub states: usize,
    /// Steps taken, those that led to known states included.
    pub steps: usize,
    /// Different states of single nodes, and different messages.
    pub parts: (usize, usize),
    /// The longest shortest path.
    pub depth: usize,
    /// Which `always` property failed first, and the steps that lead there.
    pub counterexample: Option<(&'static str, Vec<String>)>,
    /// `sometimes` properties without an example.
    pub never: Vec<&'static str>,
}

impl<C: Core> CoreModel<C> {
    /// A group within these bounds.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            tables: Mutex::default(),
            core: PhantomData,
            #[cfg(feature = "mutants")]
            mutant: None,
        }
    }

    /// The same with a rule of the core taken away.
    #[cfg(feature = "mutants")]
    #[must_use]
    pub fn without(mut self, rule: synod_consensus_core::mutants::Mutant) -> Self {
        self.mutant = Some(rule);
        self
    }

    /// Walks through all states, on one thread.
    #[must_use]
    pub fn check(self) -> Report {
        let checker = self
            .checker()
            .threads(1)
            .finish_when(HasDiscoveries::AnyFailures)
            .spawn_bfs()
            .join();
        let model = checker.model();
        let discoveries = checker.discoveries();
        let mut counterexample = None;
        let mut never = Vec::new();
        for property in model.properties() {
            let found = discoveries.get(property.name);
            match (property.expectation.discovery_is_failure(), found) {
                (true, Some(path)) if counterexample.is_none() => {
                    let states = path.clone().into_vec();
                    counterexample = Some((property.name, model.describe(&states)));
                }
                (false, None) => never.push(property.name),
                (true | false, _) => {}
            }
        }
        let tables = model.tables();
        Report {
            states: checker.unique_state_count(),
            steps: checker.state_count(),
            parts: (tables.nodes.len(), tables.messages.len()),
            depth: checker.max_depth(),
            counterexample,
            never,
        }
    }

    /// The world after an election that nobody but these two noticed.
    fn elect(&self, world: &World, candidate: usize, voter: usize) -> World {
        let after = |world: World, action| self.next_state(&world, action).unwrap_or(world);
        let mut world = world.clone();
        let leads = |world: &World| self.tables().nodes.get(world.nodes[candidate]).leads();
        // The voter may have voted in the first ballot that the candidate tries.
        let tries = if candidate == voter { 1 } else { 2 };
        for _ in 0..tries {
            if leads(&world) {
                break;
            }
            world = after(world, Action::Tick(candidate));
            // Pre-votes, then votes.
            for (from, to) in [(candidate, voter), (voter, candidate)].repeat(2) {
                world = self.exchange_votes(world, id(from), id(to));
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
                Body::PreVote { .. }
                    | Body::PreVoteReply { .. }
                    | Body::Vote { .. }
                    | Body::VoteReply { .. }
                    | Body::Prepare { .. }
                    | Body::Promise { .. }
            );
            if is_vote && message.from == from && message.to == to {
                let next = self.next_state(&world, Action::Deliver(*number));
                world = next.unwrap_or(world);
            }
        }
        world
    }

    fn describe(&self, path: &[(World, Option<Action>)]) -> Vec<String> {
        let tables = self.tables();
        let lines = path.iter().map(|(world, action)| match action {
            Some(Action::Deliver(message)) => format!("{:?}", tables.messages.get(*message)),
            Some(other) => format!("{other:?}"),
            None => {
                let ghost = tables.ghosts.get(world.ghost);
                format!("violated: [{}]; {ghost:?}", ghost.violations)
            }
        });
        lines.collect()
    }

    fn tables(&self) -> MutexGuard<'_, Tables<C>> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ghost(&self, world: &World) -> Arc<Ghost> {
        Arc::clone(self.tables().ghosts.get(world.ghost))
    }

    fn violations(&self, world: &World) -> Violations {
        self.tables().ghosts.get(world.ghost).violations
    }

    fn config(&self, node: usize) -> CoreConfig {
        let id = id(node);
        // A seed a node, the same in every run and after every crash.
        let mut config = CoreConfig::new(id, id.get());
        config.pre_vote = self.bounds.promises;
        config.check_quorum = self.bounds.promises;
        if self.bounds.single_entries {
            config.max_append_bytes = 1;
        }
        config
    }

    /// The outcome of an event at a node, computed once.
    fn outcome(&self, tables: &mut Tables<C>, at: usize, state: u32, event: Event) -> Arc<Outcome> {
        if let Some(known) = tables.steps.get(&(state, event)) {
            return Arc::clone(known);
        }
        let node = Arc::clone(tables.nodes.get(state));
        let message = match event {
            Event::Deliver(message) => Some(tables.messages.get(message).as_ref().clone()),
            Event::Propose(_) | Event::Tick | Event::Persist | Event::Crash(_) => None,
        };
        let run = AssertUnwindSafe(|| self.run(at, &node, event, message));
        let outcome = match catch_unwind(run) {
            Ok((node, effects)) => {
                let node = tables.nodes.number(node);
                let traffic = self.bounds.traffic;
                let sent = effects
                    .sent
                    .iter()
                    .filter(|m| traffic.delivers(&m.body))
                    .cloned();
                let mut sent: Vec<u32> = sent.map(|m| tables.messages.number(m)).collect();
                sent.sort_unstable();
                sent.dedup();
                let is_news =
                    !effects.committed.is_empty() || effects.led.is_some() || effects.senseless;
                Outcome {
                    node,
                    sent,
                    news: is_news.then(|| Arc::new(effects)),
                    panicked: false,
                }
            }
            Err(_) => Outcome {
                node: state,
                sent: Vec::new(),
                news: None,
                panicked: true,
            },
        };
        let outcome = Arc::new(outcome);
        tables.steps.insert((state, event), Arc::clone(&outcome));
        outcome
    }

    fn run(
        &self,
        at: usize,
        node: &Node<C>,
        event: Event,
        message: Option<synod_consensus_core::Message>,
    ) -> (Node<C>, Effects) {
        let Bounds { disks, shell, .. } = self.bounds;
        #[cfg(feature = "mutants")]
        synod_consensus_core::mutants::activate(self.mutant);
        let mut node = node.clone();
        let effects = match event {
            Event::Deliver(_) => message.map_or_else(Effects::default, |message| {
                node.step(Input::Message(message), disks, shell)
            }),
            Event::Propose(number) => node.step(Input::Propose(proposal(number)), disks, shell),
            Event::Tick => node.tick(disks, shell),
            Event::Persist => node.persist(disks, shell),
            Event::Crash(torn) => {
                let (config, nodes) = (self.config(at), NODES as u64);
                node = node.crash(config, nodes, usize::from(torn), shell);
                Effects::default()
            }
        };
        (node, effects)
    }
}

fn id(node: usize) -> NodeId {
    NodeId::new(node as u64 + 1)
}

fn proposal(number: u8) -> Proposal {
    let id = RequestId {
        node: NodeId::new(9),
        seq: u64::from(number),
    };
    Proposal {
        id,
        data: Bytes::new(),
    }
}

impl<C: Core> Model for CoreModel<C> {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let mut tables = self.tables();
        let nodes = std::array::from_fn(|node| {
            let node = Node::new(self.config(node), NODES as u64);
            tables.nodes.number(node)
        });
        let mut world = World {
            nodes,
            network: Arc::new([]),
            ghost: tables.ghosts.number(Ghost::default()),
            ticks: [0; NODES],
            proposals: 0,
            crashes: 0,
        };
        drop(tables);
        for (candidate, voter) in self.bounds.before {
            world = self.elect(&world, *candidate, *voter);
        }
        vec![world]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        let tables = self.tables();
        if tables.ghosts.get(world.ghost).violations.any() {
            // The shortest way here is enough.
            return;
        }
        actions.extend(
            world
                .network
                .iter()
                .map(|message| Action::Deliver(*message)),
        );
        let ticks: u8 = world.ticks.iter().sum();
        for at in 0..NODES {
            let node = tables.nodes.get(world.nodes[at]);
            if world.ticks[at] < self.bounds.ticks[at] && ticks < self.bounds.all_ticks {
                actions.push(Action::Tick(at));
            }
            if world.proposals < self.bounds.proposals && node.leads() {
                actions.push(Action::Propose(at));
            }
            if node.has_pending() {
                actions.push(Action::Persist(at));
            }
            if world.crashes < self.bounds.crashes {
                let tears = u8::try_from(node.tears()).expect("small batches");
                actions.extend((0..tears).map(|torn| Action::Crash(at, torn)));
            }
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut tables = self.tables();
        let mut world = last.clone();
        let (at, event) = match action {
            Action::Deliver(message) => {
                let to = tables.messages.get(message).to.get() - 1;
                let at = usize::try_from(to).expect("one of three");
                (at, Event::Deliver(message))
            }
            Action::Tick(at) => {
                world.ticks[at] += 1;
                (at, Event::Tick)
            }
            Action::Propose(at) => {
                world.proposals += 1;
                (at, Event::Propose(world.proposals))
            }
            Action::Persist(at) => (at, Event::Persist),
            Action::Crash(at, torn) => {
                world.crashes += 1;
                (at, Event::Crash(torn))
            }
        };
        let outcome = self.outcome(&mut tables, at, world.nodes[at], event);
        world.nodes[at] = outcome.node;
        if outcome
            .sent
            .iter()
            .any(|m| world.network.binary_search(m).is_err())
        {
            let mut all = world.network.to_vec();
            all.extend(&outcome.sent);
            all.sort_unstable();
            all.dedup();
            world.network = all.into();
        }
        if outcome.news.is_some() || outcome.panicked {
            let mut ghost = tables.ghosts.get(world.ghost).as_ref().clone();
            if let Some(effects) = &outcome.news {
                ghost.observe::<C>(id(at), effects, world.crashes);
            }
            if outcome.panicked {
                ghost.violations.add(Violations::PANIC);
            }
            world.ghost = tables.ghosts.number(ghost);
        }
        (world != *last).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("agreement by slot", |model: &Self, world: &World| {
                !model.violations(world).has(Violations::AGREEMENT)
            }),
            Property::always("one leader a ballot", |model: &Self, world: &World| {
                !model.violations(world).has(Violations::ELECTION)
            }),
            Property::always(
                "a leader has what was committed",
                |model: &Self, world: &World| {
                    !model.violations(world).has(Violations::COMPLETENESS)
                },
            ),
            Property::always(
                "the core's own assertions hold",
                |model: &Self, world: &World| {
                    let violations = model.violations(world);
                    !violations.has(Violations::PANIC) && !violations.has(Violations::SENSELESS)
                },
            ),
            Property::always(
                "a durable quorum has what is committed",
                |model: &Self, world: &World| {
                    let tables = model.tables();
                    let nodes = world.nodes.map(|node| tables.nodes.get(node).as_ref());
                    tables.ghosts.get(world.ghost).is_durable(&nodes)
                },
            ),
            Property::sometimes("a leader emerges", |model: &Self, world: &World| {
                !model.ghost(world).leaders.is_empty()
            }),
            Property::sometimes("a proposal is committed", |model: &Self, world: &World| {
                let ghost = model.ghost(world);
                let mut committed = ghost.committed.values();
                committed.any(|committed| committed.entry.kind == EntryKind::Normal)
            }),
            Property::sometimes("a leader follows another", |model: &Self, world: &World| {
                model.ghost(world).leaders.len() > 1
            }),
            Property::sometimes(
                "a proposal is committed after a crash",
                |model: &Self, world: &World| model.ghost(world).committed_after_crash,
            ),
        ]
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { states, steps, .. } = self;
        let (nodes, messages) = self.parts;
        write!(
            f,
            "{states} states, {steps} steps, at most {} deep; {nodes} states of a node, {messages} messages",
            self.depth
        )?;
        if let Some((property, path)) = &self.counterexample {
            write!(f, "\nnot so: {property}")?;
            for step in path {
                write!(f, "\n  {step}")?;
            }
        }
        Ok(())
    }
}
