//! The consensus cores without I/O, beside the crates `raft` and `omnipaxos`: `crates/core-bench`, which is
//! a workspace of its own, does the measuring.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::document;

/// Entries proposed together.
const BATCHES: [u32; 2] = [1, 64];

/// The cores: as the benchmark names them, as the document does, and the comparator's package.
const CORES: [(&str, &str, Option<&str>); 4] = [
    ("synod-raft", "Synod, Raft", None),
    ("synod-multi-paxos", "Synod, Multi-Paxos", None),
    ("raft-rs", "raft-rs", Some("raft")),
    ("omnipaxos", "OmniPaxos", Some("omnipaxos")),
];

/// Checks the harness, measures, and writes the section.
pub(super) fn run(root: &Path, document: &Path) -> Result<()> {
    let package = root.join("crates/core-bench");
    let results = tempfile::tempdir()?;
    cargo(
        root,
        &package,
        &["test", "--release", "--locked"],
        results.path(),
    )?;
    let bench = ["bench", "--locked", "--bench", "core"];
    cargo(root, &package, &bench, results.path())?;
    let lock = fs::read_to_string(package.join("Cargo.lock"))?;
    let text = section(results.path(), &lock)?;
    println!("{text}");
    document::replace(document, "core", &text)
}

fn cargo(root: &Path, package: &Path, words: &[&str], results: &Path) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let status = Command::new(cargo)
        .args(words)
        .current_dir(package)
        .env("CARGO_TARGET_DIR", target)
        .env("CRITERION_HOME", results)
        // Set from the main workspace's settings for everything that cargo runs; this one has its own.
        .env_remove("PROTOC")
        .status()
        .with_context(|| format!("run cargo {words:?}"))?;
    ensure!(status.success(), "cargo {words:?} failed: {status}");
    Ok(())
}

fn section(results: &Path, lock: &str) -> Result<String> {
    let mut text = format!(
        "Measured on {}. Processor time of three nodes together, in microseconds an entry of 100 bytes: \
         medians, and the 95 % confidence interval of each.\n\n| core | batch of 1 | batch of 64 |\n|---|--:|--:|\n",
        document::machine()
    );
    for (core, name, package) in CORES {
        let version = package.map(|package| version(lock, package)).transpose()?;
        write!(text, "| {name}")?;
        if let Some(version) = version {
            write!(text, " {version}")?;
        }
        for batch in BATCHES {
            let [low, median, high] = micros(results, core, batch)?;
            write!(text, " | {median:.2} ({low:.2} to {high:.2})")?;
        }
        text.push_str(" |\n");
    }
    Ok(text)
}

/// The median and its confidence interval, an entry.
fn micros(results: &Path, core: &str, batch: u32) -> Result<[f64; 3]> {
    let file = results.join(format!("batch-{batch}/{core}/new/estimates.json"));
    let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    let estimates: Value = serde_json::from_str(&text)?;
    let median = &estimates["median"];
    let interval = &median["confidence_interval"];
    let mut figures = [0.0; 3];
    let values = [
        &interval["lower_bound"],
        &median["point_estimate"],
        &interval["upper_bound"],
    ];
    for (figure, value) in figures.iter_mut().zip(values) {
        let nanos = value
            .as_f64()
            .context("criterion's estimates have a median")?;
        *figure = nanos / f64::from(batch) / 1000.0;
    }
    Ok(figures)
}

/// A package's version in a Cargo.lock.
fn version<'a>(lock: &'a str, package: &str) -> Result<&'a str> {
    lock.split_once(&format!("name = \"{package}\"\nversion = \""))
        .and_then(|(_, rest)| rest.split('"').next())
        .with_context(|| format!("{package} is not in Cargo.lock"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_an_entry() {
        let results = tempfile::tempdir().unwrap();
        let folder = results.path().join("batch-64/omnipaxos/new");
        fs::create_dir_all(&folder).unwrap();
        let estimates = r#"{"median":{"point_estimate":64000.0,
            "confidence_interval":{"lower_bound":32000.0,"upper_bound":128000.0}}}"#;
        fs::write(folder.join("estimates.json"), estimates).unwrap();
        let figures = micros(results.path(), "omnipaxos", 64).unwrap();
        assert_eq!(figures, [0.5, 1.0, 2.0]);
        assert!(micros(results.path(), "omnipaxos", 1).is_err());
    }

    #[test]
    fn versions_come_from_the_lock() {
        let lock = "[[package]]\nname = \"raft-proto\"\nversion = \"0.7.1\"\n\n[[package]]\nname = \"raft\"\nversion = \"0.7.0\"\n";
        assert_eq!(version(lock, "raft").unwrap(), "0.7.0");
        assert!(version(lock, "omnipaxos").is_err());
    }
}
