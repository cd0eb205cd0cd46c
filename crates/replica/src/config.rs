//! Typed settings. The service reads flags and files and fills these in.

use std::time::Duration;

use synod_consensus_core::{Algorithm, CoreConfig, Membership};
use synod_replica_core::Bounds;
use synod_rpc::ClientTls;
use synod_types::{ClusterId, GroupId};

/// One group's replica in this process.
#[derive(Clone, Debug)]
pub struct ReplicaConfig {
    /// Peers of another cluster are refused.
    pub cluster: ClusterId,
    /// The group's id, the same on every member.
    pub group: GroupId,
    /// What the group runs, the same on every member and from its first entry on. Peers of another
    /// are refused. Default Raft.
    pub algorithm: Algorithm,
    /// The highest feature level that this node has, for its peers to know. The service says what
    /// its levels mean. Default 0.
    pub feature_level: u32,
    /// The core's settings; `core.id` is this node.
    pub core: CoreConfig,
    /// The initial members of a new cluster, identical on all of them; `None` on a node that joins
    /// an existing cluster. Used only where log and state machine are empty.
    pub bootstrap: Option<Membership>,
    /// Queue bounds.
    pub limits: Limits,
    /// When the log is cut.
    pub compaction: Compaction,
    /// Snapshots for peers that lag behind the log.
    pub snapshots: Snapshots,
    /// Peer streams.
    pub transport: TransportConfig,
    /// Services of the owner that are served on the peer port beside the peer contract. None by
    /// default.
    pub routes: tonic::service::Routes,
}

impl ReplicaConfig {
    /// Defaults for everything that has one.
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

/// Bounds of the queues before the core.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Proposals that wait for a leader, for a quorum or to be applied. Default 65,536.
    pub max_pending_proposals: usize,
    /// Their bytes. Default 256 MiB.
    pub max_pending_proposal_bytes: usize,
    /// The largest payload. Default 16 MiB.
    pub max_proposal_bytes: usize,
    /// A leader whose log makes no progress for so long hands the leadership over. Default 5 s.
    pub log_stall_timeout: Duration,
    /// Reads that wait for a confirmation. Default 65,536.
    pub max_pending_reads: usize,
    /// Committed entries that wait for the apply thread; beyond it new proposals and peers' entries
    /// are refused. Default 50,000.
    pub max_apply_backlog_entries: usize,
    /// Their bytes. Default 256 MiB.
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

/// When the core's log in memory and the log on disk are cut.
#[derive(Clone, Debug)]
pub struct Compaction {
    /// Applied entries in memory before the oldest are forgotten. Default 10,000.
    pub max_entries: u64,
    /// Bytes of entries in memory before the oldest are forgotten. Default 64 MiB.
    pub max_bytes: u64,
    /// Entries kept for slow peers at each cut (fewer when they exceed half of `max_bytes`).
    /// Default 5,000.
    pub keep_entries: u64,
    /// The engine is flushed when so many bytes of entries were applied since the last flush.
    /// Default 64 MiB.
    pub persist_bytes: u64,
    /// The engine is flushed when anything was applied and so much time passed. Default 30 s.
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
    /// About how large a chunk is. Default 1 MiB.
    pub chunk_bytes: usize,
    /// Open snapshot views on a leader; the one idle for longest makes room. Default 4.
    pub max_open: usize,
    /// A view that nobody reads from is closed after this. Default 60 s.
    pub idle_timeout: Duration,
    /// A broken transfer is resumed so many times in a row without progress before it is given up.
    /// Default 8.
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
    /// How peers at URLs with TLS are dialled; without it they are not. Default none.
    pub tls: Option<ClientTls>,
    /// Messages queued for one peer; more are dropped. Default 8,192.
    pub max_queued_messages: usize,
    /// Bytes queued for one peer; more are dropped. Default 64 MiB.
    pub max_queued_bytes: usize,
    /// An envelope is closed once it holds so many bytes. Default 1 MiB: what a heartbeat may have
    /// to wait behind.
    pub max_envelope_bytes: usize,
    /// The largest envelope that is accepted. Default 64 MiB.
    pub max_receive_bytes: usize,
    /// Time to connect and shake hands. Default 2 s.
    pub connect_timeout: Duration,
    /// First pause after a failed or broken connection. Default 50 ms.
    pub backoff_min: Duration,
    /// Longest pause; also after a refused handshake. Default 2 s.
    pub backoff_max: Duration,
    /// How often a peer is pinged over its stream. Default 500 ms.
    pub ping_interval: Duration,
    /// A stream that is silent for so long is taken for dead (half-open connections). Default 3 s.
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
