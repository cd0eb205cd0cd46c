//! The log's own counters as Prometheus sees them. The log does not know Prometheus, so they are
//! read when somebody scrapes.

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, Metric, MetricFamily, MetricType};
use synod_log::{Log, MetricsSnapshot, SYNC_BUCKETS_US};

/// Name, help and type of each family, in the order of [`LogCollector::families`].
const FAMILIES: [(&str, &str, MetricType); 5] = [
    (
        "etcd_disk_wal_fsync_duration_seconds",
        "Time to make a group commit durable (seconds).",
        MetricType::HISTOGRAM,
    ),
    (
        "etcd_disk_wal_write_bytes_total",
        "Bytes written to the log (bytes).",
        MetricType::COUNTER,
    ),
    (
        "synod_log_commits_total",
        "Group commits.",
        MetricType::COUNTER,
    ),
    (
        "synod_log_records_total",
        "Records written.",
        MetricType::COUNTER,
    ),
    ("synod_log_segments", "Segments in use.", MetricType::GAUGE),
];

/// Reads a log's counters.
pub(crate) struct LogCollector {
    log: Log,
    descriptions: Vec<Desc>,
}

impl LogCollector {
    /// # Errors
    /// A name that Prometheus does not take; ours it does.
    pub(crate) fn new(log: Log) -> prometheus::Result<Self> {
        let describe = |(name, help, _): &(&str, &str, MetricType)| {
            let (name, help) = ((*name).to_owned(), (*help).to_owned());
            Desc::new(name, help, Vec::new(), std::collections::HashMap::new())
        };
        let descriptions = FAMILIES.iter().map(describe).collect::<Result<_, _>>()?;
        Ok(Self { log, descriptions })
    }

    fn families(snapshot: &MetricsSnapshot) -> Vec<MetricFamily> {
        let metrics = [
            histogram(snapshot),
            counter(snapshot.bytes_written),
            counter(snapshot.commits),
            counter(snapshot.records),
            gauge(snapshot.segments),
        ];
        FAMILIES
            .iter()
            .zip(metrics)
            .map(|((name, help, kind), metric)| {
                let mut family = MetricFamily::default();
                family.set_name((*name).to_owned());
                family.set_help((*help).to_owned());
                family.set_field_type(*kind);
                family.set_metric(vec![metric]);
                family
            })
            .collect()
    }
}

impl Collector for LogCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        Self::families(&self.log.metrics())
    }
}

fn histogram(snapshot: &MetricsSnapshot) -> Metric {
    let mut histogram = Histogram::default();
    let mut cumulative = 0;
    let mut buckets = Vec::with_capacity(SYNC_BUCKETS_US.len());
    for (bound_us, count) in SYNC_BUCKETS_US.iter().zip(snapshot.sync_buckets) {
        cumulative += count;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(seconds(*bound_us));
        bucket.set_cumulative_count(cumulative);
        buckets.push(bucket);
    }
    histogram.set_bucket(buckets);
    histogram.set_sample_count(snapshot.sync_buckets.iter().sum());
    histogram.set_sample_sum(seconds(snapshot.sync_total_us));
    let mut metric = Metric::default();
    metric.set_histogram(histogram);
    metric
}

fn counter(value: u64) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(float(value));
    let mut metric = Metric::default();
    metric.set_counter(counter);
    metric
}

fn gauge(value: u64) -> Metric {
    let mut gauge = Gauge::default();
    gauge.set_value(float(value));
    let mut metric = Metric::default();
    metric.set_gauge(gauge);
    metric
}

fn seconds(us: u64) -> f64 {
    float(us) / 1e6
}

/// Prometheus counts in floats; beyond 2^53 the last digits are nobody's concern.
#[expect(clippy::cast_precision_loss, reason = "metrics are floats")]
fn float(value: u64) -> f64 {
    value as f64
}
