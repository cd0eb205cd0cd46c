//! The group and its network as a stateright [`Model`].

use std::{
    fmt,
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use stateright::{Checker as _, HasDiscoveries, Model, Property};
use synod_consensus_core::{
    CoreConfig, EntryKind, Input, MemberChange, Membership, Proposal, ReadContext, ReadMode,
};
use synod_types::{NodeId, RequestId};

use crate::{
    bounds::{Bounds, NODES},
    ghost::{Ghost, Violations},
    node::{Core, Effects, Node, Setting},
    tables::{Event, Outcome, Tables},
};

/// The model of a group of `C`.
#[derive(Debug)]
pub struct CoreModel<C> {
    pub(crate) bounds: Bounds,
    tables: Mutex<Tables<C>>,
    core: PhantomData<C>,
    #[cfg(feature = "mutants")]
    mutant: Option<synod_consensus_core::mutants::Mutant>,
}

/// A state of the group. Its numbers are keys in the model's tables.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub(crate) nodes: [u32; NODES],
    /// All messages ever sent, in ascending order.
    pub(crate) network: Arc<[u32]>,
    pub(crate) ghost: u32,
    pub(crate) ticks: [u8; NODES],
    pub(crate) proposals: u8,
    pub(crate) changes: u8,
    pub(crate) reads: u8,
    pub(crate) crashes: u8,
}

/// An action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A message arrives.
    Deliver(u32),
    /// Time advances at this node.
    Tick(usize),
    /// This node makes the next proposal.
    Propose(usize),
    /// This node makes the membership change.
    Change(usize),
    /// This node requests the next read.
    Read(usize),
    /// The snapshot that this node waits for arrives.
    Install(usize),
    /// This node's oldest batch of writes becomes durable.
    Persist(usize),
    /// This node crashes and restarts. This many writes of its oldest batch are durable.
    Crash(usize, u8),
}

/// The result of a check.
#[derive(Debug)]
pub struct Report {
    /// The number of distinct states.
    pub states: usize,
    /// The number of steps, including those to known states.
    pub steps: usize,
    /// The number of distinct states of single nodes, and of distinct messages.
    pub parts: (usize, usize),
    /// The depth of the state graph.
    pub depth: usize,
    /// The first `always` property that failed, and the steps that lead to the failure.
    pub counterexample: Option<(&'static str, Vec<String>)>,
    /// `sometimes` properties without an example.
    pub never: Vec<&'static str>,
}

impl<C: Core> CoreModel<C> {
    /// A model of a group with these bounds.
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

    /// The same model with one rule of the core disabled.
    #[cfg(feature = "mutants")]
    #[must_use]
    pub fn without(mut self, rule: synod_consensus_core::mutants::Mutant) -> Self {
        self.mutant = Some(rule);
        self
    }

    /// Visits all states on one thread.
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

    pub(crate) fn tables(&self) -> MutexGuard<'_, Tables<C>> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ghost(&self, world: &World) -> Arc<Ghost> {
        Arc::clone(self.tables().ghosts.get(world.ghost))
    }

    fn violations(&self, world: &World) -> Violations {
        self.tables().ghosts.get(world.ghost).violations
    }

    fn membership(&self) -> Membership {
        Membership::of((1..=self.bounds.voters).map(NodeId::new))
    }

    fn setting(&self) -> Setting {
        let bounds = &self.bounds;
        Setting {
            disks: bounds.disks,
            compacts: bounds.compacts,
            installs: bounds.compacts || !bounds.change.is_empty(),
            reads: bounds.reads > 0,
            shell: bounds.shell,
        }
    }

