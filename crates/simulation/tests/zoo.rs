//! The bug zoo: each rule that is broken is found, by which invariant, and in how many seeds.

#![cfg(feature = "mutants")]
#![expect(clippy::print_stdout, reason = "a test that reports what happened")]

use synod_consensus_core::mutants::{Mutant, activate};
use synod_simulation::{Algorithm, Flavour, run};

const FLAVOURS: [Flavour; 6] = [
    Flavour::Everything,
    Flavour::Fixed,
    Flavour::Leases,
    Flavour::Churn,
    Flavour::Disk,
    Flavour::Partitions,
];

#[test]
#[ignore = "a search for the flavour that finds a mutant first"]
fn hunt() {
    let filter = std::env::var("ZOO").unwrap_or_default();
    let seeds: u64 = std::env::var("SEEDS")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(20);
    let wanted: Vec<&str> = filter.split(',').filter(|w| !w.is_empty()).collect();
    let engines = std::env::var("ENGINE").unwrap_or_default();
    for mutant in Mutant::ALL {
        let name = format!("{mutant:?}");
        if !wanted.is_empty() && !wanted.iter().any(|w| *w == name) {
            continue;
        }
        for algorithm in Algorithm::ALL {
            if !engines.is_empty() && engines != algorithm.to_string() {
                continue;
            }
            let mut line = String::new();
            for flavour in FLAVOURS {
                let begun = std::time::Instant::now();
                activate(Some(mutant));
                let found = (0..seeds).find_map(|seed| {
                    run(algorithm, flavour, seed)
                        .err()
                        .map(|failure| (seed + 1, failure.invariant))
                });
                activate(None);
                let took = begun.elapsed().as_millis();
                match found {
                    Some((seed, by)) => line += &format!(" {flavour}:{seed}:{by}({took}ms)"),
                    None => line += &format!(" {flavour}:-({took}ms)"),
                }
            }
            println!("{name} {algorithm}{line}");
        }
    }
}
