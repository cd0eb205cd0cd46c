//! The metrics of the service. Where etcd has the metric its name is used, so that dashboards and
//! alerts for etcd keep working. Metrics of gRPC are in `synod-rpc`; those of proposals, leadership
//! and peers are in `synod-replica`.

mod watch;

pub(crate) use watch::register_watch;

use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use synod_consensus_core::Algorithm;
use synod_runtime::metrics::{LATENCY_SECONDS, MetricsError, Registry};
use synod_service::{LogMetricNames, ProcessMetrics, clamp};

use crate::version;

/// etcd's names for metrics of the log.
pub(crate) const LOG_NAMES: LogMetricNames = LogMetricNames {
    sync_seconds: "etcd_disk_wal_fsync_duration_seconds",
    write_bytes: "etcd_disk_wal_write_bytes_total",
};

/// Counters are increased where things happen. Gauges are set on each scrape.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) ranges: IntCounter,
    pub(crate) puts: IntCounter,
    pub(crate) deletes: IntCounter,
    pub(crate) txns: IntCounter,
    pub(crate) slow_reads: IntCounter,
    pub(crate) health_success: IntCounter,
    pub(crate) health_failures: IntCounter,
    pub(crate) health_checks: IntCounterVec,
    pub(crate) apply_seconds: Histogram,
    pub(crate) snapshot_install_seconds: Histogram,
    pub(crate) waiters: WaiterGauge,
    gauges: Gauges,
    process: ProcessMetrics,
}

/// How many calls wait for a lock or to be elected.
#[derive(Clone, Debug)]
pub(crate) struct WaiterGauge(IntGauge);

/// Counts one waiting call until it is dropped.
pub(crate) struct Waiting(IntGauge);

impl WaiterGauge {
    pub(crate) fn enter(&self) -> Waiting {
        self.0.inc();
        Waiting(self.0.clone())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[derive(Clone, Debug)]
struct Gauges {
    is_learner: IntGauge,
    votes: IntGauge,
    joining: IntGauge,
    total: IntGauge,
    in_use: IntGauge,
    disk: IntGauge,
    revision: IntGauge,
    compacted: IntGauge,
    keys: IntGauge,
    cluster_version: IntGaugeVec,
    feature_level: IntGauge,
}

/// The values of the gauges.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    pub(crate) is_learner: bool,
    /// Whether this member counts for the quorum.
    pub(crate) votes: bool,
    /// How many members were added as voters and don't count for the quorum yet.
    pub(crate) joining: usize,
    pub(crate) live_bytes: u64,
    pub(crate) total_bytes: u64,
    pub(crate) disk_bytes: u64,
    pub(crate) revision: i64,
    pub(crate) compacted: i64,
    pub(crate) keys: u64,
    pub(crate) cluster_version: Option<String>,
    pub(crate) feature_level: u32,
}

impl Metrics {
    /// Registers every instrument.
    ///
    /// # Errors
    /// A name is taken: two nodes must not share a registry.
    pub(crate) fn new(
        registry: &Registry,
        quota_bytes: u64,
        server_id: &str,
        algorithm: Algorithm,
    ) -> Result<Self, MetricsError> {
        let counter = |name: &str, help: &str| registry.counter(name, help);
        registry
            .gauge(
                "etcd_server_quota_backend_bytes",
                "Quota of live data (bytes).",
            )?
            .set(clamp(quota_bytes));
        registry
            .gauge_vec(
                "synod_consensus_engine",
                "1 for the consensus algorithm that this member runs.",
                &["engine"],
            )?
            .with_label_values(&[algorithm.to_string().as_str()])
            .set(1);
        registry
            .gauge_vec(
                "etcd_server_version",
                "1 for the etcd API version served.",
                &["server_version"],
            )?
            .with_label_values(&[version::ETCD_VERSION])
            .set(1);
        registry
            .gauge_vec("etcd_server_id", "1 for this member's id.", &["server_id"])?
            .with_label_values(&[server_id])
            .set(1);
        Ok(Self {
            registry: registry.clone(),
            ranges: counter("etcd_mvcc_range_total", "Ranges served by this member.")?,
            puts: counter("etcd_mvcc_put_total", "Puts applied by this member.")?,
            deletes: counter("etcd_mvcc_delete_total", "Deletes applied by this member.")?,
            txns: counter(
                "etcd_mvcc_txn_total",
                "Transactions applied by this member.",
            )?,
            slow_reads: counter(
                "etcd_server_slow_read_indexes_total",
                "Linearizable reads that timed out.",
            )?,
            health_success: counter("etcd_server_health_success", "Successful health checks.")?,
            health_failures: counter("etcd_server_health_failures", "Failed health checks.")?,
            health_checks: registry.counter_vec(
                "etcd_server_healthchecks_total",
                "Health checks by endpoint, check and result.",
                &["type", "name", "status"],
            )?,
            apply_seconds: registry.histogram(
                "etcd_disk_backend_commit_duration_seconds",
                "Time to apply a batch of entries and write it to the engine (seconds).",
                LATENCY_SECONDS,
            )?,
            snapshot_install_seconds: registry.histogram(
                "etcd_snap_db_save_total_duration_seconds",
                "Time to put a peer's snapshot in place (seconds).",
                LATENCY_SECONDS,
            )?,
            waiters: WaiterGauge(registry.gauge(
                "synod_lock_waiters",
                "Calls of this member that wait for a lock or to be elected.",
            )?),
            gauges: Gauges::new(registry)?,
            process: ProcessMetrics::register(registry)?,
        })
    }

