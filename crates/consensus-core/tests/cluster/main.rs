//! A cluster of cores in one thread: seeded faults, every invariant after every event, then
//! liveness.
//!
//! Each seed is one run. To inspect a failing one: `SYNOD_ALGORITHM=multi-paxos SYNOD_FLAVOUR=churn
//! SYNOD_SEED=17 cargo test -p synod-consensus-core --test cluster one_seed -- --nocapture
//! --ignored`.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    reason = "a test"
)]

mod check;
mod node;
mod rng;
mod world;

use synod_consensus_core::Algorithm;
use world::World;

/// Runs the seeds of one kind of cluster, and returns the counts of all of them.
fn run(
    algorithm: Algorithm,
    seeds: std::ops::Range<u64>,
    flavour: world::Flavour,
) -> world::Counts {
    let mut counts = world::Counts::default();
    for seed in seeds {
        let mut world = World::new(algorithm, seed, flavour);
        world.run();
        counts.add(&world.counts);
    }
    counts
}

macro_rules! for_both {
    ($($name:ident),* $(,)?) => {
        mod raft {
            $(#[test] fn $name() { super::$name(super::Algorithm::Raft); })*
        }
        mod multi_paxos {
            $(#[test] fn $name() { super::$name(super::Algorithm::MultiPaxos); })*
        }
    };
}

for_both!(
    safe_and_live_under_every_fault,
    safe_and_live_with_fixed_members,
    safe_and_live_with_membership_churn,
    safe_and_live_without_the_optional_checks,
    leases_are_exclusive,
    the_same_seed_gives_the_same_trace,
    partial_partitions_leave_a_working_leader,
    a_stale_bridge_leads_only_in_paxos,
);

fn safe_and_live_under_every_fault(algorithm: Algorithm) {
    let counts = run(algorithm, 0..500, world::Flavour::Everything);
    // What doesn't happen isn't tested.
    assert!(counts.leaders > 500, "{counts:?}");
    assert!(counts.committed > 10_000, "{counts:?}");
    assert!(counts.restarts > 500, "{counts:?}");
    assert!(counts.snapshots > 50, "{counts:?}");
    assert!(counts.config_changes > 200, "{counts:?}");
    assert!(counts.transfers > 100, "{counts:?}");
    assert!(counts.index_reads > 1000, "{counts:?}");
    assert!(counts.lease_reads > 500, "{counts:?}");
    assert!(counts.truncations > 50, "{counts:?}");
    assert!(counts.refusals > 100, "{counts:?}");
}

fn safe_and_live_with_fixed_members(algorithm: Algorithm) {
    let counts = run(algorithm, 1000..1400, world::Flavour::FixedMembers);
    assert!(counts.leaders > 300, "{counts:?}");
    assert!(counts.truncations > 100, "{counts:?}");
}

fn safe_and_live_with_membership_churn(algorithm: Algorithm) {
    let counts = run(algorithm, 2000..2300, world::Flavour::Churn);
    assert!(counts.config_changes > 500, "{counts:?}");
}

fn safe_and_live_without_the_optional_checks(algorithm: Algorithm) {
    let counts = run(algorithm, 3000..3060, world::Flavour::Plain);
    assert!(counts.leaders > 100, "{counts:?}");
    assert_eq!(counts.lease_reads, 0, "{counts:?}");
}

fn leases_are_exclusive(algorithm: Algorithm) {
    let counts = run(algorithm, 4000..4400, world::Flavour::Leases);
    assert!(counts.lease_reads > 1000, "{counts:?}");
    assert!(counts.transfers > 500, "{counts:?}");
    assert!(counts.leaders > 1000, "{counts:?}");
}

/// With pre-vote and quorum checks, a broken link, a chain or a bridge costs at most one election.
fn partial_partitions_leave_a_working_leader(algorithm: Algorithm) {
    for seed in 0..8 {
        for (name, outcome) in [
            ("one link", World::one_link(algorithm, seed)),
            ("chain", World::chain(algorithm, seed)),
            ("bridge", World::bridge(algorithm, seed)),
        ] {
            let after = outcome.recovered_after;
            assert!(
                after.is_some_and(|after| after < 500),
                "{name} {seed}: {outcome:?}"
            );
            // The leader after that stays leader.
            assert!(outcome.leaders <= 3, "{name} {seed}: {outcome:?}");
        }
    }
}

/// One node that all others reach, and no other link. In Raft it can't lead, because its log is
/// stale.
fn a_stale_bridge_leads_only_in_paxos(algorithm: Algorithm) {
    for seed in 0..8 {
        let outcome = World::stale_bridge(algorithm, seed);
        let recovers = algorithm == Algorithm::MultiPaxos;
        assert_eq!(
            outcome.recovered_after.is_some(),
            recovers,
            "{seed}: {outcome:?}"
        );
    }
}

fn the_same_seed_gives_the_same_trace(algorithm: Algorithm) {
    for seed in 0..5 {
        let trace = |_| {
            let mut world = World::new(algorithm, seed, world::Flavour::Everything);
            world.keep_trace = true;
            world.run();
            std::mem::take(&mut world.trace)
        };
        let (first, second) = (trace(0), trace(1));
        assert!(first.len() > 1000);
        assert_eq!(first, second);
    }
}

#[test]
#[ignore = "runs for a configured time"]
#[expect(clippy::disallowed_methods, reason = "chosen by hand")]
fn many_seeds() {
    let number = |name, default: u64| {
        let value = std::env::var(name).ok();
        value.map_or(default, |text| text.parse().unwrap())
    };
    let first = number("SYNOD_SEED", 100_000);
    let seeds = first..first + number("SYNOD_SEEDS", 1000);
    let chosen = std::env::var("SYNOD_ALGORITHM").ok();
    for algorithm in Algorithm::ALL {
        if chosen
            .as_ref()
            .is_none_or(|name| *name == algorithm.to_string())
        {
            for flavour in world::Flavour::ALL {
                let counts = run(algorithm, seeds.clone(), flavour);
                println!("{algorithm} {flavour:?} {counts:?}");
            }
        }
    }
}

#[test]
#[ignore = "inspects a single seed"]
#[expect(clippy::disallowed_methods, reason = "chosen by hand")]
fn one_seed() {
    let seed = std::env::var("SYNOD_SEED")
        .ok()
        .map_or(0, |seed| seed.parse().unwrap());
    let flavour = match std::env::var("SYNOD_FLAVOUR").ok().as_deref() {
        Some("fixed") => world::Flavour::FixedMembers,
        Some("churn") => world::Flavour::Churn,
        Some("plain") => world::Flavour::Plain,
        Some("leases") => world::Flavour::Leases,
        Some(_) | None => world::Flavour::Everything,
    };
    let algorithm = std::env::var("SYNOD_ALGORITHM").unwrap_or("raft".to_owned());
    let mut world = World::new(algorithm.parse().unwrap(), seed, flavour);
    world.print = true;
    world.run();
}
