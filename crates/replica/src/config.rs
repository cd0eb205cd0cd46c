//! The replica's configuration. The service fills it in from flags and files.

use std::time::Duration;

use synod_consensus_core::{Algorithm, CoreConfig, Membership};
use synod_replica_core::Bounds;
use synod_rpc::ClientTls;
use synod_types::{ClusterId, GroupId};

/// The configuration of one group's replica in this process.
#[derive(Clone, Debug)]
pub struct ReplicaConfig {
    /// The cluster's id. Peers of other clusters are refused.
    pub cluster: ClusterId,
    /// The group's id, the same on every member.
    pub group: GroupId,
    /// The group's consensus algorithm, the same on every member and from its first entry on. Peers
    /// with another one are refused. Default: Raft.
    pub algorithm: Algorithm,
    /// The highest feature level that this node supports, for its peers to know. The service
    /// defines what levels mean. Default: 0.
    pub feature_level: u32,
    /// The core's settings. `core.id` is this node.
    pub core: CoreConfig,
    /// The initial members of a new cluster, identical on all of them. `None` on a node that joins
    /// an existing cluster. Only used if log and state machine are empty.
    pub bootstrap: Option<Membership>,
    /// Limits of the queues.
    pub limits: Limits,
    /// When to compact the log.
    pub compaction: Compaction,
    /// Snapshots for peers that are behind the log's start.
    pub snapshots: Snapshots,
    /// Peer streams.
    pub transport: TransportConfig,
    /// The owner's services that are served on the peer port besides the peer contract. Default:
    /// none.
    pub routes: tonic::service::Routes,
}

impl ReplicaConfig {
    /// The default configuration.
    #[must_use]
    pub fn new(
        cluster: ClusterId,
        group: GroupId,
        core: CoreConfig,
        bootstrap: Option<Membership>,
    ) -> Self {
        Self {
            cluster,
            group,
            algorithm: Algorithm::default(),
            feature_level: 0,
            core,
            bootstrap,
            limits: Limits::default(),
            compaction: Compaction::default(),
            snapshots: Snapshots::default(),
            transport: TransportConfig::default(),
            routes: tonic::service::Routes::default(),
        }
    }
}

/// Limits of the queues in front of the core.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Proposals that wait for a leader, for a quorum or to be applied. Default: 65,536.
    pub max_pending_proposals: usize,
    /// The size of these proposals. Default: 256 MiB.
    pub max_pending_proposal_bytes: usize,
    /// The largest payload. Default: 16 MiB.
    pub max_proposal_bytes: usize,
    /// A leader hands over leadership if its log makes no progress for this long. Default: 5 s.
    pub log_stall_timeout: Duration,
    /// Reads that wait for confirmation. Default: 65,536.
    pub max_pending_reads: usize,
    /// Committed entries that wait for the apply thread. Beyond this, new proposals and peers'
    /// entries are refused. Default: 50,000.
    pub max_apply_backlog_entries: usize,
    /// The size of these entries. Default: 256 MiB.
    pub max_apply_backlog_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_pending_proposals: 65_536,
            max_pending_proposal_bytes: 256 << 20,
            max_proposal_bytes: 16 << 20,
            log_stall_timeout: Duration::from_secs(5),
            max_pending_reads: 65_536,
            max_apply_backlog_entries: 50_000,
            max_apply_backlog_bytes: 256 << 20,
        }
    }
}

/// When to compact the core's log in memory and the log on disk.
#[derive(Clone, Debug)]
pub struct Compaction {
    /// Applied entries to keep in memory before the oldest are compacted. Default: 10,000.
    pub max_entries: u64,
    /// The size of entries to keep in memory before the oldest are compacted. Default: 64 MiB.
    pub max_bytes: u64,
    /// Entries kept for slow peers at each compaction; fewer if they exceed half of `max_bytes`.
    /// Default: 5,000.
    pub keep_entries: u64,
    /// The engine is flushed after this many bytes of entries were applied since the last flush.
    /// Default: 64 MiB.
    pub persist_bytes: u64,
    /// The engine is flushed after this time if anything was applied. Default: 30 s.
    pub persist_interval: Duration,
}

impl Compaction {
    pub(crate) fn bounds(&self) -> Bounds {
        Bounds {
            max_entries: self.max_entries,
            max_bytes: self.max_bytes,
            keep_entries: self.keep_entries,
        }
    }
}

impl Default for Compaction {
    fn default() -> Self {
        Self {
            max_entries: 10_000,
            max_bytes: 64 << 20,
            keep_entries: 5_000,
            persist_bytes: 64 << 20,
            persist_interval: Duration::from_secs(30),
        }
    }
}

/// Serving and fetching snapshots.
#[derive(Clone, Debug)]
pub struct Snapshots {
    /// The approximate size of a chunk. Default: 1 MiB.
    pub chunk_bytes: usize,
    /// The maximum number of open snapshot views on a leader. The one that is idle for longest
    /// makes room. Default: 4.
    pub max_open: usize,
    /// A view that is not read is closed after this time. Default: 60 s.
    pub idle_timeout: Duration,
    /// A transfer is given up after this many resumptions in a row without progress. Default: 8.
    pub max_attempts: u32,
}

impl Default for Snapshots {
    fn default() -> Self {
        Self {
            chunk_bytes: 1 << 20,
            max_open: 4,
            idle_timeout: Duration::from_secs(60),
            max_attempts: 8,
        }
    }
}

/// Peer streams.
#[derive(Clone, Debug)]
pub struct TransportConfig {
    /// TLS of connections to peers; required for `https` and `unixs` URLs. Default: none.
    pub tls: Option<ClientTls>,
    /// Messages queued for one peer; further ones are dropped. Default: 8,192.
    pub max_queued_messages: usize,
    /// Bytes queued for one peer; further messages are dropped. Default: 64 MiB.
    pub max_queued_bytes: usize,
    /// An envelope is closed once it holds this many bytes. It bounds how long a heartbeat waits.
    /// Default: 1 MiB.
    pub max_envelope_bytes: usize,
    /// The largest envelope that is accepted. Default: 64 MiB.
    pub max_receive_bytes: usize,
    /// Timeout for connecting and the handshake. Default: 2 s.
    pub connect_timeout: Duration,
    /// The first delay after a failed or broken connection. Default: 50 ms.
    pub backoff_min: Duration,
    /// The longest delay, also used after a refused handshake. Default: 2 s.
    pub backoff_max: Duration,
    /// The interval of pings over a peer's stream. Default: 500 ms.
    pub ping_interval: Duration,
    /// A stream without traffic for this long is considered dead (half-open connections). Default:
    /// 3 s.
    pub silence_timeout: Duration,
}

impl Default for TransportConfig {
    fn default() -> Self {
        Self {
            tls: None,
            max_queued_messages: 8_192,
            max_queued_bytes: 64 << 20,
            max_envelope_bytes: 1 << 20,
            max_receive_bytes: 64 << 20,
            connect_timeout: Duration::from_secs(2),
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(2),
            ping_interval: Duration::from_millis(500),
            silence_timeout: Duration::from_secs(3),
        }
    }
}
