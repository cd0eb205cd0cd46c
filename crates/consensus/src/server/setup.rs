//! Prepares the parts of a node before it runs: ports, data and settings.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use synod_auth::TokenConfigError;
use synod_consensus_core::{CoreConfig, ReadMode};
use synod_log::{CompletionSink, GroupState, Log, LogConfig, LogError, OpenError, SyncMode};
use synod_mvcc::{MvccError, MvccReader};
use synod_replica::{Completions, ReplicaConfig};
use synod_rpc::{BindError, ChannelConfig, Listener, ServerTls, TlsError};
use synod_runtime::executor::ExecutorError;
use synod_runtime::metrics::MetricsError;
use synod_runtime::random;
use synod_runtime::task::spawn_blocking;
use synod_service::config::ConfigError;
use synod_service::{
    Backup, BackupError, DataDir, DataDirError, Found, Origin, SweepStep, Sweeper, listen,
};
use synod_types::GroupId;

use super::tls::Tls;
use crate::backup::FORMAT;
use crate::bootstrap::{self, Beginning, BootstrapError};
use crate::config::{Config, Durability, LinearizableRead};
use crate::data_dir::{self, Meta, OtherDataError};
use crate::identity::{cluster_id, initial_member_id};
use crate::shared::Settings;
use crate::state::{MachineConfig, MachineError, OpenState, create};

/// The consensus service has one group.
const GROUP: GroupId = GroupId::new(1);
/// How much larger than its request an entry may be.
const ENTRY_OVERHEAD_BYTES: u64 = 1 << 20;
/// The lease that a leader asks for if it serves reads by leases, in heartbeats: the next one
/// renews it in time unless its answer takes most of an interval. After the end of the leader's
/// process the other members wait this long.
const LEASE_HEARTBEATS: u64 = 2;
/// The least by which a lease is longer than a heartbeat interval, in ticks: what rounding and
/// clock drift take from it, and some time for the answers.
const LEASE_MARGIN_TICKS: u64 = 6;
/// Rows that one step of the sweeper removes.
const SWEEP_STEP_ROWS: usize = 1000;

