//! Prometheus metrics of one node. The registry is an ordinary value, not a global, because several
//! nodes may run in one process (`synod dev --nodes 3`, tests).

use prometheus::{
    Encoder as _, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, TextEncoder, core::Collector,
};
use thiserror::Error;

/// The content type of [`Registry::text`].
pub const TEXT_CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// Bucket bounds in seconds for calls and disk syncs, from 25 us to 8 s.
pub const LATENCY_SECONDS: &[f64] = &[
    0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032,
    0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192,
];

/// Errors of registering and encoding metrics.
#[derive(Debug, Error)]
pub enum MetricsError {
    /// The name or a label is invalid, or the name is already registered.
    #[error("cannot register metric {name}: {source}")]
    Register {
        /// The metric.
        name: String,
        /// The registry's error.
        source: prometheus::Error,
    },
    /// The metrics can't be encoded as text.
    #[error("cannot encode metrics: {source}")]
    Encode {
        /// The encoder's error.
        source: prometheus::Error,
    },
}

/// The metrics of one node. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Registry(prometheus::Registry);

impl Registry {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A counter.
    ///
    /// # Errors
    /// [`MetricsError::Register`] if the name is invalid or already registered.
    pub fn counter(&self, name: &str, help: &str) -> Result<IntCounter, MetricsError> {
        self.add(name, IntCounter::new(name, help))
    }

    /// A counter for each combination of label values.
    ///
    /// # Errors
    /// [`MetricsError::Register`] if the name is invalid or already registered.
    pub fn counter_vec(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec, MetricsError> {
        self.add(name, IntCounterVec::new(Opts::new(name, help), labels))
    }

    /// A gauge.
    ///
    /// # Errors
    /// [`MetricsError::Register`] if the name is invalid or already registered.
    pub fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, MetricsError> {
        self.add(name, IntGauge::new(name, help))
    }

    /// A gauge for each combination of label values.
    ///
    /// # Errors
    /// [`MetricsError::Register`] if the name is invalid or already registered.
    pub fn gauge_vec(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntGaugeVec, MetricsError> {
        self.add(name, IntGaugeVec::new(Opts::new(name, help), labels))
    }

    /// A histogram with the given upper bounds.
    ///
    /// # Errors
    /// [`MetricsError::Register`] if the name is invalid or already registered.
    pub fn histogram(
        &self,
        name: &str,
        help: &str,
        bounds: &[f64],
    ) -> Result<Histogram, MetricsError> {
        let options = HistogramOpts::new(name, help).buckets(bounds.to_vec());
        self.add(name, Histogram::with_opts(options))
    }

    /// A histogram for each combination of label values.
    ///
    /// # Errors
    /// [`MetricsError::Register`] if the name is invalid or already registered.
    pub fn histogram_vec(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        bounds: &[f64],
    ) -> Result<HistogramVec, MetricsError> {
        let options = HistogramOpts::new(name, help).buckets(bounds.to_vec());
        self.add(name, HistogramVec::new(options, labels))
    }

    /// Registers any other collector, for example one that computes its values on each scrape.
    ///
    /// # Errors
    /// [`MetricsError::Register`] if the name is already registered.
    pub fn register(&self, collector: Box<dyn Collector>) -> Result<(), MetricsError> {
        let name = collector
            .desc()
            .first()
            .map_or_else(String::new, |desc| desc.fq_name.clone());
        self.0
            .register(collector)
            .map_err(|source| MetricsError::Register { name, source })
    }

    /// All metrics in Prometheus' text format, sorted by name.
    ///
    /// # Errors
    /// [`MetricsError::Encode`] if a collector returns an inconsistent family.
    pub fn text(&self) -> Result<String, MetricsError> {
        let mut buffer = Vec::new();
        TextEncoder::new()
            .encode(&self.0.gather(), &mut buffer)
            .map_err(|source| MetricsError::Encode { source })?;
        String::from_utf8(buffer).map_err(|error| MetricsError::Encode {
            source: prometheus::Error::Msg(error.to_string()),
        })
    }

    fn add<C: Collector + Clone + 'static>(
        &self,
        name: &str,
        metric: prometheus::Result<C>,
    ) -> Result<C, MetricsError> {
        metric
            .and_then(|metric| {
                self.0.register(Box::new(metric.clone()))?;
                Ok(metric)
            })
            .map_err(|source| MetricsError::Register {
                name: name.to_owned(),
                source,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_contains_every_kind_of_metric() {
        let registry = Registry::new();
        registry.counter("synod_c_total", "c").unwrap().inc_by(2);
        let vec = registry
            .counter_vec("synod_cv_total", "cv", &["kind"])
            .unwrap();
        vec.with_label_values(&["a"]).inc();
        registry.gauge("synod_g", "g").unwrap().set(-1);
        let gauges = registry.gauge_vec("synod_gv", "gv", &["kind"]).unwrap();
        gauges.with_label_values(&["b"]).set(5);
        let histogram = registry
            .histogram("synod_h_seconds", "h", LATENCY_SECONDS)
            .unwrap();
        histogram.observe(0.003);
        let histograms = registry
            .histogram_vec("synod_hv", "hv", &["kind"], &[1.0])
            .unwrap();
        histograms.with_label_values(&["c"]).observe(2.0);
        let text = registry.clone().text().unwrap();
        for line in [
            "# TYPE synod_c_total counter",
            "synod_c_total 2",
            "synod_cv_total{kind=\"a\"} 1",
            "synod_g -1",
            "synod_gv{kind=\"b\"} 5",
            "synod_h_seconds_bucket{le=\"0.002\"} 0",
            "synod_h_seconds_bucket{le=\"0.004\"} 1",
            "synod_hv_bucket{kind=\"c\",le=\"+Inf\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn an_error_names_the_metric_that_exists_already() {
        let registry = Registry::new();
        registry.counter("synod_twice", "x").unwrap();
        let error = registry.gauge("synod_twice", "x").unwrap_err().to_string();
        assert!(error.contains("synod_twice"), "{error}");
        // Another node's registry in the same process is independent.
        Registry::new().counter("synod_twice", "x").unwrap();
    }
}
