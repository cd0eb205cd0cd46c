//! Tests seeds of every flavour for both algorithms, determinism, and the handling of failures.

#![expect(
    clippy::print_stdout,
    clippy::panic,
    reason = "tests print their results"
)]

use std::collections::BTreeSet;

use synod_simulation::{
    Algorithm, Counts, Failure, Flavour, INVARIANTS, Options, SoakOptions, Stream, TraceFormat,
    run_with, shrink, soak,
};

/// Seeds per algorithm, with all flavours in turn.
const SEEDS: u64 = 2_000;

/// Runs seeds of all flavours on one thread, since the tests of both algorithms run in parallel.
fn seeds(algorithm: Algorithm) -> Counts {
    let options = SoakOptions {
        algorithms: vec![algorithm],
        flavours: Flavour::ALL.to_vec(),
        first_seed: 0,
        max_runs: SEEDS,
        jobs: 1,
    };
    let outcome = soak(&options, &|| false);
    println!("{algorithm}: {}", outcome.counts);
    let findings: Vec<String> = outcome.failures.iter().map(Failure::to_string).collect();
    assert!(findings.is_empty(), "{}", findings.join("\n"));
    assert_eq!(outcome.runs, SEEDS);
    outcome.counts
}

/// What doesn't happen isn't tested.
fn is_eventful(counts: &Counts) {
    let least = [
        (counts.leaders, SEEDS * 3 / 2),
        (counts.commits, SEEDS * 30),
        (counts.snapshots, SEEDS / 5),
        (counts.config_changes, SEEDS / 5),
        (counts.transfers, SEEDS / 10),
        (counts.index_reads, SEEDS * 8),
        (counts.lease_reads, SEEDS * 8),
        (counts.lease_hits, SEEDS * 2),
        (counts.serializable_reads, SEEDS * 3),
        (counts.unknown_writes, SEEDS),
        (counts.drops, SEEDS / 2),
        (counts.refusals, SEEDS / 2),
        (counts.states_compared, SEEDS * 3),
        (counts.history_checked, SEEDS * 20),
        (counts.restarts, SEEDS * 2),
        (counts.gone, SEEDS * 3 / 2),
        (counts.failed_logs, SEEDS / 20),
        (counts.refused_logs, SEEDS / 50),
        (counts.replacements, SEEDS / 10),
    ];
    for (number, (count, least)) in least.into_iter().enumerate() {
        assert!(
            count >= least,
            "number {number}: {count} < {least}: {counts}"
        );
    }
    // Unrecoverable clusters are rare.
    assert!(counts.wedged <= SEEDS / 200, "{counts}");
}

#[test]
fn raft_survives() {
    let counts = seeds(Algorithm::Raft);
    is_eventful(&counts);
    assert!(counts.truncations > SEEDS / 20, "{counts}");
}

#[test]
fn multi_paxos_survives() {
    is_eventful(&seeds(Algorithm::MultiPaxos));
}

fn trace(algorithm: Algorithm, seed: u64, format: TraceFormat) -> Vec<String> {
    let options = Options {
        trace: Some(format),
        ..Options::new(algorithm, Flavour::Everything, seed)
    };
    match run_with(&options) {
        Ok(report) => report.trace,
        Err(failure) => panic!("{failure}"),
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for algorithm in Algorithm::ALL {
        for seed in 0..8 {
            let first = trace(algorithm, seed, TraceFormat::Text);
            let second = trace(algorithm, seed, TraceFormat::Text);
            assert!(first.len() > 200, "{}", first.len());
            assert!(first == second, "{algorithm}: seed {seed} gave two traces");
            let other = trace(algorithm, seed + 100, TraceFormat::Text);
            assert!(first != other, "another seed is another run");
        }
    }
}

#[test]
fn an_ndjson_trace_is_valid_json() {
    let lines = trace(Algorithm::Raft, 3, TraceFormat::Ndjson);
    let mut events = BTreeSet::new();
    for line in &lines {
        let json: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(json["t"].is_u64() && json["node"].is_u64(), "{line}");
        let event = json["event"].as_str().unwrap();
        if event == "commits" || event == "applies" {
            assert!(json["index"].is_u64(), "{line}");
        }
        events.insert(event.to_owned());
    }
    for event in [
        "starts", "receives", "writes", "becomes", "leads", "commits", "applies",
    ] {
        assert!(events.contains(event), "no {event} in {events:?}");
    }
}

#[test]
fn a_failure_is_reported_replayed_and_shrunk() {
    let with_canary = |seed| Options {
        canary: Some(12),
        record: true,
        ..Options::new(Algorithm::Raft, Flavour::Fixed, seed)
    };
    // Runs in which there is a lot to remove.
    let mut failing = (0..50).filter_map(|seed| run_with(&with_canary(seed)).err());
    let failure = failing
        .find(|failure| failure.counts.kills + failure.counts.power_losses > 2)
        .unwrap();
    let options = with_canary(failure.seed);
    assert_eq!(failure.invariant, "canary");
    let seed = format!("seed {}", failure.seed);
    assert!(failure.to_string().contains(&seed), "{failure}");
    // Its decisions give the same run.
    let replayed = Options {
        replay: Some(&failure.record),
        ..options
    };
    let again = run_with(&replayed).unwrap_err();
    assert_eq!(
        (again.at_us, &again.record),
        (failure.at_us, &failure.record)
    );
    // Twelve commits need no fault at all.
    let shrunk = shrink(&options, 300, TraceFormat::Text).unwrap();
    let (before, after) = shrunk.weight;
    assert!(after * 4 < before, "{before} -> {after}");
    assert_eq!(shrunk.failure.invariant, "canary");
    let faults = shrunk.failure.record.stream(Stream::Fault);
    assert!(faults.iter().all(|fault| *fault == 0), "{faults:?}");
    assert!(shrunk.failure.trace.len() > 20);
}

#[test]
fn invariants_have_different_names() {
    let names: BTreeSet<&str> = INVARIANTS.iter().map(|rule| rule.name).collect();
    assert_eq!(names.len(), INVARIANTS.len());
}
