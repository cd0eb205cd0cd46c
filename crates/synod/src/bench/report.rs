//! The measured results.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;
use serde_json::json;

use crate::output::{self, Format};

/// The longest latency that the histogram can record, in microseconds.
const LONGEST_US: u64 = 120_000_000;

/// Latencies and failures of the requests that ended during the measurement.
pub(crate) struct Samples {
    latencies_us: Histogram<u64>,
    failures: u64,
    first_failure: Option<String>,
}

impl Default for Samples {
    fn default() -> Self {
        Self::new()
    }
}

impl Samples {
    pub(crate) fn new() -> Self {
        let latencies_us = Histogram::new_with_bounds(1, LONGEST_US, 3)
            .expect("constant bounds are valid for a histogram");
        Self {
            latencies_us,
            failures: 0,
            first_failure: None,
        }
    }

    pub(crate) fn succeeded(&mut self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(LONGEST_US);
        self.latencies_us.saturating_record(us.max(1));
    }

    pub(crate) fn failed(&mut self, status: &tonic::Status) {
        self.failures += 1;
        self.first_failure
            .get_or_insert_with(|| format!("{}: {}", status.code(), status.message()));
    }

    pub(crate) fn report(self, workload: &str, clients: u16, elapsed: Duration) -> Report {
        let latencies = &self.latencies_us;
        Report {
            workload: workload.to_owned(),
            clients,
            seconds: elapsed.as_secs_f64(),
            operations: latencies.len(),
            operations_per_second: per_second(latencies.len(), elapsed),
            p50_us: latencies.value_at_quantile(0.5),
            p99_us: latencies.value_at_quantile(0.99),
            p999_us: latencies.value_at_quantile(0.999),
            max_us: latencies.max(),
            failures: self.failures,
            first_failure: self.first_failure,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a count for display")]
fn per_second(count: u64, elapsed: Duration) -> f64 {
    count as f64 / elapsed.as_secs_f64().max(f64::EPSILON)
}

/// The figures of one workload.
#[derive(Serialize)]
pub(crate) struct Report {
    workload: String,
    clients: u16,
    seconds: f64,
    operations: u64,
    operations_per_second: f64,
    p50_us: u64,
    p99_us: u64,
    p999_us: u64,
    max_us: u64,
    failures: u64,
    first_failure: Option<String>,
}

impl Report {
    /// Prints the figures.
    ///
    /// # Errors
    /// Nothing was measured because every request failed.
    pub(crate) fn print(self, format: Format) -> anyhow::Result<()> {
        if self.operations == 0 {
            let why = self
                .first_failure
                .unwrap_or_else(|| "no request ended in time".to_owned());
            anyhow::bail!("nothing was measured: {why}");
        }
        if format == Format::Json {
            return output::json(&self);
        }
        let headings = [
            "workload", "clients", "ops/s", "p50_us", "p99_us", "p999_us", "max_us", "failures",
        ];
        let row = vec![
            json!(self.workload),
            json!(self.clients),
            json!(format!("{:.0}", self.operations_per_second)),
            json!(self.p50_us),
            json!(self.p99_us),
            json!(self.p999_us),
            json!(self.max_us),
            json!(match self.first_failure {
                None => "0".to_owned(),
                Some(first) => format!("{} ({first})", self.failures),
            }),
        ];
        output::rows(format, &headings, vec![row])
    }
}
