//! `cargo xtask`: the workspace's tests, lints, peers and benchmarks.

#![expect(clippy::print_stdout, reason = "a command-line tool talks to its user")]

mod bench;
mod boundaries;
mod checks;
mod comments;
mod logging;
mod sim;
mod soak;
mod sources;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

/// Tests, lints and benchmarks of the workspace
#[derive(Parser, Debug)]
#[command(name = "cargo xtask")]
enum Task {
    /// Install the peers, build the binaries once, and run every test of the workspace
    Test {
        /// Arguments for `cargo test`, for example `-- chaos`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Run clients in other languages, and every etcdctl command, against stock etcd and Synod
    Interop {
        /// Arguments for the tests, for example `go`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Check formatting, clippy, the direction of dependencies, and the fields of log lines
    Lint,
    /// Install etcd and its tools, which tests and benchmarks compare us with
    Peers,
    /// Run a benchmark
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Run one simulation
    Sim(sim::Sim),
    /// Run simulations with fresh seeds
    Soak(soak::Soak),
}

fn main() -> Result<ExitCode> {
    match Task::parse() {
        Task::Test { args } => checks::test(&args),
        Task::Interop { args } => checks::interop(&args),
        Task::Lint => checks::lint(),
        Task::Peers => checks::peers().map(|()| ExitCode::SUCCESS),
        Task::Bench(what) => bench::run(&what).map(|()| ExitCode::SUCCESS),
        Task::Sim(what) => sim::run(&what),
        Task::Soak(what) => soak::run(&what),
    }
}
