//! Metrics of the process itself.

use prometheus::IntGauge;
use synod_runtime::metrics::{MetricsError, Registry};

use crate::VERSION;

/// Memory and open files of this process, and its release.
#[derive(Clone, Debug)]
pub struct ProcessMetrics {
    resident: IntGauge,
    open_files: IntGauge,
}

impl ProcessMetrics {
    /// Registers the gauges.
    ///
    /// # Errors
    /// A name is taken.
    pub fn register(registry: &Registry) -> Result<Self, MetricsError> {
        registry
            .gauge_vec(
                "synod_build_info",
                "1 for the running release.",
                &["version"],
            )?
            .with_label_values(&[VERSION])
            .set(1);
        Ok(Self {
            resident: registry
                .gauge("process_resident_memory_bytes", "Resident memory (bytes).")?,
            open_files: registry.gauge("process_open_fds", "Open file descriptors.")?,
        })
    }

    /// Updates the gauges; call it before each scrape. A gauge whose value the system doesn't tell
    /// stays as it is.
    pub fn refresh(&self) {
        if let Some(bytes) = resident_bytes() {
            self.resident.set(clamp(bytes));
        }
        if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
            self.open_files.set(clamp(entries.count() as u64));
        }
    }
}

/// Converts a value for a gauge, which is signed: values above `i64::MAX` become `i64::MAX`.
#[must_use]
pub fn clamp(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// `None` on systems other than Linux.
fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_shows_its_memory_files_and_release() {
        let registry = Registry::new();
        let metrics = ProcessMetrics::register(&registry).unwrap();
        metrics.refresh();
        let text = registry.text().unwrap();
        let release = format!("synod_build_info{{version=\"{VERSION}\"}} 1");
        assert!(text.contains(&release), "{text}");
        assert!(metrics.resident.get() > 0 && metrics.open_files.get() > 0);
    }
}
