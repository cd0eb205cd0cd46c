//! The metrics of the service. Where ZooKeeper has the metric its name is used, so that its
//! dashboards keep working. Those of gRPC are in `synod-rpc`.

use prometheus::{IntCounterVec, IntGauge};
use synod_runtime::metrics::{MetricsError, Registry};
use synod_service::{ProcessMetrics, clamp};

use crate::hub::Facts;

/// Counters are increased where things happen. Gauges are set on each scrape.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) health_checks: IntCounterVec,
    connections: IntGauge,
    nodes: IntGauge,
    sessions: IntGauge,
    watches: IntGauge,
    waiting: IntGauge,
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
            watches: registry.gauge("watch_count", "Watches of this pod's clients.")?,
            waiting: registry.gauge(
                "outstanding_requests",
                "Writes of this pod's clients that are not executed.",
            )?,
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
        self.watches.set(clamp(facts.watches as u64));
        self.waiting.set(clamp(facts.waiting as u64));
        self.process.refresh();
        self.registry.text()
    }
}
