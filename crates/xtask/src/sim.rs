//! `cargo xtask sim`: runs one simulation for inspection, or measures the cost of named cuts.

use std::process::ExitCode;

use anyhow::{Result, anyhow};
use clap::{Args, ValueEnum};
use synod_simulation::{
    Algorithm, Flavour, Options, Recovery, Topology, TraceFormat, measure, run_with, shrink,
};

/// One simulated run.
#[derive(Args, Debug)]
pub(crate) struct Sim {
    /// raft or multi-paxos
    #[arg(long = "engine", value_name = "ENGINE", default_value = "raft")]
    algorithm: Algorithm,
    /// The faults: everything, fixed, churn, leases, disk, partitions, gaps, stragglers, laggards,
    /// calm
    #[arg(long, default_value = "everything")]
    flavour: Flavour,
    /// The seed of the run
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Print the trace, one line per event
    #[arg(long)]
    trace: Option<Format>,
    /// Print how long each algorithm takes to have a working leader again after named cuts, for
    /// docs/simulation.md
    #[arg(long)]
    topologies: bool,
    /// If the run fails, look for a smaller one that fails in the same way, with at most this many
    /// runs
    #[arg(long, value_name = "RUNS")]
    shrink: Option<usize>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// Human-readable
    Text,
    /// One JSON object per line
    Ndjson,
}

impl From<Format> for TraceFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Text => Self::Text,
            Format::Ndjson => Self::Ndjson,
        }
    }
}

/// Runs the simulation. The exit code is 1 if an invariant is violated.
pub(crate) fn run(sim: &Sim) -> Result<ExitCode> {
    if sim.topologies {
        return topologies();
    }
    let format = sim.trace.map(TraceFormat::from);
    let options = Options {
        trace: format,
        ..Options::new(sim.algorithm, sim.flavour, sim.seed)
    };
    if let Some(runs) = sim.shrink {
        let format = format.unwrap_or(TraceFormat::Text);
        let shrunk =
            shrink(&options, runs, format).ok_or_else(|| anyhow!("the run does not fail"))?;
        print(&shrunk.failure.trace);
        let (before, after) = shrunk.weight;
        println!("{}", shrunk.failure);
        println!(
            "decisions: {before}, now {after}, after {} runs",
            shrunk.runs
        );
        return Ok(ExitCode::FAILURE);
    }
    match run_with(&options) {
        Ok(report) => {
            print(&report.trace);
            // The trace is for a program, so print nothing else.
            if !matches!(format, Some(TraceFormat::Ndjson)) {
                println!("{} us: {}", report.simulated_us, report.counts);
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(failure) => {
            print(&failure.trace);
            println!("{failure}\n{}", failure.counts);
            Ok(ExitCode::FAILURE)
        }
    }
}

fn print(trace: &[String]) {
    for line in trace {
        println!("{line}");
    }
}

/// The number of seeds per topology.
const TOPOLOGY_SEEDS: u64 = 100;

/// Prints a Markdown table.
fn topologies() -> Result<ExitCode> {
    println!(
        "| topology | engine | commit after, median | at most | without | after the cut's end | new leaders, at most |"
    );
    println!("|---|---|---|---|---|---|---|");
    for topology in Topology::ALL {
        for algorithm in Algorithm::ALL {
            let runs = (0..TOPOLOGY_SEEDS).map(|seed| measure(algorithm, topology, seed));
            let runs: Vec<Recovery> = runs.collect::<Result<_, _>>()?;
            let within = ticks(runs.iter().map(|run| run.ticks));
            let healed = ticks(runs.iter().map(|run| run.ticks_after_heal));
            let without = runs.iter().filter(|run| run.ticks.is_none()).count();
            let leaders = runs.iter().map(|run| run.leaders).max().unwrap_or(0);
            println!(
                "| {topology} | {algorithm} | {} | {} | {without} | {} | {leaders} |",
                within.0, within.1, healed.1
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Median and maximum of the values that exist.
fn ticks(all: impl Iterator<Item = Option<u64>>) -> (String, String) {
    let mut all: Vec<u64> = all.flatten().collect();
    all.sort_unstable();
    let show = |ticks: Option<&u64>| ticks.map_or_else(|| "-".to_owned(), u64::to_string);
    (show(all.get(all.len() / 2)), show(all.last()))
}
