//! Transfers between two sources and three receivers under faults, one seed a run.
//!
//! Real: [`Views`](synod_replica_core::Views), its cursors,
//! [`Transfer`](synod_replica_core::Transfer), and the wire forms of what they say. Modelled:
//! transport, apply threads, disks, and the core that offers snapshots. Nothing depends on real
//! time, threads or the process's own randomness.

mod model;
mod receiver;
mod source;
mod steps;
mod world;

use std::collections::BTreeMap;

use world::World;

const SEEDS: u64 = 400;

#[test]
fn transfers_keep_their_rules_under_faults() {
    let mut counts = BTreeMap::<_, u64>::new();
    for seed in 0..SEEDS {
        for (what, count) in &World::new(seed).run().counts {
            *counts.entry(*what).or_default() += count;
        }
    }
    // The faults were met, and did not stop everything.
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