    fn config(&self, node: usize) -> CoreConfig {
        let id = id(node);
        // Each node has its own seed, the same in every run and after every crash.
        let mut config = CoreConfig::new(id, id.get());
        config.pre_vote = self.bounds.promises;
        config.check_quorum = self.bounds.promises;
        config.lease_ticks = config.election_ticks;
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
            Event::Propose(_)
            | Event::Change
            | Event::Read(_)
            | Event::Tick
            | Event::Persist
            | Event::Install
            | Event::Crash(_) => None,
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
                Outcome {
                    node,
                    sent,
                    news: effects.is_news().then(|| Arc::new(effects)),
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
        let setting = self.setting();
        #[cfg(feature = "mutants")]
        synod_consensus_core::mutants::activate(self.mutant);
        let mut node = node.clone();
        let effects = match event {
            Event::Deliver(_) => message.map_or_else(Effects::default, |message| {
                node.step(Input::Message(message), setting)
            }),
            Event::Propose(number) => node.step(Input::Propose(proposal(number)), setting),
            Event::Change => {
                let change = MemberChange {
                    id: request(0),
                    changes: self.bounds.change.to_vec(),
                    context: Bytes::new(),
                };
                node.step(Input::ChangeMembers(change), setting)
            }
            Event::Read(number) => {
                let (ctx, mode) = (ReadContext(number.into()), ReadMode::Index);
                node.step(Input::Read { ctx, mode }, setting)
            }
            Event::Tick => node.tick(setting),
            Event::Persist => node.persist(setting),
            Event::Install => node.install(setting),
            Event::Crash(torn) => {
                node = node.crash(self.config(at), usize::from(torn), setting.shell);
                Effects::default()
            }
        };
        (node, effects)
    }
}

pub(crate) fn id(node: usize) -> NodeId {
    NodeId::new(node as u64 + 1)
}

fn request(number: u8) -> RequestId {
    RequestId {
        node: NodeId::new(9),
        seq: u64::from(number),
    }
}

fn proposal(number: u8) -> Proposal {
    Proposal {
        id: request(number),
        data: Bytes::new(),
    }
}

impl<C: Core> Model for CoreModel<C> {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let mut tables = self.tables();
        let nodes = std::array::from_fn(|node| {
            let node = Node::new(self.config(node), self.membership());
            tables.nodes.number(node)
        });
        let mut world = World {
            nodes,
            network: Arc::new([]),
            ghost: tables.ghosts.number(Ghost::default()),
            ticks: [0; NODES],
            proposals: 0,
            changes: 0,
            reads: 0,
            crashes: 0,
        };
        drop(tables);
        for (candidate, voter) in self.bounds.before {
            world = self.elect(&world, *candidate, *voter);
        }
        for step in self.bounds.start {
            world = self.begin(&world, *step);
        }
        vec![world]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        let tables = self.tables();
        if tables.ghosts.get(world.ghost).violations.any() {
            // The shortest path to this state is enough.
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
            if world.changes == 0 && !self.bounds.change.is_empty() && node.leads() {
                actions.push(Action::Change(at));
            }
            if world.reads < self.bounds.reads && node.leads() {
                actions.push(Action::Read(at));
            }
            if node.is_installing() {
                actions.push(Action::Install(at));
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
            Action::Change(at) => {
                world.changes += 1;
                (at, Event::Change)
            }
            Action::Read(at) => {
                world.reads += 1;
                let mut ghost = tables.ghosts.get(world.ghost).as_ref().clone();
                ghost.ask(world.reads);
                world.ghost = tables.ghosts.number(ghost);
                (at, Event::Read(world.reads))
            }
            Action::Install(at) => (at, Event::Install),
            Action::Persist(at) => (at, Event::Persist),
            Action::Crash(at, torn) => {
                world.crashes += 1;
                (at, Event::Crash(torn))
            }
        };
        let outcome = self.outcome(&mut tables, at, world.nodes[at], event);
        let is_refused = outcome.node == last.nodes[at] && outcome.sent.is_empty();
        if is_refused && matches!(event, Event::Change | Event::Read(_)) {
            return None;
        }
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
        let mut properties = vec![
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
                    !violations.has(Violations::PANIC) && !violations.has(Violations::INVALID)
                },
            ),
            Property::always(
                "a durable quorum has what is committed",
                |model: &Self, world: &World| {
                    let tables = model.tables();
                    let nodes = world.nodes.map(|node| tables.nodes.get(node).as_ref());
                    let ghost = tables.ghosts.get(world.ghost);
                    ghost.is_durable(&nodes, &model.membership())
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
        ];
        let bounds = &self.bounds;
        if !bounds.change.is_empty() {
            let name = "the membership changes";
            properties.push(Property::sometimes(name, |model: &Self, world: &World| {
                let ghost = model.ghost(world);
                let mut committed = ghost.committed.values();
                committed.any(|committed| committed.entry.kind == EntryKind::Config)
            }));
        }
        if bounds.compacts {
            let name = "a snapshot has what was committed";
            properties.push(Property::always(name, |model: &Self, world: &World| {
                !model.violations(world).has(Violations::SNAPSHOT)
            }));
            let name = "a snapshot is installed";
            properties.push(Property::sometimes(name, |model: &Self, world: &World| {
                model.ghost(world).installed
            }));
        }
        if bounds.reads > 0 {
            let name = "a read misses nothing";
            properties.push(Property::always(name, |model: &Self, world: &World| {
                !model.violations(world).has(Violations::READ)
            }));
            let name = "a read is answered";
            properties.push(Property::sometimes(name, |model: &Self, world: &World| {
                model.ghost(world).read
            }));
        }
        properties
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
