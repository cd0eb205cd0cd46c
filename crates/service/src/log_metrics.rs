//! Exports the log's counters to Prometheus. The log itself does not know Prometheus.

use prometheus::proto::{Metric, MetricType};
use synod_log::{Log, MetricsSnapshot, SYNC_BUCKETS_US};
use synod_runtime::metrics::{MetricsError, Registry};

use crate::scraped::{Figure, counter, float, gauge, histogram, register_scraped};

/// Names that a service can choose, so that dashboards of another program keep working.
#[derive(Clone, Copy, Debug)]
pub struct LogMetricNames {
    /// A histogram of the time of a group commit, in seconds.
    pub sync_seconds: &'static str,
    /// A counter of written bytes.
    pub write_bytes: &'static str,
}

impl Default for LogMetricNames {
    fn default() -> Self {
        Self {
            sync_seconds: "synod_log_sync_duration_seconds",
            write_bytes: "synod_log_write_bytes_total",
        }
    }
}

/// Registers the log's counters.
///
/// # Errors
/// A name is malformed or taken.
pub fn register_log(
    registry: &Registry,
    log: Log,
    names: LogMetricNames,
) -> Result<(), MetricsError> {
    register_scraped(registry, figures(names), move || values(&log.metrics()))
}

/// In the order of [`values`].
fn figures(names: LogMetricNames) -> Vec<Figure> {
    let figure = |name, help, kind| Figure { name, help, kind };
    vec![
        figure(
            names.sync_seconds,
            "Time to make a group commit durable (seconds).",
            MetricType::HISTOGRAM,
        ),
        figure(
            names.write_bytes,
            "Bytes written to the log (bytes).",
            MetricType::COUNTER,
        ),
        figure(
            "synod_log_commits_total",
            "Group commits.",
            MetricType::COUNTER,
        ),
        figure(
            "synod_log_records_total",
            "Records written.",
            MetricType::COUNTER,
        ),
        figure("synod_log_segments", "Segments in use.", MetricType::GAUGE),
    ]
}

fn values(snapshot: &MetricsSnapshot) -> Vec<Metric> {
    let seconds = |us| float(us) / 1e6;
    let bounds = SYNC_BUCKETS_US.iter().map(|us| seconds(*us));
    let syncs = snapshot.sync_buckets.iter();
    vec![
        histogram(
            bounds.zip(syncs.clone().copied()),
            syncs.sum(),
            seconds(snapshot.sync_total_us),
        ),
        counter(snapshot.bytes_written),
        counter(snapshot.commits),
        counter(snapshot.records),
        gauge(snapshot.segments),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_shows_the_log_under_the_chosen_names() {
        let mut snapshot = MetricsSnapshot {
            bytes_written: 4096,
            sync_total_us: 1_500_000,
            ..MetricsSnapshot::default()
        };
        snapshot.sync_buckets[0] = 2;
        snapshot.sync_buckets[1] = 1;
        let registry = Registry::new();
        let names = LogMetricNames {
            sync_seconds: "disk_sync_seconds",
            ..LogMetricNames::default()
        };
        register_scraped(&registry, figures(names), move || values(&snapshot)).unwrap();
        let text = registry.text().unwrap();
        for line in [
            "# HELP disk_sync_seconds Time to make a group commit durable (seconds).",
            "# TYPE disk_sync_seconds histogram",
            "disk_sync_seconds_bucket{le=\"+Inf\"} 3",
            "disk_sync_seconds_sum 1.5",
            "disk_sync_seconds_count 3",
            "synod_log_write_bytes_total 4096",
            "# TYPE synod_log_segments gauge",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        let taken = register_scraped(&registry, figures(names), Vec::new);
        assert!(taken.is_err());
    }
}
