//! Exports figures that are kept elsewhere to Prometheus. They are read on each scrape.

use std::collections::HashMap;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, Metric, MetricFamily, MetricType};
use synod_runtime::metrics::{MetricsError, Registry};

/// Name, help and kind of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figure {
    /// The metric's name, with its unit: `synod_log_write_bytes_total`.
    pub name: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// Counter, gauge or histogram.
    pub kind: MetricType,
}

/// Registers figures. On each scrape `read` returns one value for each, in the same order.
///
/// # Errors
/// A name is malformed or taken.
pub fn register_scraped<F>(
    registry: &Registry,
    figures: Vec<Figure>,
    read: F,
) -> Result<(), MetricsError>
where
    F: Fn() -> Vec<Metric> + Send + Sync + 'static,
{
    let describe = |figure: &Figure| {
        let (name, help) = (figure.name.to_owned(), figure.help.to_owned());
        Desc::new(name, help, Vec::new(), HashMap::new()).map_err(|source| MetricsError::Register {
            name: figure.name.to_owned(),
            source,
        })
    };
    let descriptions = figures.iter().map(describe).collect::<Result<_, _>>()?;
    registry.register(Box::new(Scraped {
        figures,
        descriptions,
        read,
    }))
}

struct Scraped<F> {
    figures: Vec<Figure>,
    descriptions: Vec<Desc>,
    read: F,
}

impl<F> Collector for Scraped<F>
where
    F: Fn() -> Vec<Metric> + Send + Sync,
{
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let family = |(figure, metric): (&Figure, Metric)| {
            let mut family = MetricFamily::default();
            family.set_name(figure.name.to_owned());
            family.set_help(figure.help.to_owned());
            family.set_field_type(figure.kind);
            family.set_metric(vec![metric]);
            family
        };
        self.figures.iter().zip((self.read)()).map(family).collect()
    }
}

/// A counter's value.
#[must_use]
pub fn counter(value: u64) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(float(value));
    let mut metric = Metric::default();
    metric.set_counter(counter);
    metric
}

/// A gauge's value.
#[must_use]
pub fn gauge(value: u64) -> Metric {
    let mut gauge = Gauge::default();
    gauge.set_value(float(value));
    let mut metric = Metric::default();
    metric.set_gauge(gauge);
    metric
}

/// A histogram's value. `buckets` gives each bucket's upper bound and its own count, `count` the
/// count of all samples (also those above the last bound), `sum` their sum.
pub(crate) fn histogram(buckets: impl Iterator<Item = (f64, u64)>, count: u64, sum: f64) -> Metric {
    let mut histogram = Histogram::default();
    let mut cumulative = 0;
    let bucket = |(bound, count): (f64, u64)| {
        cumulative += count;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(bound);
        bucket.set_cumulative_count(cumulative);
        bucket
    };
    histogram.set_bucket(buckets.map(bucket).collect());
    histogram.set_sample_count(count);
    histogram.set_sample_sum(sum);
    let mut metric = Metric::default();
    metric.set_histogram(histogram);
    metric
}

/// Prometheus' values are floats, which are exact up to 2^53.
#[expect(clippy::cast_precision_loss, reason = "metrics are floats")]
pub(crate) fn float(value: u64) -> f64 {
    value as f64
}
