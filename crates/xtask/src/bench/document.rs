//! docs/benchmarks.md. Its sections between markers are generated; everything else is written by
//! hand.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

/// Replaces the section's text, or appends the section.
pub(super) fn replace(document: &Path, section: &str, text: &str) -> Result<()> {
    let (begin, end) = (
        format!("<!-- begin {section} -->"),
        format!("<!-- end {section} -->"),
    );
    let old = fs::read_to_string(document).unwrap_or_else(|_| "# Benchmarks\n".to_owned());
    let body = format!("{begin}\n{}\n{end}", text.trim_end());
    let new = match old.split_once(&begin) {
        None => format!("{}\n\n{body}\n", old.trim_end()),
        Some((before, rest)) => {
            let (_, after) = rest
                .split_once(&end)
                .context("the section's end marker is missing")?;
            format!("{before}{body}{after}")
        }
    };
    fs::write(document, new).with_context(|| format!("write {}", document.display()))
}

/// A short description of the machine, without its name.
pub(super) fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| text.split_whitespace().nth(1)?.parse::<u64>().ok())
        .map_or(0, |kib| kib / (1 << 20));
    let processor = fs::read_to_string("/proc/cpuinfo")
        .ok()
        .and_then(|text| {
            let line = text
                .lines()
                .find(|line| line.starts_with("model name"))?
                .to_owned();
            Some(line.split_once(':')?.1.trim().to_owned())
        })
        .unwrap_or_else(|| "unknown processor".to_owned());
    format!("{cores} cores ({processor}), {memory} GiB of memory")
}