    /// All metrics in Prometheus' text format.
    ///
    /// # Errors
    /// A collector is inconsistent.
    pub(crate) fn text(&self, sample: &Sample) -> Result<String, MetricsError> {
        self.gauges.set(sample);
        self.process.refresh();
        self.registry.text()
    }
}

impl Gauges {
    fn new(registry: &Registry) -> Result<Self, MetricsError> {
        let gauge = |name: &str, help: &str| registry.gauge(name, help);
        Ok(Self {
            is_learner: gauge("etcd_server_is_learner", "1 if this member is a learner.")?,
            votes: gauge(
                "synod_member_votes",
                "1 if this member counts for the quorum; one that was added as a voter does once it has caught up.",
            )?,
            joining: gauge(
                "synod_members_joining",
                "Members that were added as voters and do not count for the quorum yet.",
            )?,
            total: gauge(
                "etcd_mvcc_db_total_size_in_bytes",
                "What the quota counts (bytes).",
            )?,
            in_use: gauge(
                "etcd_mvcc_db_total_size_in_use_in_bytes",
                "Live data (bytes).",
            )?,
            disk: gauge(
                "synod_engine_disk_bytes",
                "What the engine takes on disk (bytes).",
            )?,
            revision: gauge("etcd_debugging_mvcc_current_revision", "Current revision.")?,
            compacted: gauge(
                "etcd_debugging_mvcc_compact_revision",
                "Compacted revision.",
            )?,
            keys: gauge("etcd_debugging_mvcc_keys_total", "Keys in the store.")?,
            cluster_version: registry.gauge_vec(
                "etcd_cluster_version",
                "1 for the version that all members have.",
                &["cluster_version"],
            )?,
            feature_level: gauge(
                "synod_cluster_feature_level",
                "The feature level that all members have and that the cluster uses.",
            )?,
        })
    }

    fn set(&self, sample: &Sample) {
        self.is_learner.set(i64::from(sample.is_learner));
        self.votes.set(i64::from(sample.votes));
        self.joining
            .set(i64::try_from(sample.joining).unwrap_or(i64::MAX));
        self.total.set(clamp(sample.total_bytes));
        self.in_use.set(clamp(sample.live_bytes));
        self.disk.set(clamp(sample.disk_bytes));
        self.revision.set(sample.revision);
        self.compacted.set(sample.compacted);
        self.keys.set(clamp(sample.keys));
        self.feature_level.set(i64::from(sample.feature_level));
        if let Some(version) = &sample.cluster_version {
            self.cluster_version.reset();
            let minor = version
                .rsplit_once('.')
                .map_or(version.as_str(), |(minor, _)| minor);
            self.cluster_version.with_label_values(&[minor]).set(1);
        }
    }
}
