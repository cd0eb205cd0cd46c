//! Partial partitions without other faults: how long until something is committed, and whether the
//! leader stays.

use std::collections::BTreeSet;

use synod_consensus_core::Algorithm;
use synod_types::NodeId;

use super::{CALM_TICKS, ELECTION, Flavour, World};

/// The result of a cut.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Ticks until the first commit, if there was one.
    pub(crate) recovered_after: Option<u64>,
    /// Leaders that were elected after the cut.
    pub(crate) leaders: u64,
}

impl World {
    /// A healthy cluster with some committed entries and nothing in flight.
    fn healthy(algorithm: Algorithm, seed: u64, voters: u64) -> Self {
        let mut world = Self::of_size(algorithm, seed, Flavour::Calm, voters);
        for _ in 0..10 * ELECTION {
            world.turn();
        }
        world.rest();
        assert!(world.oracle.commit.get() > 10, "{}", world.describe());
        world
    }

    /// Stops the load and lets work in flight finish.
    fn rest(&mut self) {
        self.calm = true;
        for _ in 0..ELECTION {
            self.turn();
        }
    }

    /// Only these pairs reach each other.
    fn connect_only(&mut self, pairs: &[(u64, u64)]) {
        let pairs: BTreeSet<(u64, u64)> = pairs
            .iter()
            .flat_map(|(a, b)| [(*a, *b), (*b, *a)])
            .collect();
        for a in self.ids() {
            for b in self.ids() {
                if !pairs.contains(&(a.get(), b.get())) {
                    self.cuts.insert((a, b));
                }
            }
        }
    }

    fn outcome(&mut self) -> Outcome {
        let (begin, commit, leaders) = (self.tick, self.oracle.commit, self.counts.leaders);
        let mut recovered_after = None;
        while self.tick < begin + CALM_TICKS {
            self.turn();
            if self.tick.is_multiple_of(5)
                && let Some(leader) = self.leader()
            {
                self.propose(leader);
            }
            if recovered_after.is_none() && self.oracle.commit > commit {
                recovered_after = Some(self.tick - begin);
            }
        }
        Outcome {
            recovered_after,
            leaders: self.counts.leaders - leaders,
        }
    }

    fn star(centre: u64, voters: u64) -> Vec<(u64, u64)> {
        let others = (1..=voters).filter(|node| *node != centre);
        others.map(|node| (centre, node)).collect()
    }

    /// One link breaks: that between the leader and a follower (Cloudflare, 2020-11-02).
    pub(crate) fn one_link(algorithm: Algorithm, seed: u64) -> Outcome {
        let mut world = Self::healthy(algorithm, seed, 3);
        let leader = world.leader().unwrap();
        let other = world.ids().into_iter().find(|id| *id != leader).unwrap();
        world.cuts.extend([(leader, other), (other, leader)]);
        world.outcome()
    }

    /// Each node reaches only its neighbours.
    pub(crate) fn chain(algorithm: Algorithm, seed: u64) -> Outcome {
        let mut world = Self::healthy(algorithm, seed, 5);
        world.connect_only(&[(1, 2), (2, 3), (3, 4), (4, 5)]);
        world.outcome()
    }

    /// All nodes reach only one node, which is not the leader.
    pub(crate) fn bridge(algorithm: Algorithm, seed: u64) -> Outcome {
        let mut world = Self::healthy(algorithm, seed, 5);
        let centre = world.follower();
        world.connect_only(&Self::star(centre.get(), 5));
        world.outcome()
    }

    /// The same, and that node lacks what the others have committed.
    pub(crate) fn stale_bridge(algorithm: Algorithm, seed: u64) -> Outcome {
        let mut world = Self::healthy(algorithm, seed, 5);
        let centre = world.follower();
        for id in world.ids() {
            world.cuts.extend([(centre, id), (id, centre)]);
        }
        world.calm = false;
        for _ in 0..2 * ELECTION {
            world.turn();
        }
        world.rest();
        // No leader may bring it up to date.
        world.connect_only(&[]);
        for _ in 0..4 * ELECTION {
            world.turn();
        }
        world.cuts.clear();
        world.connect_only(&Self::star(centre.get(), 5));
        world.outcome()
    }

    fn follower(&self) -> NodeId {
        let leader = self.leader().unwrap();
        self.ids().into_iter().find(|id| *id != leader).unwrap()
    }
}
