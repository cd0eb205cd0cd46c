//! `cargo xtask bench`: benchmarks binaries of the profile `dist` and real peers on the same
//! machine, and writes docs/benchmarks.md.
//!
//! The same load generator (`synod bench`) drives stock etcd and ours, with each engine and the
//! same flags. The servers take turns, so that other load on the machine affects all of them.

mod comparison;
mod core;
mod document;
mod failover;
mod large;
mod load;
mod scene;
mod servers;
mod usage;
mod workloads;
mod zookeeper;

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use clap::Subcommand;

/// What to measure.
#[derive(Subcommand, Debug)]
pub(crate) enum Bench {
    /// Stock etcd next to ours with Raft and with Multi-Paxos: throughput, latency, CPU per
    /// operation, memory
    Etcd(comparison::Options),
    /// Compare with stock etcd: locks, uncontended and contended
    Locks(comparison::Options),
    /// Compare with stock etcd: TLS, users, JSON, watch events with previous pairs, many leases
    Secured(comparison::Options),
    /// Stock etcd beside ours: how long writes pause when the leader is killed, asked to end, or
    /// stopped
    Failover(failover::Options),
    /// Coordination beside a ZooKeeper ensemble: three pods and three members of consensus, and the
    /// same pods over stock etcd
    #[command(name = "zookeeper")]
    ZooKeeper(zookeeper::Options),
    /// A large data directory with each engine: memory, restart time, pauses during compaction
    Large(large::Options),
    /// The consensus cores without I/O, next to the crates raft and omnipaxos: CPU per entry
    Core,
}

/// Builds the binaries, then measures in a process that knows their paths.
///
/// # Errors
/// A build, a server or a load failed.
pub(crate) fn run(bench: &Bench) -> Result<()> {
    let root = root()?;
    let document = root.join("docs/benchmarks.md");
    if matches!(bench, Bench::Core) {
        return core::run(&root, &document);
    }
    if std::env::var_os("SYNOD_CONSENSUS_BIN").is_none() {
        return build_and_run_again(&root);
    }
    let generator = generator()?;
    let compare = |workloads, options| comparison::run(workloads, options, &generator, &document);
    match bench {
        Bench::Etcd(options) => compare(workloads::REQUESTS, options),
        Bench::Locks(options) => compare(workloads::LOCKS, options),
        Bench::Secured(options) => compare(workloads::SECURED, options),
        Bench::Large(options) => large::run(options, &generator, &document),
        Bench::ZooKeeper(options) => zookeeper::run(options, &generator, &document),
        Bench::Failover(options) => failover::run(options, &document),
        Bench::Core => Ok(()),
    }
}

fn root() -> Result<PathBuf> {
    Ok(Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()?)
}

/// The `synod` binary in the same directory as the server's.
fn generator() -> Result<PathBuf> {
    let server =
        std::env::var_os("SYNOD_CONSENSUS_BIN").context("the server's binary is unknown")?;
    let generator = Path::new(&server).with_file_name("synod");
    ensure!(
        generator.is_file(),
        "{} is missing: build the package synod",
        generator.display()
    );
    Ok(generator)
}

/// Restarts itself with the environment variable that the test kit needs to find the server.
fn build_and_run_again(root: &Path) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let build = Command::new(cargo)
        .args(["build", "--profile", "dist", "--message-format=json"])
        .args(["--package", "synod", "--package", "synod-consensus"])
        .args(["--package", "synod-coordination"])
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output()
        .context("run cargo build")?;
    ensure!(build.status.success(), "the build failed");
    let binaries = crate::checks::servers(&build.stdout)?;
    let status = Command::new(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .envs(binaries)
        .status()?;
    ensure!(status.success(), "the measurement failed: {status}");
    Ok(())
}
