//! The typed configuration, and the only reader of flags and environment.
//!
//! The command line is etcd's, so that charts, scripts and test drivers for etcd can start this
//! server. Flags override the variables `ETCD_*`, and `SYNOD_*` for flags that etcd does not have.
//! A flag without effect is accepted and named once in the log. A flag that must not be ignored
//! because that would weaken security is refused.

mod check;
mod flags;
mod initial_cluster;
mod parse;

use std::path::{Path, PathBuf};
use std::time::Duration;

use synod_auth::AuthConfig;
use synod_consensus_core::Algorithm;
use synod_rpc::{AccessControl, Listener};
use synod_service::Retention;
use synod_service::config::value::{self, dialable};
use synod_service::config::{
    ConfigError, Effect, Flag, Given, Launch, LogFormat, PREFIX, Side, TlsCommon, TlsFlags,
};

pub use initial_cluster::InitialCluster;

use flags::{COMMAND_LINE, SECTIONS};
use parse::{algorithm, auto_compaction, cluster_state, quota, read_mode};

use crate::version::FEATURE_LEVEL;

/// etcd's default quota, in bytes of live data.
const DEFAULT_QUOTA_BYTES: u64 = 2 << 30;
/// etcd's default limit on a request, in bytes.
const DEFAULT_MAX_REQUEST_BYTES: usize = 1_572_864;
/// A share of the memory that a small machine has.
const DEFAULT_RESPONSE_BUDGET_BYTES: usize = 256 << 20;
/// The most concurrent calls and streams of one connection, unless `--max-concurrent-streams` sets
/// it. Clients hold further calls back; many watches share one stream.
const MAX_CONCURRENT_STREAMS: u32 = 4_096;
/// etcd's default limit on the operations of each list of a transaction.
const DEFAULT_MAX_TXN_OPS: usize = 128;
/// The core's tick: the shortest period that it can measure.
const TICK_MS: u64 = 10;
/// The largest `--max-request-bytes`. Such a request fits into an entry of the log and into a
/// message to a peer.
pub(crate) const MAX_REQUEST_BYTES: usize = 32 << 20;

