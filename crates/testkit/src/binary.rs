//! Locates the binaries under test.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};

/// The `synod-consensus` binary under test. `SYNOD_CONSENSUS_BIN` names it if set (`cargo xtask
/// test` sets it). Otherwise `cargo build` builds it, once per test process.
///
/// # Errors
/// The named file doesn't exist, or the build failed.
pub fn consensus_binary() -> Result<&'static Path> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    found(&FOUND, "synod-consensus", "SYNOD_CONSENSUS_BIN")
}

/// The `synod-coordination` binary under test, which `SYNOD_COORDINATION_BIN` names.
///
/// # Errors
/// As [`consensus_binary`].
pub fn coordination_binary() -> Result<&'static Path> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    found(&FOUND, "synod-coordination", "SYNOD_COORDINATION_BIN")
}

/// The `synod` command, beside [`consensus_binary`]. `cargo build` builds it if it is missing.
///
/// # Errors
/// As [`consensus_binary`].
pub fn synod_binary() -> Result<PathBuf> {
    let program = consensus_binary()?.with_file_name("synod");
    if !program.is_file() {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let status = Command::new(cargo)
            .args(["build", "--quiet", "--package", "synod"])
            .status()?;
        ensure!(status.success(), "cargo build -p synod: {status}");
    }
    Ok(program)
}

fn found(
    place: &'static OnceLock<Result<PathBuf, String>>,
    package: &str,
    variable: &str,
) -> Result<&'static Path> {
    let locate = || locate(package, variable).map_err(|error| format!("{error:#}"));
    match place.get_or_init(locate) {
        Ok(path) => Ok(path),
        Err(error) => Err(anyhow::Error::msg(error.clone())),
    }
}

fn locate(package: &str, variable: &str) -> Result<PathBuf> {
    if let Some(named) = std::env::var_os(variable) {
        let path = PathBuf::from(named);
        ensure!(
            path.is_file(),
            "{variable} names {}, which is not a file: unset it, or build that binary",
            path.display()
        );
        return Ok(path);
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--quiet", "--package", package])
        .arg("--message-format=json")
        .arg("--manifest-path")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.toml"))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("run cargo build -p {package}; or set {variable} to a binary"))?;
    ensure!(
        output.status.success(),
        "cargo build -p {package} failed ({}): fix it, or set {variable} to a binary",
        output.status
    );
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == package)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .with_context(|| format!("cargo built {package} but named no executable: set {variable}"))
}
