//! Benchmarks the consensus cores without I/O, next to the crates `raft` and `omnipaxos`.
//! `crates/core-bench`, a separate workspace, does the measuring.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::document;

/// The numbers of entries proposed together.
const BATCHES: [u32; 2] = [1, 64];

/// The number of turns per core. Odd, so that there is a median.
const TURNS: usize = 5;

/// The cores: their names in the benchmark and in the document, and the comparator's package.
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
    let mut turns = Turns::new();
    for _ in 0..TURNS {
        for (core, _, _) in CORES {
            for batch in BATCHES {
                // Each runs in a separate process, because earlier measurements affect the memory
                // layout.
                let only = format!("batch-{batch}/{core}");
                let bench = [
                    "bench", "--locked", "--bench", "core", "--", "--exact", &only,
                ];
                cargo(root, &package, &bench, results.path())?;
                let median = micros(results.path(), core, batch)?;
                turns.entry((core, batch)).or_default().push(median);
            }
        }
    }
    let lock = fs::read_to_string(package.join("Cargo.lock"))?;
    let text = section(&turns, &lock)?;
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
        // Cargo gets this from the main workspace's settings, but the benchmark's workspace has its
        // own.
        .env_remove("PROTOC")
        .status()
        .with_context(|| format!("run cargo {words:?}"))?;
    ensure!(status.success(), "cargo {words:?} failed: {status}");
    Ok(())
}

/// The figures of each core and batch size, in microseconds per entry.
type Turns = BTreeMap<(&'static str, u32), Vec<f64>>;

fn section(turns: &Turns, lock: &str) -> Result<String> {
    let mut text = format!(
        "Measured on {}. Processor time of three nodes together, in microseconds per entry of 100 bytes: the \
         median of {TURNS} turns, each in a separate process, with the lowest and highest.\n\n\
         | core | batch of 1 | batch of 64 |\n|---|--:|--:|\n",
        document::machine()
    );
    for (core, name, package) in CORES {
        let version = package.map(|package| version(lock, package)).transpose()?;
        write!(text, "| {name}")?;
        if let Some(version) = version {
            write!(text, " {version}")?;
        }
        for batch in BATCHES {
            let mut figures = turns.get(&(core, batch)).cloned().unwrap_or_default();
            figures.sort_by(f64::total_cmp);
            let middle = figures.get(figures.len() / 2);
            let (Some(low), Some(middle), Some(high)) = (figures.first(), middle, figures.last())
            else {
                bail!("{core} had no turn with a batch of {batch}");
            };
            write!(text, " | {middle:.2} ({low:.2} to {high:.2})")?;
        }
        text.push_str(" |\n");
    }
    Ok(text)
}

/// The last turn's median per entry.
fn micros(results: &Path, core: &str, batch: u32) -> Result<f64> {
    let file = results.join(format!("batch-{batch}/{core}/new/estimates.json"));
    let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    let estimates: Value = serde_json::from_str(&text)?;
    let nanos = estimates["median"]["point_estimate"]
        .as_f64()
        .context("criterion's estimates have a median")?;
    Ok(nanos / f64::from(batch) / 1000.0)
}

/// The version of a package in a Cargo.lock.
fn version<'a>(lock: &'a str, package: &str) -> Result<&'a str> {
    lock.split_once(&format!("name = \"{package}\"\nversion = \""))
        .and_then(|(_, rest)| rest.split('"').next())
        .with_context(|| format!("{package} is not in Cargo.lock"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The main workspace's builds don't notice when that one's lock file is behind.
    #[test]
    fn the_separate_workspace_locks_this_version() {
        let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../core-bench/Cargo.lock");
        let lock = fs::read_to_string(lock).unwrap();
        let locked = format!(
            "name = \"synod-consensus-core\"\nversion = \"{}\"",
            env!("CARGO_PKG_VERSION")
        );
        assert!(
            lock.contains(&locked),
            "run cargo metadata in crates/core-bench"
        );
    }

    #[test]
    fn figures_are_per_entry() {
        let results = tempfile::tempdir().unwrap();
        let folder = results.path().join("batch-64/omnipaxos/new");
        fs::create_dir_all(&folder).unwrap();
        let estimates = r#"{"median":{"point_estimate":32000.0}}"#;
        fs::write(folder.join("estimates.json"), estimates).unwrap();
        let figure = micros(results.path(), "omnipaxos", 64).unwrap();
        assert!((figure - 0.5).abs() < 1e-9, "{figure}");
        assert!(micros(results.path(), "omnipaxos", 1).is_err());
    }

    #[test]
    fn the_table_shows_the_median_turn() {
        let lock =
            "name = \"raft\"\nversion = \"0.7.0\"\nname = \"omnipaxos\"\nversion = \"0.2.4\"\n";
        let mut turns = Turns::new();
        for (core, _, _) in CORES {
            for batch in BATCHES {
                turns.insert((core, batch), vec![3.0, 1.0, 2.5]);
            }
        }
        let text = section(&turns, lock).unwrap();
        let line = "| raft-rs 0.7.0 | 2.50 (1.00 to 3.00) | 2.50 (1.00 to 3.00) |\n";
        assert!(text.contains(line), "{text}");
        turns.clear();
        assert!(section(&turns, lock).is_err());
    }

    #[test]
    fn versions_are_read_from_the_lock_file() {
        let lock = "[[package]]\nname = \"raft-proto\"\nversion = \"0.7.1\"\n\n[[package]]\nname = \"raft\"\nversion = \"0.7.0\"\n";
        assert_eq!(version(lock, "raft").unwrap(), "0.7.0");
        assert!(version(lock, "omnipaxos").is_err());
    }
}
