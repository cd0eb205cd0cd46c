//! Named cuts, and how long each algorithm takes to have a working leader again.
//!
//! There are no other faults. A group with production timing (election timeout 100 ticks of 10 ms,
//! heartbeats every 10) elects a leader and works for a while. Then links around that leader are
//! cut. The result is the number of ticks until an operation that was started after the cut is
//! committed.

use std::fmt;

use synod_consensus_core::{Algorithm, Role};
use synod_types::Ballot;

use crate::choices::{Choices, Stream};
use crate::command::OpId;
use crate::event::Event;
use crate::flavour::Flavour;
use crate::invariants::{Check, LIVENESS};
use crate::node::End;
use crate::plan::Plan;
use crate::report::Failure;
use crate::run::{Options, guarded};
use crate::time::{TICK_US, Time};
use crate::world::World;

/// The shape of a cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Topology {
    /// Three nodes. The leader and one follower can't reach each other; the third reaches both
    /// (Cloudflare, 2020-11-02: "A Byzantine failure in the real world").
    PartialPartition,
    /// Five nodes in a row, with the leader at one end. Only the middle one reaches a majority.
    Chain,
    /// Five nodes. The leader is cut off, the others reach only one node, and that one misses the
    /// last entries (Ng et al., Omni-Paxos, EuroSys 2023, §2: the constrained election scenario).
    StaleHub,
    /// Five nodes. The leader reaches only one, which is needed for any other majority. So its
    /// promise to the old leader must end.
    LeaseBridge,
    /// Three nodes. The leader can send to all and receives nothing.
    DeafLeader,
    /// Five nodes. The leader is isolated.
    LostLeader,
    /// Five nodes. Two are isolated, and only one of the others reaches a majority. It no longer
    /// leads. One of the nodes that it needs is in a later ballot, in which it was not elected, and
    /// misses the last entries. A candidate that is refused must learn the ballot (Raft thesis
    /// §9.6).
    EarlierHub,
    /// Three nodes; the leader's process ends, and the others find out. No leader takes leases, as
    /// by default.
    DeadLeader,
    /// The same with leases: the promises to the leader must end first.
    DeadLeaseholder,
    /// Three nodes, nothing is wrong; but one of them takes the leader for gone, again and again.
    /// No leader takes leases.
    Slander,
}

impl Topology {
    /// All topologies.
    pub const ALL: [Self; 10] = [
        Self::PartialPartition,
        Self::Chain,
        Self::StaleHub,
        Self::LeaseBridge,
        Self::DeafLeader,
        Self::LostLeader,
        Self::EarlierHub,
        Self::DeadLeader,
        Self::DeadLeaseholder,
        Self::Slander,
    ];

    const fn nodes(self) -> u64 {
        match self {
            Self::PartialPartition
            | Self::DeafLeader
            | Self::DeadLeader
            | Self::DeadLeaseholder
            | Self::Slander => 3,
            Self::Chain
            | Self::StaleHub
            | Self::LeaseBridge
            | Self::LostLeader
            | Self::EarlierHub => 5,
        }
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::PartialPartition => "partial partition (Cloudflare 2020)",
            Self::Chain => "chain",
            Self::StaleHub => "only the quorum-connected node is stale",
            Self::LeaseBridge => "bridge with lease",
            Self::DeafLeader => "deaf leader",
            Self::LostLeader => "leader alone",
            Self::EarlierHub => "hub of an earlier ballot",
            Self::DeadLeader => "the leader's process ends",
            Self::DeadLeaseholder => "the leader's process ends, with leases",
            Self::Slander => "a follower takes the leader for gone",
        })
    }
}

/// The result of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// Ticks from the cut to the first commit; `None` if there was none during the cut.
    pub ticks: Option<u64>,
    /// If there was none: ticks from the end of the cut to the first commit.
    pub ticks_after_heal: Option<u64>,
    /// Leaders elected since the cut.
    pub leaders: u64,
}

/// The length of a cut, in election timeouts.
const CUT_ELECTIONS: u64 = 30;
/// Election timeouts after a commit during which leaders are counted: a working leader stays.
const WATCH_ELECTIONS: u64 = 10;

