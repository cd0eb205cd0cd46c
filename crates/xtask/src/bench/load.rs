//! Runs the load generator once.

use std::{path::Path, process::Stdio};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

/// The load generator's report.
#[derive(Deserialize, Clone, Debug)]
pub(super) struct Figures {
    pub(super) operations: u64,
    pub(super) operations_per_second: f64,
    pub(super) p50_us: u64,
    pub(super) p99_us: u64,
    pub(super) p999_us: u64,
    pub(super) max_us: u64,
    pub(super) failures: u64,
    pub(super) first_failure: Option<String>,
}

/// Starts `synod bench` with these arguments. [`Running::figures`] waits for it.
pub(super) fn start(generator: &Path, endpoints: &[String], words: &[String]) -> Result<Running> {
    let child = tokio::process::Command::new(generator)
        .arg("bench")
        .args(words)
        .args(["--output", "json", "--endpoints", &endpoints.join(",")])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("start synod bench")?;
    Ok(Running(child))
}

/// A running load generator.
pub(super) struct Running(tokio::process::Child);

impl Running {
    /// Waits until it ends and parses the figures.
    pub(super) async fn figures(self) -> Result<Figures> {
        let output = self.0.wait_with_output().await?;
        ensure!(
            output.status.success(),
            "synod bench failed: {}",
            output.status
        );
        let figures: Figures =
            serde_json::from_slice(&output.stdout).context("synod bench's JSON")?;
        ensure!(
            figures.failures * 100 <= figures.operations,
            "{} requests failed: {}",
            figures.failures,
            figures.first_failure.as_deref().unwrap_or("?")
        );
        Ok(figures)
    }
}
