//! `cargo xtask soak`: runs simulations with fresh seeds for a given time.

use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use synod_runtime::{clock, random};
use synod_simulation::{Algorithm, Failure, Flavour, SoakOptions, soak};

/// Simulated runs with fresh seeds.
#[derive(Args, Debug)]
pub(crate) struct Soak {
    /// How long to run, in minutes
    #[arg(long, default_value_t = 1)]
    minutes: u64,
    /// raft or multi-paxos; both by default
    #[arg(long = "engine", value_name = "ENGINE")]
    algorithm: Option<Algorithm>,
    /// The faults; all flavours in turn by default
    #[arg(long)]
    flavour: Option<Flavour>,
    /// The number of threads
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// The first seed; random by default
    #[arg(long)]
    seed: Option<u64>,
    /// The maximum number of runs
    #[arg(long, default_value_t = u64::MAX)]
    runs: u64,
}

/// Runs until the time is over. The exit code is 1 if an invariant is violated.
pub(crate) fn run(options: &Soak) -> Result<ExitCode> {
    let flavours = options
        .flavour
        .map_or_else(|| Flavour::ALL.to_vec(), |one| vec![one]);
    let what = SoakOptions {
        algorithms: options
            .algorithm
            .map_or_else(|| Algorithm::ALL.to_vec(), |one| vec![one]),
        flavours,
        first_seed: options.seed.unwrap_or_else(|| random::u64() >> 16),
        max_runs: options.runs,
        jobs: options.jobs,
    };
    println!("seeds from {}", what.first_seed);
    let began = clock::now();
    let end = began + Duration::from_secs(options.minutes * 60);
    let outcome = soak(&what, &|| clock::now() >= end);
    let seconds = clock::now()
        .saturating_duration_since(began)
        .as_secs()
        .max(1);
    println!(
        "{} runs in {seconds} s, {} a minute; {} s simulated; {}",
        outcome.runs,
        outcome.runs * 60 / seconds,
        outcome.simulated_us / 1_000_000,
        outcome.counts
    );
    for failure in &outcome.failures {
        report(failure);
    }
    Ok(if outcome.failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Prints how to reproduce a failure.
fn report(failure: &Failure) {
    let Failure {
        algorithm,
        flavour,
        seed,
        ..
    } = failure;
    println!("\n{failure}");
    println!("commit: {}", commit());
    println!(
        "again: cargo xtask sim --engine {algorithm} --flavour {flavour} --seed {seed} --trace text"
    );
    println!(
        "smaller: cargo xtask sim --engine {algorithm} --flavour {flavour} --seed {seed} --shrink 2000"
    );
}

/// The commit, and whether the working tree differs from it.
fn commit() -> String {
    let output = Command::new("git")
        .args(["describe", "--always", "--dirty", "--abbrev=40"])
        .output();
    match output {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
        Ok(_) | Err(_) => "unknown".to_owned(),
    }
}
