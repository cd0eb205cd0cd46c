//! The metrics of this crate. Those that etcd has too have etcd's name, type and labels.

use std::time::Duration;

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use synod_runtime::metrics::{LATENCY_SECONDS, MetricsError, Registry};
use synod_types::{Index, NodeId};

/// The metrics of one node's replica. Clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    proposals_pending: IntGauge,
    proposals_committed: IntGauge,
    proposals_applied: IntGauge,
    proposals_failed: IntCounter,
    has_leader: IntGauge,
    is_leader: IntGauge,
    leader_changes: IntCounter,
    reads_failed: IntCounter,
    sent_bytes: IntCounterVec,
    received_bytes: IntCounterVec,
    send_failures: IntCounterVec,
    round_trip: HistogramVec,
    active_peers: IntGaugeVec,
    refused: IntCounter,
    snapshots_sent: IntCounterVec,
    snapshots_received: IntCounterVec,
    apply_batch: Histogram,
    stages: Stages,
    local: String,
}

/// How long a proposal takes from stage to stage on the leader, sampled: one proposal per batch.
#[derive(Clone, Debug)]
struct Stages {
    proposed: Histogram,
    persisted: Histogram,
    committed: Histogram,
    applied: Histogram,
}

/// A stage of a proposal on the leader, with the meaning of the time since the stage before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// Since it was received: waiting for the driver or for a leader.
    Proposed,
    /// Since it was proposed: the log's queue and one sync.
    Persisted,
    /// Since it was proposed: the round trip to the fastest quorum, or the own disk if that is
    /// slower.
    Committed,
    /// Since it was committed: the apply thread's queue and the engine.
    Applied,
}