/// The configuration of a node. Immutable once the node runs.
#[derive(Debug)]
pub struct Config {
    /// This member's name; `default`.
    pub name: String,
    /// Where the data is kept; `${name}.etcd`.
    pub data_dir: PathBuf,
    /// The log's directory, if it is not in the data directory.
    pub wal_dir: Option<PathBuf>,
    /// Client listeners (gRPC and HTTP); `http://localhost:2379`.
    pub listen_client_urls: Vec<String>,
    /// Listeners for clients that speak HTTP only; none.
    pub listen_client_http_urls: Vec<String>,
    /// Peer listeners; `http://localhost:2380`.
    pub listen_peer_urls: Vec<String>,
    /// Listeners for health and metrics; none.
    pub listen_metrics_urls: Vec<String>,
    /// TLS of the listeners for clients.
    pub client_tls: TlsFlags,
    /// TLS of the listeners for peers, and of the connections to them.
    pub peer_tls: TlsFlags,
    /// TLS settings that clients and peers share.
    pub tls: TlsCommon,
    /// Tokens and passwords; by default simple tokens, which last 300 s after each use, and cost
    /// 10.
    pub auth: AuthConfig,
    /// The URLs that clients are told to use; the client listeners' URLs.
    pub advertise_client_urls: Vec<String>,
    /// The URLs that peers connect to; the peer listeners' URLs.
    pub initial_advertise_peer_urls: Vec<String>,
    /// The first members; this member alone.
    pub initial_cluster: InitialCluster,
    /// Whether the first start makes a cluster or joins one. Later starts use the data on disk.
    pub initial_cluster_state: ClusterState,
    /// Tells clusters with the same URLs apart; `etcd-cluster`.
    pub initial_cluster_token: String,
    /// Whether the list of members or the token was given. Only then is it compared with the data.
    pub initial_cluster_given: bool,
    /// The leader's heartbeat period; 100 ms.
    pub heartbeat: Duration,
    /// A follower campaigns after so long without a heartbeat; 1 s.
    pub election_timeout: Duration,
    /// The consensus algorithm, the same on all members. `None`: that of the data directory, and
    /// Raft for a new one.
    pub algorithm: Option<Algorithm>,
    /// The backup that a new cluster begins with, the same for all members; none.
    pub restore_snapshot: Option<PathBuf>,
    /// Whether a pre-vote comes before a campaign; true.
    pub pre_vote: bool,
    /// Whether changes of members that would cost the quorum are refused; true.
    pub strict_reconfig_check: bool,
    /// The most learners; 1.
    pub max_learners: usize,
    /// Log entries kept in memory before the log is compacted; 10 000.
    pub snapshot_count: u64,
    /// Log entries kept for slow followers when the log is compacted; 5 000.
    pub snapshot_catchup_entries: u64,
    /// Live bytes above which NOSPACE is raised; 2 GiB. `u64::MAX` is no limit.
    pub quota_bytes: u64,
    /// The largest request; 1.5 MiB.
    pub max_request_bytes: usize,
    /// Memory for large responses until they are sent, in bytes; 256 MiB. The largest response may
    /// have three eighths of it.
    pub response_budget_bytes: usize,
    /// The highest feature level that this member lets the cluster use; the release's. With a lower
    /// one the members can go back to an earlier release during an upgrade.
    pub feature_level: u32,
    /// The most operations in each list of a transaction; 128.
    pub max_txn_ops: usize,
    /// The most concurrent streams of one HTTP/2 connection; 4,096. `u32::MAX` is no limit.
    pub max_concurrent_streams: u32,
    /// Whether clients may use JSON over HTTP; true.
    pub enable_grpc_gateway: bool,
    /// Which requests over HTTP are answered, and which web pages may read the answers; all.
    pub access: AccessControl,
    /// Which history the automatic compaction keeps; all of it.
    pub auto_compaction: Retention,
    /// How often idle watchers that asked for it are notified of progress; 10 min.
    pub watch_progress_interval: Duration,
    /// What acknowledged writes survive; [`Durability::Synced`].
    pub durability: Durability,
    /// How linearizable reads are confirmed; [`LinearizableRead::ReadIndex`].
    pub linearizable_read: LinearizableRead,
    /// The number of threads that serve connections; zero: by the number of processors.
    pub io_threads: usize,
    /// The engine's block cache; 64 MiB.
    pub cache_bytes: u64,
    /// Level and format of the log.
    pub log: LogFormat,
    /// Sockets that are bound already. They replace the listen URLs of their kind.
    pub listeners: Listeners,
    /// Given flags without effect, and why they have none; logged once at start.
    pub without_effect: Vec<(String, &'static str)>,
}

/// Sockets that were bound before the start, so that peers know ports that the system chose.
#[derive(Debug, Default)]
pub struct Listeners {
    /// Instead of `listen_client_urls`, unless empty.
    pub client: Vec<Listener>,
    /// Instead of `listen_peer_urls`, unless empty.
    pub peer: Vec<Listener>,
    /// Instead of `listen_metrics_urls`, unless empty.
    pub metrics: Vec<Listener>,
}

/// How a node without data starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterState {
    /// It makes a new cluster together with the other initial members.
    New,
    /// It joins a running cluster, to which it was added by `member add`.
    Existing,
}

/// What acknowledged writes survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Power loss: the log is synced before a write is acknowledged.
    Synced,
    /// The end of the process, but no power loss (`--unsafe-no-fsync`).
    Unsynced,
}

/// How linearizable reads are confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinearizableRead {
    /// By a round of heartbeats, which reads share.
    ReadIndex,
    /// By the leader's lease, measured on monotonic clocks with a bounded drift.
    Lease,
}

