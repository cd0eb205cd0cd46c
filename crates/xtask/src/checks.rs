//! The checks that a change must pass.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use synod_testkit::{peers, zookeeper};

use crate::{boundaries, comments, logging};

/// Installs the peers and prints what is installed.
pub(crate) fn peers() -> Result<()> {
    let peers = peers::install()?;
    println!("peers: {}", peers.describe());
    for program in [
        Some(&peers.etcd),
        Some(&peers.etcdctl),
        peers.etcdutl.as_ref(),
    ] {
        println!(
            "  {}",
            program.map_or("no etcdutl".into(), |path| path.display().to_string())
        );
    }
    Ok(())
}

/// Runs all tests. The test runner's summary is the last output.
pub(crate) fn test(args: &[String]) -> Result<ExitCode> {
    peers()?;
    let binaries = build_binaries()?;
    let zoo = bug_zoo()?;
    let status = cargo()
        .args(["test", "--workspace", "--no-fail-fast"])
        .args(args)
        .envs(binaries)
        .status()
        .context("run cargo test")?;
    Ok(code(if status.success() { zoo } else { status }))
}

/// Runs the tests with clients of other languages, and the scenarios of ZooKeeper. They need Go,
/// Python, Node, Java with Maven, and curl; all peers are installed in their cache.
pub(crate) fn interop(args: &[String]) -> Result<ExitCode> {
    peers()?;
    println!("peers: {}", zookeeper::install()?.describe());
    let binaries = build_binaries()?;
    let targets = ["--test", "interop", "--test", "zookeeper"];
    let status = cargo()
        .args(["test", "-p", "synod-tests"])
        .args(targets)
        .args(["--", "--include-ignored"])
        .args(args)
        .envs(binaries)
        .status()
        .context("run cargo test")?;
    Ok(code(status))
}

/// Checks that the models and the simulation detect the mutants. This needs a separate build,
/// because mutants are behind a feature.
fn bug_zoo() -> Result<ExitStatus> {
    cargo()
        .args(["test", "-p", "synod-models", "-p", "synod-simulation"])
        .args([
            "--features",
            "synod-models/mutants,synod-simulation/mutants",
        ])
        .args(["--test", "zoo", "--no-fail-fast"])
        .status()
        .context("run the bug zoo")
}

/// Checks formatting, clippy, the direction of dependencies, and the fields of log lines.
pub(crate) fn lint() -> Result<ExitCode> {
    let clippy = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ];
    for words in [&["fmt", "--all", "--check"][..], &clippy] {
        println!("cargo {}", words.join(" "));
        let status = cargo()
            .args(words)
            .status()
            .with_context(|| format!("run {words:?}"))?;
        if !status.success() {
            return Ok(code(status));
        }
    }
    println!("dependencies");
    boundaries::check(&cargo_metadata()?)?;
    println!("log lines");
    logging::check()?;
    println!("comments");
    comments::check()?;
    Ok(ExitCode::SUCCESS)
}

/// The servers under test, and the variables that name them to tests.
const SERVERS: [(&str, &str); 2] = [
    ("synod-consensus", "SYNOD_CONSENSUS_BIN"),
    ("synod-coordination", "SYNOD_COORDINATION_BIN"),
];

/// Builds all binaries at once, so that whole-process tests find them. Returns the variables for
/// the tests.
fn build_binaries() -> Result<Vec<(&'static str, PathBuf)>> {
    let output = cargo()
        .args([
            "build",
            "--workspace",
            "--bins",
            "--message-format=json-render-diagnostics",
        ])
        .stderr(Stdio::inherit())
        .output()
        .context("run cargo build")?;
    ensure!(
        output.status.success(),
        "cargo build failed: {}",
        output.status
    );
    servers(&output.stdout)
}

/// The variables that name the servers to tests and benchmarks, from cargo's messages about their
/// build.
pub(crate) fn servers(messages: &[u8]) -> Result<Vec<(&'static str, PathBuf)>> {
    let messages: Vec<Value> = String::from_utf8_lossy(messages)
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let find = |(name, variable)| {
        let path = messages
            .iter()
            .filter(|message| message["target"]["name"] == name)
            .find_map(|message| message["executable"].as_str().map(PathBuf::from))
            .with_context(|| format!("cargo named no executable for {name}"))?;
        println!("{name}: {}", path.display());
        Ok((variable, path))
    };
    SERVERS.into_iter().map(find).collect()
}

/// Cargo's metadata of the workspace's own packages.
pub(crate) fn cargo_metadata() -> Result<Value> {
    let output = cargo()
        .args(["metadata", "--no-deps", "--format-version=1"])
        .stderr(Stdio::inherit())
        .output()
        .context("run cargo metadata")?;
    ensure!(
        output.status.success(),
        "cargo metadata failed: {}",
        output.status
    );
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn cargo() -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."));
    command
}

fn code(status: ExitStatus) -> ExitCode {
    status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from)
}
