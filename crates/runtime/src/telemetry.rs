//! The process's logs and traces: one subscriber, installed once.
//!
//! Logs go to standard error, as text (terminal) or JSON lines (pods). Spans are exported over OTLP
//! only if an endpoint is configured. Without one there is no trace layer, and a span costs only a
//! level check.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use opentelemetry::{KeyValue, trace::TracerProvider as _};
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{Sampler, SdkTracerProvider},
};
use thiserror::Error;
use tracing_subscriber::{
    EnvFilter, Layer, Registry, filter::LevelFilter, layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

/// How long dropping the [`TelemetryGuard`] waits for the last spans.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// Timeout of one export; its spans are then dropped.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);

static EXPORTING: AtomicBool = AtomicBool::new(false);

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// Human-readable lines.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// The configuration for [`init`].
#[derive(Debug, Clone)]
pub struct TelemetryConfig {
    /// The format of log lines.
    pub format: LogFormat,
    /// A level (`info`) or a list of directives (`info,synod_replica=debug`).
    pub filter: String,
    /// The endpoint for spans, OTLP over gRPC, e.g. `http://collector:4317`. `None` disables the
    /// export.
    pub otlp_endpoint: Option<String>,
    /// `service.name` of exported spans.
    pub service_name: String,
    /// `service.instance.id` of exported spans, usually the node's name.
    pub service_instance: String,
    /// The fraction of traces started here that are exported, 0.0 to 1.0. A caller's sampling
    /// decision has priority.
    pub sample_ratio: f64,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            filter: "info".to_owned(),
            otlp_endpoint: None,
            service_name: "synod".to_owned(),
            service_instance: String::new(),
            sample_ratio: 1.0,
        }
    }
}

/// The reason why telemetry could not start.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// The filter can't be parsed.
    #[error(
        "log filter {filter:?} is invalid ({reason}): use a level such as info, or target=level pairs separated by commas"
    )]
    Filter {
        /// The configured filter.
        filter: String,
        /// The parser's error.
        reason: String,
    },
    /// The OTLP exporter can't be created.
    #[error(
        "cannot export traces to {endpoint}: {reason}; the endpoint is a URL such as http://collector:4317"
    )]
    Otlp {
        /// The configured endpoint.
        endpoint: String,
        /// The exporter's error.
        reason: String,
    },
    /// Telemetry was already initialized in this process.
    #[error("telemetry is already set up in this process")]
    AlreadyInitialized,
}

/// Keeps telemetry running. Dropping it exports the remaining spans, for up to 5 s.
#[derive(Debug)]
#[must_use = "dropping the guard ends the export of traces"]
pub struct TelemetryGuard {
    exporter: Option<Exporter>,
}

/// Whether spans are exported. If not, callers can skip trace context.
#[must_use]
pub fn is_exporting() -> bool {
    EXPORTING.load(Ordering::Relaxed)
}

/// Installs the process's log output and, if an endpoint is configured, the trace exporter.
///
/// # Errors
/// [`TelemetryError`] for an invalid filter or endpoint, or if called twice.
pub fn init(config: &TelemetryConfig) -> Result<TelemetryGuard, TelemetryError> {
    let filter = parse_filter(&config.filter)?;
    let exporter = match &config.otlp_endpoint {
        Some(endpoint) => Some(Exporter::start(config, endpoint)?),
        None => None,
    };
    let traces = exporter.as_ref().map(|exporter| {
        tracing_opentelemetry::layer()
            .with_tracer(exporter.provider.tracer("synod"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            // The exporter's own gRPC calls must not create spans that it would export again.
            .with_filter(not_the_exporter())
    });
    tracing_subscriber::registry()
        .with(log_layer(config.format).with_filter(filter))
        .with(traces)
        .try_init()
        .map_err(|_| TelemetryError::AlreadyInitialized)?;
    if exporter.is_some() {
        opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
        EXPORTING.store(true, Ordering::Relaxed);
    }
    Ok(TelemetryGuard { exporter })
}

fn parse_filter(filter: &str) -> Result<EnvFilter, TelemetryError> {
    EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .parse(filter)
        .map_err(|error| TelemetryError::Filter {
            filter: filter.to_owned(),
            reason: error.to_string(),
        })
}

fn log_layer(format: LogFormat) -> Box<dyn Layer<Registry> + Send + Sync> {
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match format {
        LogFormat::Text => {
            use std::io::IsTerminal as _;
            layer.with_ansi(std::io::stderr().is_terminal()).boxed()
        }
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    }
}

fn not_the_exporter() -> tracing_subscriber::filter::Targets {
    let mut targets = tracing_subscriber::filter::Targets::new().with_default(LevelFilter::INFO);
    for noisy in [
        "h2",
        "hyper",
        "hyper_util",
        "tonic",
        "tower",
        "opentelemetry",
    ] {
        targets = targets.with_target(noisy, LevelFilter::OFF);
    }
    targets
}

/// The trace pipeline, and the runtime that drives its gRPC channel. The caller's runtime may be
/// gone, or blocked in our drop, when the last spans are sent.
#[derive(Debug)]
struct Exporter {
    provider: SdkTracerProvider,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Exporter {
    fn start(config: &TelemetryConfig, endpoint: &str) -> Result<Self, TelemetryError> {
        let otlp_error = |reason: String| TelemetryError::Otlp {
            endpoint: endpoint.to_owned(),
            reason,
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("synod-otlp")
            .enable_all()
            .build()
            .map_err(|error| otlp_error(error.to_string()))?;
        let exporter = {
            let _entered = runtime.enter();
            opentelemetry_otlp::SpanExporter::builder()
                .with_tonic()
                .with_endpoint(endpoint)
                .with_timeout(EXPORT_TIMEOUT)
                .build()
                .map_err(|error| otlp_error(error.to_string()))?
        };
        let resource = Resource::builder()
            .with_service_name(config.service_name.clone())
            .with_attribute(KeyValue::new(
                "service.instance.id",
                config.service_instance.clone(),
            ))
            .build();
        let sampler = Sampler::TraceIdRatioBased(config.sample_ratio);
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(Sampler::ParentBased(Box::new(sampler)))
            .with_resource(resource)
            .build();
        Ok(Self {
            provider,
            runtime: Some(runtime),
        })
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        EXPORTING.store(false, Ordering::Relaxed);
        if let Err(error) = self.provider.shutdown_with_timeout(FLUSH_TIMEOUT) {
            tracing::warn!(%error, "could not export the last spans");
        }
        // Dropping a runtime inside another one would panic. This call never blocks.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl TelemetryGuard {
    /// Exports waiting spans without ending the pipeline.
    pub fn flush(&self) {
        if let Some(exporter) = &self.exporter
            && let Err(error) = exporter.provider.force_flush()
        {
            tracing::warn!(%error, "could not export spans");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_checked() {
        assert!(parse_filter("info").is_ok());
        assert!(parse_filter("warn,synod_rpc=trace").is_ok());
        assert!(parse_filter("").is_ok());
        let error = parse_filter("info,synod_rpc=loud").unwrap_err();
        assert!(error.to_string().contains("synod_rpc=loud"), "{error}");
    }
}