/// Why a node did not start. Nothing of it runs.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A certificate, a key, or another file of TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A port.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The data directory.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The data in it.
    #[error(transparent)]
    OtherData(#[from] OtherDataError),
    /// The backup to begin with.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The cluster.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// The tokens.
    #[error(transparent)]
    Tokens(#[from] TokenConfigError),
    /// The log.
    #[error("cannot open the log: {0}")]
    Log(#[from] OpenError),
    /// The log's first entry.
    #[error("cannot write the first record of the log: {0}")]
    BeginLog(#[from] LogError),
    /// The state.
    #[error(transparent)]
    State(#[from] MachineError),
    /// The replica.
    #[error(transparent)]
    Replica(#[from] synod_replica::StartError),
    /// A server.
    #[error(transparent)]
    Serve(#[from] synod_rpc::StartError),
    /// Threads.
    #[error(transparent)]
    Executor(#[from] ExecutorError),
    /// A thread.
    #[error("cannot start a thread: {0}; raise the limit on threads (ulimit -u)")]
    Thread(#[from] io::Error),
    /// Metrics.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
}

/// All ports, bound before anything on disk is touched.
pub(super) struct Ports {
    pub(super) client: Vec<Listener>,
    pub(super) http: Vec<Listener>,
    pub(super) peer: Vec<Listener>,
}

impl Ports {
    /// Binds the ports that were not passed in bound.
    ///
    /// # Errors
    /// A port can't be bound.
    pub(super) fn bind(config: &mut Config, tls: &Tls) -> Result<Self, StartError> {
        let given = std::mem::take(&mut config.listeners);
        let bind = |given: Vec<Listener>, urls: &[String], tls: Option<&ServerTls>| match given
            .is_empty()
        {
            true => listen::bind(urls, tls),
            false => Ok(given),
        };
        let of_clients = tls.of_clients.as_ref();
        let client = bind(given.client, &config.listen_client_urls, of_clients)?;
        let mut http = bind(given.metrics, &config.listen_metrics_urls, of_clients)?;
        http.extend(listen::bind(&config.listen_client_http_urls, of_clients)?);
        let peer = bind(given.peer, &config.listen_peer_urls, tls.of_peers.as_ref())?;
        Ok(Self { client, http, peer })
    }
}

/// The data on disk, opened.
pub(super) struct Opened {
    pub(super) data_dir: DataDir,
    pub(super) meta: Meta,
    pub(super) state: OpenState,
    pub(super) log: Log,
    pub(super) recovered: GroupState,
    pub(super) completions: Arc<Completions>,
}

impl Opened {
    /// Opens this member's data, and creates it if there is none.
    ///
    /// # Errors
    /// [`StartError`] says what to do.
    pub(super) async fn open(config: &Config, tls: &Tls) -> Result<Self, StartError> {
        let (data_dir, found) = data_dir::open(&config.data_dir, config.wal_dir.as_deref())?;
        let meta = match found {
            Found::Member(meta) => {
                refuse_other_engine(config, &data_dir, &meta)?;
                refuse_other_backup(config, &data_dir, &meta)?;
                meta
            }
            Found::Empty => create_data(config, &data_dir, &tls.dial_peers()).await?,
        };
        let state = OpenState::open(MachineConfig {
            dir: data_dir.engine(),
            cache_bytes: config.cache_bytes,
            member: meta.member(),
            feature_level: config.feature_level,
        })?;
        refuse_other_cluster(config, &data_dir, &meta, &state)?;
        let completions = Completions::new();
        let sink = Arc::clone(&completions) as Arc<dyn CompletionSink>;
        let (log, mut recovered) = Log::open(log_config(config, &data_dir), sink)?;
        let Some(recovered) = recovered.groups.remove(&GROUP) else {
            return Err(DataDirError::PartMissing {
                path: data_dir.path().to_owned(),
                part: "log",
            }
            .into());
        };
        Ok(Self {
            data_dir,
            meta,
            state,
            log,
            recovered,
            completions,
        })
    }
}

/// Creates the data of a node that has none.
async fn create_data(
    config: &Config,
    data_dir: &DataDir,
    dial: &ChannelConfig,
) -> Result<Meta, StartError> {
    let backup = config.restore_snapshot.as_deref();
    let backup = backup.map(|path| Backup::open(path, &FORMAT)).transpose()?;
    let restored = backup.as_ref().map(Backup::id);
    let Beginning {
        meta,
        roster,
        start,
    } = bootstrap::begin(config, restored, dial).await?;
    data_dir.begin_creation()?;
    let machine = MachineConfig {
        dir: data_dir.engine(),
        cache_bytes: config.cache_bytes,
        member: meta.member(),
        feature_level: config.feature_level,
    };
    let first = (roster.clone(), start.clone());
    // Off the runtime, since restoring a large backup takes long.
    let made = spawn_blocking(move || create(&machine, &first.0, &first.1, backup));
    made.await.map_err(io::Error::other)??;
    // Nobody waits for completions yet.
    let (log, _) = Log::open(log_config(config, data_dir), Completions::new())?;
    log.bootstrap(GROUP, start)?;
    log.close()?;
    drop(log);
    data_dir.finish_creation(&meta)?;
    tracing::info!(
        cluster_id = %meta.cluster(),
        member_id = %meta.member(),
        engine = %meta.own.algorithm,
        members = roster.members().count(),
        restored = restored.map(tracing::field::display),
        data_dir = %data_dir.path().display(),
        "created the data directory"
    );
    Ok(meta)
}

/// Refuses data of the other algorithm. They order ballots and fill their logs differently, so that
/// one must not go on where the other stopped.
fn refuse_other_engine(
    config: &Config,
    data_dir: &DataDir,
    meta: &Meta,
) -> Result<(), OtherDataError> {
    match config.algorithm {
        Some(asked) if asked != meta.own.algorithm => Err(OtherDataError::OtherAlgorithm {
            path: data_dir.path().to_owned(),
            found: meta.own.algorithm,
            asked,
        }),
        Some(_) | None => Ok(()),
    }
}

/// The restore runs once. Later starts accept the flag if it names the same backup or a file that
/// is gone.
fn refuse_other_backup(config: &Config, data_dir: &DataDir, meta: &Meta) -> Result<(), StartError> {
    let Some(snapshot) = &config.restore_snapshot else {
        return Ok(());
    };
    match (meta.own.restored, Backup::open(snapshot, &FORMAT)) {
        (Some(restored), Ok(backup)) if restored == backup.id() => Ok(()),
        (Some(restored), Err(BackupError::Io { source, .. }))
            if source.kind() == io::ErrorKind::NotFound =>
        {
            tracing::warn!(
                snapshot = %snapshot.display(),
                %restored,
                "the file of --restore-snapshot is missing; its data is already restored, so the flag can be removed"
            );
            Ok(())
        }
        (Some(_) | None, Err(error @ BackupError::Io { .. })) => Err(error.into()),
        (Some(_) | None, Ok(_) | Err(_)) => Err(OtherDataError::NotRestored {
            path: data_dir.path().to_owned(),
            snapshot: snapshot.clone(),
        }
        .into()),
    }
}

/// Refuses flags that describe another cluster than the data: most likely the directory is wrong. A
/// member that joined has its ids from its cluster, and flags that were not given are not compared.
fn refuse_other_cluster(
    config: &Config,
    data_dir: &DataDir,
    meta: &Meta,
    state: &OpenState,
) -> Result<(), DataDirError> {
    if meta.origin == Origin::Join || !config.initial_cluster_given {
        return Ok(());
    }
    let token = &config.initial_cluster_token;
    let expected = cluster_id(&config.initial_cluster, token, meta.own.restored);
    if expected == meta.cluster() {
        return Ok(());
    }
    let refuse = |difference| {
        Err(DataDirError::OtherCluster {
            path: data_dir.path().to_owned(),
            found: meta.cluster(),
            expected,
            difference,
        })
    };
    if *token != meta.token {
        return refuse("--initial-cluster-token");
    }
    // Members come and go, and URLs change. Compare only what identifies this member.
    let mine = state.roster().member(meta.member());
    let same_urls = mine.is_some_and(|member| {
        let mut urls = member.peer_urls.clone();
        urls.sort();
        urls == config.initial_advertise_peer_urls
    });
    let same_id = initial_member_id(&config.initial_advertise_peer_urls, token) == meta.member();
    match same_urls || same_id {
        true => Ok(()),
        false => refuse("this member's peer URLs"),
    }
}

/// Starts to remove the rows that compactions made obsolete.
///
/// # Errors
/// The operating system refuses a thread.
pub(super) fn sweeper(reader: &MvccReader) -> io::Result<Sweeper<i64>> {
    let compactor = reader.compactor();
    Sweeper::start("synod-compact", move || {
        let step = compactor.step(SWEEP_STEP_ROWS)?;
        Ok::<_, MvccError>(SweepStep {
            rows: step.rows,
            swept: step.swept.get(),
            is_done: step.is_done,
        })
    })
}

fn log_config(config: &Config, data_dir: &DataDir) -> LogConfig {
    LogConfig {
        sync: match config.durability {
            Durability::Synced => SyncMode::Data,
            Durability::Unsynced => SyncMode::None,
        },
        ..LogConfig::new(data_dir.log())
    }
}

pub(super) fn replica_config(config: &Config, meta: &Meta) -> ReplicaConfig {
    let ticks = |duration: Duration| {
        let ticks = duration.as_millis() / synod_replica::TICK.as_millis();
        u64::try_from(ticks).unwrap_or(u64::MAX).max(1)
    };
    let mut core = CoreConfig::new(meta.member(), random::seed());
    core.election_ticks = ticks(config.election_timeout);
    core.heartbeat_ticks = ticks(config.heartbeat);
    core.lease_ticks = match config.linearizable_read {
        // Nobody reads by a lease, so nobody has to wait for the end of one.
        LinearizableRead::ReadIndex => 0,
        LinearizableRead::Lease => lease_ticks(core.heartbeat_ticks, core.election_ticks),
    };
    core.pre_vote = config.pre_vote;
    core.strict_reconfig = config.strict_reconfig_check;
    // The service limits requests. The core's limit must not be tighter.
    let largest = config.max_request_bytes as u64 + ENTRY_OVERHEAD_BYTES;
    core.max_entry_bytes = core.max_entry_bytes.max(largest);
    // The log holds the first snapshot's membership.
    let mut replica = ReplicaConfig::new(meta.cluster(), GROUP, core, None);
    replica.algorithm = meta.own.algorithm;
    replica.feature_level = config.feature_level;
    replica.compaction.max_entries = config.snapshot_count;
    replica.compaction.keep_entries = config.snapshot_catchup_entries;
    let largest = usize::try_from(largest).unwrap_or(usize::MAX);
    replica.limits.max_proposal_bytes = replica.limits.max_proposal_bytes.max(largest);
    replica
}

fn lease_ticks(heartbeat: u64, election: u64) -> u64 {
    let wanted = heartbeat.saturating_mul(LEASE_HEARTBEATS);
    wanted
        .max(heartbeat.saturating_add(LEASE_MARGIN_TICKS))
        .min(election)
}

pub(super) fn settings(config: &Config, meta: &Meta) -> Settings {
    Settings {
        algorithm: meta.own.algorithm,
        name: config.name.clone(),
        client_urls: config.advertise_client_urls.clone(),
        max_request_bytes: config.max_request_bytes,
        max_txn_ops: config.max_txn_ops,
        max_learners: config.max_learners,
        strict_reconfig: config.strict_reconfig_check,
        quota_bytes: config.quota_bytes,
        request_timeout: config.request_timeout(),
        election_timeout: config.election_timeout,
        min_lease_ttl: config.min_lease_ttl(),
        read_mode: match config.linearizable_read {
            LinearizableRead::ReadIndex => ReadMode::Index,
            LinearizableRead::Lease => ReadMode::Lease,
        },
        feature_level: config.feature_level,
        certificates_name_users: config.client_tls.client_cert_auth,
    }
}

#[cfg(test)]
mod tests {
    use synod_log::MAX_ENTRY_BYTES;
    use synod_replica::TransportConfig;

    use super::*;
    use crate::config::MAX_REQUEST_BYTES;

    #[test]
    fn a_lease_outlasts_a_heartbeat_interval() {
        for heartbeat in 1..=100 {
            let ticks = lease_ticks(heartbeat, 10 * heartbeat.max(2));
            // What the core takes off: 5 % of drift, and two ticks of rounding.
            let lease = ticks - ticks.div_ceil(20) - 2;
            assert!(lease > heartbeat, "{heartbeat}: {lease}");
        }
        assert_eq!(lease_ticks(10, 100), 20);
        assert_eq!(
            lease_ticks(10, 15),
            15,
            "no promise is longer than an election"
        );
        assert_eq!(lease_ticks(u64::MAX, 100), 100);
    }

    #[test]
    fn the_largest_request_fits_into_the_log_and_into_a_message() {
        let largest = MAX_REQUEST_BYTES as u64 + ENTRY_OVERHEAD_BYTES;
        assert!(largest <= MAX_ENTRY_BYTES);
        assert!(
            largest + ENTRY_OVERHEAD_BYTES <= TransportConfig::default().max_receive_bytes as u64
        );
    }
}