/// Runs one seed of a topology.
///
/// # Errors
/// The violated invariant, for example if there is no commit after the end of the cut.
pub fn measure(
    algorithm: Algorithm,
    topology: Topology,
    seed: u64,
) -> Result<Recovery, Box<Failure>> {
    let options = Options::new(algorithm, Flavour::Calm, seed);
    let result = guarded(|| {
        let choices = Choices::from_seed(seed, false);
        let mut plan = Plan::quiet(topology.nodes(), seed);
        // With leases a follower that hears its leader would not even ask.
        if matches!(topology, Topology::DeadLeader | Topology::Slander) {
            plan.lease_ticks = [0; 3];
        }
        let mut world = World::with_plan(&options, choices, plan)?;
        world.recover(topology)
    });
    result.map_err(|violation| Box::new(Failure::new(&options, violation)))
}

impl World {
    fn recover(&mut self, topology: Topology) -> Check<Recovery> {
        let election = self.env.plan.election_ticks * TICK_US;
        let settled = self.await_commit(20 * election)?;
        LIVENESS.ensure(settled.is_some(), || {
            "no leader at the beginning".to_owned()
        })?;
        let now = self.env.now;
        self.run_until(now + election, |_| false)?;
        let leader = self.leader().map_or(0, |(slot, _)| slot);
        if topology == Topology::StaleHub {
            // The future hub misses some entries.
            let hub = self.other(leader, 1);
            self.isolate(hub);
            for _ in 0..3 {
                self.await_commit(election)?;
            }
        }
        if topology == Topology::EarlierHub {
            self.part_in_a_campaign(leader, election)?;
        }
        match topology {
            Topology::DeadLeader | Topology::DeadLeaseholder => self.end_for_good(leader)?,
            Topology::Slander => self.slander_often(leader),
            Topology::PartialPartition
            | Topology::Chain
            | Topology::StaleHub
            | Topology::LeaseBridge
            | Topology::DeafLeader
            | Topology::LostLeader
            | Topology::EarlierHub => self.cut_around(topology, leader),
        }
        let leaders = self.env.counts.leaders;
        let ticks = self.await_commit(CUT_ELECTIONS * election)?;
        let ticks_after_heal = if ticks.is_some() {
            let now = self.env.now;
            self.run_until(now + WATCH_ELECTIONS * election, |_| false)?;
            None
        } else {
            self.env.net.heal();
            let healed = self.await_commit(CUT_ELECTIONS * election)?;
            LIVENESS.ensure(healed.is_some(), || {
                format!("no commit after {topology} has ended: {}", self.describe())
            })?;
            healed
        };
        let leaders = self.env.counts.leaders - leaders;
        let disturbed = topology == Topology::Slander && leaders > 0;
        LIVENESS.ensure(!disturbed, || {
            format!("{leaders} times another leader although the first works")
        })?;
        Ok(Recovery {
            ticks,
            ticks_after_heal,
            leaders,
        })
    }

    /// The process ends, and all peers find out.
    fn end_for_good(&mut self, leader: usize) -> Check {
        let World { env, nodes, .. } = self;
        let Some(node) = nodes.get_mut(leader) else {
            return Ok(());
        };
        node.end(env, End::Kill)?;
        env.seems_gone(node.id, Stream::Fault, 1_000);
        Ok(())
    }

    /// A follower is told twice in an election timeout that the leader is gone, as long as the run
    /// is watched.
    fn slander_often(&mut self, leader: usize) {
        let slot = self.other(leader, 1);
        let Some(node) = self.nodes.get(leader).map(|node| node.id) else {
            return;
        };
        let half = self.env.plan.election_ticks * TICK_US / 2;
        for number in 0..2 * WATCH_ELECTIONS {
            self.env.after(number * half, Event::Gone { slot, node });
        }
    }

