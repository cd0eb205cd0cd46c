//! Locates the `synod-consensus` binary under test.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};

/// The binary under test. `SYNOD_CONSENSUS_BIN` names it if set (`cargo xtask test` sets it).
/// Otherwise `cargo build -p synod-consensus` builds it, once per test process.
///
/// # Errors
/// The named file doesn't exist, or the build failed.
pub fn consensus_binary() -> Result<&'static Path> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match FOUND.get_or_init(|| locate().map_err(|error| format!("{error:#}"))) {
        Ok(path) => Ok(path),
        Err(error) => Err(anyhow::Error::msg(error.clone())),
    }
}

fn locate() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("SYNOD_CONSENSUS_BIN") {
        let path = PathBuf::from(named);
        ensure!(
            path.is_file(),
            "SYNOD_CONSENSUS_BIN names {}, which is not a file: unset it, or build that binary",
            path.display()
        );
        return Ok(path);
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "build",
            "--quiet",
            "--package",
            "synod-consensus",
            "--message-format=json",
        ])
        .arg("--manifest-path")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.toml"))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("run cargo build for synod-consensus; or set SYNOD_CONSENSUS_BIN to a binary")?;
    ensure!(
        output.status.success(),
        "cargo build -p synod-consensus failed ({}): fix it, or set SYNOD_CONSENSUS_BIN to a binary",
        output.status
    );
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == "synod-consensus")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .context("cargo built synod-consensus but named no executable: set SYNOD_CONSENSUS_BIN")
}
