//! The metrics of the service. Where ZooKeeper has the metric its name is used, so that its
//! dashboards keep working. Those of gRPC are in `synod-rpc`.

use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge};
use synod_runtime::metrics::{MetricsError, Registry};
use synod_service::{ProcessMetrics, clamp};

use crate::hub::Facts;

/// Upper bounds of latencies, in milliseconds.
const LATENCY_BOUNDS_MS: &[f64] = &[
    0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1_024.0, 4_096.0,
    16_384.0,
];

/// What is counted where it happens, at the port of ZooKeeper's clients.
#[derive(Clone, Debug)]
pub(crate) struct Traffic {
    /// Requests.
    pub(crate) received: IntCounter,
    /// Replies and events.
    pub(crate) sent: IntCounter,
    pub(crate) bytes_received: IntCounter,
    pub(crate) bytes_sent: IntCounter,
    /// Connections that were closed at once, since there were too many.
    pub(crate) rejected: IntCounter,
    /// TLS handshakes that failed.
    pub(crate) failed_handshakes: IntCounter,
    /// Requests over the limit of their size.
    pub(crate) too_large: IntCounter,
    /// Requests that had to wait until others were done.
    pub(crate) throttled: IntCounter,
    /// How long requests take that need no transaction.
    pub(crate) reads: Histogram,
    /// How long requests take that need one.
    pub(crate) updates: Histogram,
}

impl Traffic {
    /// # Errors
    /// A name is taken.
    fn new(registry: &Registry) -> Result<Self, MetricsError> {
        let latency = |name, help| registry.histogram(name, help, LATENCY_BOUNDS_MS);
        Ok(Self {
            received: registry.counter("packets_received", "Requests of ZooKeeper's clients.")?,
            sent: registry.counter("packets_sent", "Replies and events to ZooKeeper's clients.")?,
            bytes_received: registry
                .counter("bytes_received_count", "Bytes from ZooKeeper's clients.")?,
            bytes_sent: registry.counter("response_bytes", "Bytes to ZooKeeper's clients.")?,
            rejected: registry.counter(
                "connection_rejected",
                "Connections closed at once, since there were too many.",
            )?,
            failed_handshakes: registry.counter(
                "unsuccessful_handshake",
                "TLS handshakes with ZooKeeper's clients that failed.",
            )?,
            too_large: registry.counter(
                "large_requests_rejected",
                "Requests that were larger than allowed.",
            )?,
            throttled: registry.counter(
                "request_throttle_wait_count",
                "Requests that waited until others were done.",
            )?,
            reads: latency("readlatency", "Milliseconds until the reply to a read.")?,
            updates: latency("updatelatency", "Milliseconds until the reply to a write.")?,
        })
    }

    /// The counters that only `mntr` and Prometheus show, by ZooKeeper's names.
    pub(crate) fn counts(&self) -> [(&'static str, u64); 6] {
        [
            ("bytes_received_count", self.bytes_received.get()),
            ("response_bytes", self.bytes_sent.get()),
            ("connection_rejected", self.rejected.get()),
            ("unsuccessful_handshake", self.failed_handshakes.get()),
            ("large_requests_rejected", self.too_large.get()),
            ("request_throttle_wait_count", self.throttled.get()),
        ]
    }

    /// The latencies by ZooKeeper's names.
    pub(crate) fn latencies(&self) -> [(&'static str, &Histogram); 2] {
        [
            ("readlatency", &self.reads),
            ("updatelatency", &self.updates),
        ]
    }
}

/// Counters are increased where things happen. Gauges are set on each scrape.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) health_checks: IntCounterVec,
    connections: IntGauge,
    nodes: IntGauge,
    sessions: IntGauge,
    watches: IntGauge,
    ephemerals: IntGauge,
    waiting: IntGauge,
    pub(crate) traffic: Traffic,
    process: ProcessMetrics,
}

impl Metrics {
    /// Registers the instruments.
    ///
    /// # Errors
    /// A name is taken.
    pub(crate) fn new(registry: &Registry) -> Result<Self, MetricsError> {
        Ok(Self {
            registry: registry.clone(),
            health_checks: registry.counter_vec(
                "synod_coordination_healthchecks_total",
                "Health checks by endpoint, check and result.",
                &["type", "name", "status"],
            )?,
            connections: registry.gauge(
                "num_alive_connections",
                "Connections of ZooKeeper's clients to this pod.",
            )?,
            nodes: registry.gauge("znode_count", "Nodes of the tree.")?,
            sessions: registry.gauge("global_sessions", "Sessions of all pods.")?,
            ephemerals: registry.gauge(
                "ephemerals_count",
                "Nodes of the tree that end with their sessions.",
            )?,
            watches: registry.gauge("watch_count", "Watches of this pod's clients.")?,
            waiting: registry.gauge(
                "outstanding_requests",
                "Writes of this pod's clients that are not executed.",
            )?,
            traffic: Traffic::new(registry)?,
            process: ProcessMetrics::register(registry)?,
        })
    }

    /// All metrics in Prometheus' text format.
    ///
    /// # Errors
    /// A collector is inconsistent.
    pub(crate) fn text(&self, facts: &Facts) -> Result<String, MetricsError> {
        self.connections.set(clamp(facts.connections as u64));
        self.nodes.set(clamp(facts.nodes as u64));
        self.sessions.set(clamp(facts.sessions as u64));
        self.ephemerals.set(clamp(facts.ephemerals as u64));
        self.watches.set(clamp(facts.watches as u64));
        self.waiting.set(clamp(facts.waiting as u64));
        self.process.refresh();
        self.registry.text()
    }
}
