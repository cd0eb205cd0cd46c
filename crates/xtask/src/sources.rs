//! The sources that the workspace's own lints check.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

/// Calls `find`, which returns line numbers, on each Rust source in `folders`. Fails with `advice`
/// and all lines found.
pub(crate) fn check(
    folders: &[&str],
    find: impl Fn(&str) -> Vec<usize>,
    advice: &str,
) -> Result<()> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut wrong = Vec::new();
    let mut waiting: Vec<PathBuf> = folders.iter().map(|name| workspace.join(name)).collect();
    while let Some(folder) = waiting.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let lines = find(&std::fs::read_to_string(&path)?);
                wrong.extend(
                    lines
                        .iter()
                        .map(|line| format!("{}:{line}", path.display())),
                );
            }
        }
    }
    ensure!(wrong.is_empty(), "{advice}:\n{}", wrong.join("\n"));
    Ok(())
}
