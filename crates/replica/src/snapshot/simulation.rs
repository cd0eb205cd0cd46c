//! Simulates transfers between two sources and three receivers under faults; each seed is one run.
//!
//! Real: [`Views`](synod_replica_core::Views), cursors, [`Transfer`](synod_replica_core::Transfer),
//! and the wire forms of their messages. Modelled: transport, apply threads, disks, and the core
//! that offers snapshots. Nothing depends on real time, threads or other randomness.

mod model;
mod receiver;
mod source;
mod steps;
mod world;

use std::collections::BTreeMap;

use world::World;

const SEEDS: u64 = 400;

#[test]
fn invariants_hold_under_faults() {
    let mut counts = BTreeMap::<_, u64>::new();
    for seed in 0..SEEDS {
        for (what, count) in &World::new(seed).run().counts {
            *counts.entry(*what).or_default() += count;
        }
    }
    // The faults occurred, and transfers still completed.
    for what in steps::MET {
        assert!(counts.get(what) > Some(&50), "{what}: {counts:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in [3, 77] {
        let runs = [World::new(seed).run(), World::new(seed).run()];
        assert!(runs[0].trace.len() > 100);
        assert_eq!(runs[0].trace, runs[1].trace);
    }
    assert_ne!(World::new(3).run().trace, World::new(4).run().trace);
}