    /// A candidate is cut off before anybody hears of its ballot, and misses some entries; then
    /// nobody reaches anybody until nobody leads.
    fn part_in_a_campaign(&mut self, leader: usize, election: Time) -> Check {
        let candidate = self.other(leader, 1);
        let before = self.ballot_of(leader);
        self.transfer_to(leader, candidate);
        let asked = self.env.now;
        self.run_until(asked + election, |world| {
            world.ballot_of(candidate) > before
        })?;
        self.isolate(candidate);
        for _ in 0..3 {
            self.await_commit(4 * election)?;
        }
        for slot in 0..self.nodes.len() {
            self.isolate(slot);
        }
        let alone = self.env.now;
        self.run_until(alone + 4 * election, |world| world.leaders().is_empty())?;
        Ok(())
    }

    fn ballot_of(&self, slot: usize) -> Option<Ballot> {
        let process = self.nodes.get(slot)?.process()?;
        Some(process.core.status().ballot)
    }

    /// Another node than this one.
    fn other(&self, leader: usize, number: usize) -> usize {
        (leader + number) % self.nodes.len()
    }

    fn cut_around(&mut self, topology: Topology, leader: usize) {
        self.env.net.heal();
        let count = self.nodes.len();
        let others: Vec<usize> = (1..count)
            .map(|number| self.other(leader, number))
            .collect();
        let joined: Vec<(usize, usize)> = match (topology, others.as_slice()) {
            (Topology::PartialPartition, [a, b, ..]) => vec![(leader, *b), (*a, *b)],
            (Topology::Chain, [a, b, c, d, ..]) => {
                vec![(leader, *a), (*a, *b), (*b, *c), (*c, *d)]
            }
            (Topology::StaleHub, [hub, rest @ ..]) => {
                rest.iter().map(|spoke| (*hub, *spoke)).collect()
            }
            // The leader and one other node on one side, two on the other. The leader's neighbour
            // is also cut off from the leader.
            (Topology::LeaseBridge, [_friend, bridge, c, d, ..]) => {
                vec![(leader, *bridge), (*bridge, *c), (*bridge, *d), (*c, *d)]
            }
            (Topology::LostLeader, rest) => pairs(rest),
            (Topology::EarlierHub, [candidate, friend, ..]) => {
                vec![(leader, *candidate), (leader, *friend)]
            }
            (Topology::DeafLeader, rest) => {
                for other in rest {
                    self.env.net.cut(*other, leader);
                }
                return;
            }
            (
                Topology::PartialPartition
                | Topology::Chain
                | Topology::StaleHub
                | Topology::LeaseBridge
                | Topology::EarlierHub
                | Topology::DeadLeader
                | Topology::DeadLeaseholder
                | Topology::Slander,
                _,
            ) => return,
        };
        for a in 0..count {
            for b in 0..count {
                if a != b && !joined.contains(&(a, b)) && !joined.contains(&(b, a)) {
                    self.env.net.cut(a, b);
                }
            }
        }
    }

    /// Ticks until an operation that starts now is committed.
    fn await_commit(&mut self, within: Time) -> Check<Option<u64>> {
        let began = self.env.now;
        let mut probes: Vec<OpId> = Vec::new();
        let mut next = began;
        self.env.after(0, Event::Pulse);
        let done = self.run_until(began + within, |world| {
            if world.env.now >= next {
                next = world.env.now + TICK_US;
                world.env.after(TICK_US, Event::Pulse);
                for slot in world.leaders() {
                    probes.push(world.probe(slot));
                }
            }
            let once = &world.env.checks.once;
            let done = probes.iter().any(|op| once.has_happened(*op));
            let recent = probes.len().saturating_sub(400);
            probes.drain(..recent);
            done
        })?;
        Ok(done.then(|| (self.env.now - began) / TICK_US))
    }

    /// All nodes that consider themselves leader.
    fn leaders(&self) -> Vec<usize> {
        let leads = |node: &&crate::node::Node| {
            node.process()
                .is_some_and(|process| process.role.role == Role::Leader)
        };
        self.nodes
            .iter()
            .filter(leads)
            .map(|node| node.slot)
            .collect()
    }
}

fn pairs(slots: &[usize]) -> Vec<(usize, usize)> {
    let all = slots.iter().flat_map(|a| slots.iter().map(|b| (*a, *b)));
    all.filter(|(a, b)| a < b).collect()
}