impl Metrics {
    /// Registers the metrics. `node` is this node's id, for the label `Local`.
    ///
    /// # Errors
    /// A name is already registered: a registry can serve only one node.
    pub fn register(registry: &Registry, node: NodeId) -> Result<Self, MetricsError> {
        let stages = registry.histogram_vec(
            "synod_replica_stage_seconds",
            "Time of a proposal on the leader: received to proposed, proposed to persisted and to committed, committed to \
             applied.",
            &["stage"],
            LATENCY_SECONDS,
        )?;
        let per_peer =
            |name: &str, help: &str, label: &str| registry.counter_vec(name, help, &[label]);
        Ok(Self {
            proposals_pending: registry.gauge(
                "etcd_server_proposals_pending",
                "The current number of pending proposals to commit.",
            )?,
            proposals_committed: registry.gauge(
                "etcd_server_proposals_committed_total",
                "The total number of consensus proposals committed.",
            )?,
            proposals_applied: registry.gauge(
                "etcd_server_proposals_applied_total",
                "The total number of consensus proposals applied.",
            )?,
            proposals_failed: registry.counter(
                "etcd_server_proposals_failed_total",
                "The total number of failed proposals seen.",
            )?,
            has_leader: registry.gauge(
                "etcd_server_has_leader",
                "Whether or not a leader exists. 1 is existence, 0 is not.",
            )?,
            is_leader: registry.gauge(
                "etcd_server_is_leader",
                "Whether or not this member is a leader. 1 if is, 0 otherwise.",
            )?,
            leader_changes: registry.counter(
                "etcd_server_leader_changes_seen_total",
                "The number of leader changes seen.",
            )?,
            reads_failed: registry.counter(
                "etcd_server_read_indexes_failed_total",
                "The total number of failed read indexes seen.",
            )?,
            sent_bytes: per_peer(
                "etcd_network_peer_sent_bytes_total",
                "The total number of bytes sent to peers, without framing.",
                "To",
            )?,
            received_bytes: per_peer(
                "etcd_network_peer_received_bytes_total",
                "The total number of bytes received from peers, without framing.",
                "From",
            )?,
            send_failures: per_peer(
                "etcd_network_peer_sent_failures_total",
                "The total number of messages to peers that were dropped.",
                "To",
            )?,
            round_trip: registry.histogram_vec(
                "etcd_network_peer_round_trip_time_seconds",
                "Round-trip time histogram between peers.",
                &["To"],
                LATENCY_SECONDS,
            )?,
            active_peers: registry.gauge_vec(
                "etcd_network_active_peers",
                "The current number of active peer connections.",
                &["Local", "Remote"],
            )?,
            refused: registry.counter(
                "synod_replica_peer_refused_total",
                "Handshakes with peers that were refused, by either side: foreign clusters, wrong addresses, removed members.",
            )?,
            snapshots_sent: per_peer(
                "etcd_network_snapshot_send_success",
                "Total number of successful snapshot sends.",
                "To",
            )?,
            snapshots_received: per_peer(
                "etcd_network_snapshot_receive_success",
                "Total number of successful snapshot receives.",
                "From",
            )?,
            apply_batch: registry.histogram(
                "synod_replica_apply_batch_entries",
                "Entries applied in one write of the engine.",
                &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0],
            )?,
            stages: Stages {
                proposed: stages.with_label_values(&["proposed"]),
                persisted: stages.with_label_values(&["persisted"]),
                committed: stages.with_label_values(&["committed"]),
                applied: stages.with_label_values(&["applied"]),
            },
            local: node.to_string(),
        })
    }

    pub(crate) fn pending(&self, proposals: usize) {
        self.proposals_pending
            .set(i64::try_from(proposals).unwrap_or(i64::MAX));
    }

    pub(crate) fn committed(&self, index: Index) {
        self.proposals_committed
            .set(i64::try_from(index.get()).unwrap_or(i64::MAX));
    }

    pub(crate) fn applied(&self, index: Index, entries: usize) {
        self.proposals_applied
            .set(i64::try_from(index.get()).unwrap_or(i64::MAX));
        if entries > 0 {
            self.apply_batch
                .observe(f64::from(u32::try_from(entries).unwrap_or(u32::MAX)));
        }
    }

    pub(crate) fn proposal_failed(&self) {
        self.proposals_failed.inc();
    }

    pub(crate) fn read_failed(&self) {
        self.reads_failed.inc();
    }

    pub(crate) fn leadership(&self, leader: Option<NodeId>, here: bool, changed: bool) {
        self.has_leader.set(i64::from(leader.is_some()));
        self.is_leader.set(i64::from(here));
        if changed && leader.is_some() {
            self.leader_changes.inc();
        }
    }

    pub(crate) fn stage(&self, stage: Stage, took: Duration) {
        let histogram = match stage {
            Stage::Proposed => &self.stages.proposed,
            Stage::Persisted => &self.stages.persisted,
            Stage::Committed => &self.stages.committed,
            Stage::Applied => &self.stages.applied,
        };
        histogram.observe(took.as_secs_f64());
    }

    pub(crate) fn sent_bytes(&self, to: NodeId) -> IntCounter {
        self.sent_bytes
            .with_label_values(&[to.to_string().as_str()])
    }

    pub(crate) fn received_bytes(&self, from: NodeId) -> IntCounter {
        self.received_bytes
            .with_label_values(&[from.to_string().as_str()])
    }

    pub(crate) fn send_failed(&self, to: NodeId) {
        self.send_failures
            .with_label_values(&[to.to_string().as_str()])
            .inc();
    }

    pub(crate) fn round_trip(&self, to: NodeId, took: Duration) {
        let histogram = self
            .round_trip
            .with_label_values(&[to.to_string().as_str()]);
        histogram.observe(took.as_secs_f64());
    }

    pub(crate) fn peer_connected(&self, remote: NodeId) {
        self.active_peers
            .with_label_values(&[self.local.as_str(), remote.to_string().as_str()])
            .inc();
    }

    pub(crate) fn peer_disconnected(&self, remote: NodeId) {
        self.active_peers
            .with_label_values(&[self.local.as_str(), remote.to_string().as_str()])
            .dec();
    }

    pub(crate) fn peer_refused(&self) {
        self.refused.inc();
    }

    pub(crate) fn snapshot_sent(&self, to: NodeId) {
        self.snapshots_sent
            .with_label_values(&[to.to_string().as_str()])
            .inc();
    }

    pub(crate) fn snapshot_received(&self, from: NodeId) {
        self.snapshots_received
            .with_label_values(&[from.to_string().as_str()])
            .inc();
    }
}