impl Config {
    /// The defaults, for a member of this name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let peer = "http://localhost:2380".to_owned();
        let client = "http://localhost:2379".to_owned();
        Self {
            name: name.to_owned(),
            data_dir: PathBuf::from(format!("{name}.etcd")),
            wal_dir: None,
            listen_client_urls: vec![client.clone()],
            listen_client_http_urls: Vec::new(),
            listen_peer_urls: vec![peer.clone()],
            listen_metrics_urls: Vec::new(),
            client_tls: TlsFlags::new(Side::Clients),
            peer_tls: TlsFlags::new(Side::Peers),
            tls: TlsCommon::default(),
            auth: AuthConfig::default(),
            advertise_client_urls: vec![client],
            initial_advertise_peer_urls: vec![peer.clone()],
            initial_cluster: InitialCluster::from([(name.to_owned(), vec![peer])]),
            initial_cluster_state: ClusterState::New,
            initial_cluster_token: "etcd-cluster".to_owned(),
            initial_cluster_given: false,
            heartbeat: Duration::from_millis(100),
            election_timeout: Duration::from_secs(1),
            algorithm: None,
            restore_snapshot: None,
            pre_vote: true,
            strict_reconfig_check: true,
            max_learners: 1,
            snapshot_count: 10_000,
            snapshot_catchup_entries: 5_000,
            quota_bytes: DEFAULT_QUOTA_BYTES,
            max_request_bytes: DEFAULT_MAX_REQUEST_BYTES,
            response_budget_bytes: DEFAULT_RESPONSE_BUDGET_BYTES,
            feature_level: FEATURE_LEVEL,
            max_txn_ops: DEFAULT_MAX_TXN_OPS,
            max_concurrent_streams: MAX_CONCURRENT_STREAMS,
            enable_grpc_gateway: true,
            access: AccessControl::default(),
            auto_compaction: Retention::Everything,
            watch_progress_interval: Duration::from_secs(600),
            durability: Durability::Synced,
            linearizable_read: LinearizableRead::ReadIndex,
            io_threads: 0,
            cache_bytes: 64 << 20,
            log: LogFormat::default(),
            listeners: Listeners::default(),
            without_effect: Vec::new(),
        }
    }

    /// Reads a command line (without the program's name) and the environment.
    ///
    /// # Errors
    /// Says which flag or variable is wrong, and what is valid.
    pub fn parse(
        args: &[String],
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Launch<Self>, ConfigError> {
        let line = COMMAND_LINE.read(args, env)?;
        if line.has("version") {
            return Ok(Launch::Print(crate::version::banner()));
        }
        if line.has("help") {
            return Ok(Launch::Print(help()));
        }
        // As in etcd, a file replaces all flags and variables.
        let file = line.last("config-file").filter(|path| !path.is_empty());
        let given = match file {
            Some(path) => &COMMAND_LINE.read_file(Path::new(path), SECTIONS)?,
            None => &line,
        };
        // Read the name first: other defaults depend on it.
        let name = given.last("name").unwrap_or("default");
        if name.is_empty() || name.contains([',', '=']) {
            let expected = "a name without commas and equals signs";
            return Err(ConfigError::invalid("name", name, expected));
        }
        let mut config = Self::new(name);
        config.without_effect = given.apply(|flag, text| config.set(flag, text))?;
        if file.is_some() {
            let others = line.names().filter(|flag| *flag != "config-file");
            let ignored = others.map(|flag| (flag.to_owned(), "--config-file is given"));
            config.without_effect.extend(ignored);
        }
        config.derive(given)?;
        config.validate()?;
        Ok(Launch::Run(Box::new(config)))
    }

    /// The time limit of a request, as in etcd: 5 s and two election timeouts.
    #[must_use]
    pub fn request_timeout(&self) -> Duration {
        Duration::from_secs(5) + 2 * self.election_timeout
    }

    /// The shortest TTL of a lease: 1.5 election timeouts, in whole seconds, rounded up.
    #[must_use]
    pub fn min_lease_ttl(&self) -> i64 {
        let ms = (self.election_timeout.as_millis() * 3).div_ceil(2);
        i64::try_from(ms.div_ceil(1000)).unwrap_or(i64::MAX)
    }

    fn set(&mut self, name: &str, text: &str) -> Result<(), ConfigError> {
        let bad = |expected: String| ConfigError::invalid(name, text, &expected);
        let urls = || value::urls(text).map_err(bad);
        let whole = |least: u64| value::number::<u64>(text, least).map_err(bad);
        match name {
            "data-dir" => self.data_dir = PathBuf::from(text),
            "wal-dir" => {
                self.wal_dir = Some(PathBuf::from(text)).filter(|p| !p.as_os_str().is_empty());
            }
            "listen-client-urls" => self.listen_client_urls = urls()?,
            "listen-client-http-urls" => self.listen_client_http_urls = urls()?,
            "listen-peer-urls" => self.listen_peer_urls = urls()?,
            "listen-metrics-urls" => self.listen_metrics_urls = urls()?,
            "advertise-client-urls" => self.advertise_client_urls = urls()?,
            "initial-advertise-peer-urls" => self.initial_advertise_peer_urls = urls()?,
            "initial-cluster" => {
                self.initial_cluster = initial_cluster::parse(text).map_err(bad)?;
                self.initial_cluster_given = true;
            }
            "initial-cluster-token" => {
                text.clone_into(&mut self.initial_cluster_token);
                self.initial_cluster_given = true;
            }
            "initial-cluster-state" => {
                self.initial_cluster_state = cluster_state(text).map_err(bad)?;
            }
            "heartbeat-interval" => self.heartbeat = Duration::from_millis(whole(TICK_MS)?),
            "election-timeout" => self.election_timeout = Duration::from_millis(whole(TICK_MS)?),
            "pre-vote" => self.pre_vote = value::boolean(text).map_err(bad)?,
            "strict-reconfig-check" => {
                self.strict_reconfig_check = value::boolean(text).map_err(bad)?;
            }
            "max-learners" => self.max_learners = value::number(text, 1).map_err(bad)?,
            "snapshot-count" => self.snapshot_count = whole(1)?,
            "snapshot-catchup-entries" => self.snapshot_catchup_entries = whole(1)?,
            "quota-backend-bytes" => self.quota_bytes = quota(text).map_err(bad)?,
            "max-request-bytes" => self.max_request_bytes = value::number(text, 1).map_err(bad)?,
            "feature-level" => self.feature_level = value::number(text, 0).map_err(bad)?,
            "response-budget-bytes" => {
                self.response_budget_bytes = value::number(text, 1).map_err(bad)?;
            }
            "max-txn-ops" => self.max_txn_ops = value::number(text, 1).map_err(bad)?,
            "max-concurrent-streams" => {
                self.max_concurrent_streams = value::number(text, 1).map_err(bad)?;
            }
            "enable-grpc-gateway" => {
                self.enable_grpc_gateway = value::boolean(text).map_err(bad)?;
            }
            "cors" => self.access.origins = value::origins(text).map_err(bad)?,
            "host-whitelist" => self.access.hosts = value::allowed(text),
            "watch-progress-notify-interval" => {
                // A number in a configuration file counts nanoseconds, as Go's durations do.
                let text = match text.parse::<u64>() {
                    Ok(nanoseconds) => &format!("{nanoseconds}ns"),
                    Err(_) => text,
                };
                self.watch_progress_interval = value::duration(text).map_err(bad)?;
            }
            "unsafe-no-fsync" => {
                self.durability = match value::boolean(text).map_err(bad)? {
                    true => Durability::Unsynced,
                    false => Durability::Synced,
                };
            }
            "auth-token" => text.clone_into(&mut self.auth.token),
            "auth-token-ttl" => self.auth.token_ttl = Duration::from_secs(whole(0)?),
            "bcrypt-cost" => self.auth.bcrypt_cost = value::number(text, 0).map_err(bad)?,
            "log-level" => self.log.level = value::log_level(text).map_err(bad)?,
            "log-format" => self.log.json = Some(value::log_format(text).map_err(bad)?),
            "engine" => self.algorithm = Some(algorithm(text).map_err(bad)?),
            "restore-snapshot" => {
                self.restore_snapshot = Some(text)
                    .filter(|text| !text.is_empty())
                    .map(PathBuf::from);
            }
            "linearizable-read" => self.linearizable_read = read_mode(text).map_err(bad)?,
            "io-threads" => self.io_threads = value::number(text, 0).map_err(bad)?,
            "cache-bytes" => self.cache_bytes = whole(1 << 20)?,
            // `parse` and `derive` read these.
            "auto-compaction-mode" | "auto-compaction-retention" | "name" | "config-file" => {}
            _ => {
                let is_read = self.client_tls.set(name, text)?
                    || self.peer_tls.set(name, text)?
                    || self.tls.set(name, text)?;
                debug_assert!(is_read, "flag {name} is used but not read");
            }
        }
        Ok(())
    }

    /// Sets what depends on several flags.
    fn derive(&mut self, given: &Given) -> Result<(), ConfigError> {
        let has = |flag| given.has(flag);
        if !has("data-dir") {
            self.data_dir = PathBuf::from(format!("{}.etcd", self.name));
        }
        if has("listen-client-urls") && !has("advertise-client-urls") {
            self.advertise_client_urls = self.listen_client_urls.clone();
            dialable("advertise-client-urls", &self.advertise_client_urls)?;
        }
        if has("listen-peer-urls") && !has("initial-advertise-peer-urls") {
            self.initial_advertise_peer_urls = self.listen_peer_urls.clone();
            dialable(
                "initial-advertise-peer-urls",
                &self.initial_advertise_peer_urls,
            )?;
        }
        self.initial_advertise_peer_urls.sort();
        if !has("initial-cluster") {
            self.initial_cluster = InitialCluster::from([(
                self.name.clone(),
                self.initial_advertise_peer_urls.clone(),
            )]);
        }
        self.auto_compaction = auto_compaction(
            given.last("auto-compaction-mode").unwrap_or("periodic"),
            given.last("auto-compaction-retention").unwrap_or("0"),
        )?;
        Ok(())
    }
}

fn help() -> String {
    let mut text = String::from(
        "Usage: synod-consensus [flags]\n\nThe flags are etcd's; each is also an environment variable, such as \
         ETCD_DATA_DIR for --data-dir.\n\nFlags:\n",
    );
    let ours = |flag: &Flag| flag.prefixes.contains(&PREFIX);
    text.push_str(&COMMAND_LINE.list(|flag| flag.effect == Effect::Used && !ours(flag)));
    text.push_str("\nOurs alone; the variables begin with SYNOD_, such as SYNOD_ENGINE:\n");
    text.push_str(&COMMAND_LINE.list(ours));
    text.push_str("\nKnown, but without effect or refused:\n");
    text.push_str(&COMMAND_LINE.list(|flag| flag.effect != Effect::Used));
    text
}
