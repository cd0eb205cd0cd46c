//! Starts a node from sockets, data, replica and services, and stops it in the right order.

mod setup;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use synod_auth::Auth;
use synod_consensus_core::Algorithm;
use synod_lease::{LeaderLink, LeasePolicy, Leases};
use synod_log::Log;
use synod_mvcc::MvccReader;
use synod_proto::etcd::etcdserverpb as pb;
use synod_proto::etcd::{v3electionpb, v3lockpb};
use synod_replica::{Fault, Parts as ReplicaParts, PeerBook, Replica};
use synod_rpc::{ChannelConfig, JsonMapping, RpcMetrics, Server, ServerConfig};
use synod_runtime::metrics::Registry;
use synod_runtime::{clock, task};
use synod_service::{BudgetMetrics, DataDir, Front, ResponseBudget, Sweeper, register_log};
use synod_types::NodeId;

use crate::background;
use crate::bootstrap;
use crate::config::Config;
use crate::http;
use crate::metrics::{LOG_NAMES, Metrics, register_watch};
use crate::service::auth::AuthService;
use crate::service::cluster::ClusterService;
use crate::service::election::ElectionService;
use crate::service::kv::KvService;
use crate::service::lease::LeaseService;
use crate::service::lock::LockService;
use crate::service::maintenance::MaintenanceService;
use crate::service::peer::PeerServices;
use crate::service::queue::{Parts as QueueParts, Queues};
use crate::service::watch::WatchService;
use crate::shared::{Parts, ServiceContext};
use crate::state::{Listeners as StateListeners, Outcome};
use synod_watch::{Deletions, StoreHistory, WatchHub, WatchLimits};

pub use setup::StartError;
use setup::{Opened, Ports, replica_config, settings};
use tls::Tls;

/// As in etcd, a message may be so much larger than `--max-request-bytes`.
const MESSAGE_OVERHEAD_BYTES: usize = 512 << 10;
/// How many election timeouts a node that stops may take to hand over the leadership.
const HAND_OVER_ELECTIONS: u32 = 2;

/// After so many seconds without a leader the other members are asked whether this one was removed.
const SECONDS_WITHOUT_LEADER: u32 = 3;

/// Why a node has to stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It failed. What it acknowledged is on disk.
    Failed(Fault),
    /// It was removed from the cluster.
    Removed,
}

/// A running node.
pub struct Node {
    shared: Arc<ServiceContext>,
    leases: Arc<Leases>,
    replica: Replica<Outcome>,
    log: Log,
    hub: WatchHub,
    deletions: Deletions,
    sweeper: Sweeper<i64>,
    front: Front,
    client_urls: Vec<String>,
    /// How the other members are dialled.
    dial_peers: ChannelConfig,
    _data_dir: DataDir,
}

impl Node {
    /// Starts a node from its data, or as a new member if it has none. Returns once it serves;
    /// there may be no leader yet.
    ///
    /// # Errors
    /// [`StartError`] says what to do.
    pub async fn start(mut config: Config) -> Result<Self, StartError> {
        config.validate()?;
        for (flag, why) in &config.without_effect {
            tracing::info!(flag, why, "flag has no effect");
        }
        let tls = Tls::load(&config)?;
        let mut ports = Ports::bind(&mut config, &tls)?;
        let Opened {
            data_dir,
            meta,
            state,
            log,
            recovered,
            completions,
        } = Opened::open(&config, &tls).await?;
        let member = meta.member();
        let registry = Registry::new();
        register_log(&registry, log.clone(), LOG_NAMES)?;
        tls.register(&registry)?;
        let front = Front::start("synod-serve", config.io_threads)?;
        let metrics = Metrics::new(
            &registry,
            config.quota_bytes,
            &member.to_string(),
            meta.own.algorithm,
        )?;
        let policy = LeasePolicy::new(config.election_timeout);
        let leases = Arc::new(Leases::new(policy, state.leases()?, state.lease_keeper()?));
        let auth = Arc::new(Auth::new(&config.auth, state.users().clone())?);
        let hub = start_hub(&config, &registry, state.reader())?;
        let deletions = Deletions::default();
        let sweeper = setup::sweeper(&state.reader())?;
        let peers = PeerBook::new();
        let machine = state.connect(
            Arc::clone(&leases),
            Arc::clone(&auth),
            StateListeners {
                watch: hub.handle(),
                deletions: deletions.clone(),
                peers: peers.clone(),
                metrics: metrics.clone(),
            },
            sweeper.signal(),
        );
        let view = machine.view();
        let peer_services = PeerServices::default();
        let mut replica_config = replica_config(&config, &meta);
        replica_config.transport.tls.clone_from(&tls.to_peers);
        replica_config.routes = peer_services.routes();
        let replica = Replica::start(
            replica_config,
            ReplicaParts {
                log: log.clone(),
                recovered: Some(recovered),
                completions,
                listeners: std::mem::take(&mut ports.peer),
                peers: peers.clone(),
                metrics: synod_replica::Metrics::register(&registry, member)?,
            },
            machine,
        )?;
        let shared = Arc::new(ServiceContext::new(Parts {
            cluster: meta.cluster(),
            member,
            settings: settings(&config, &meta),
            replica: replica.handle(),
            peers,
            view,
            auth,
            metrics,
            responses: ResponseBudget::new(
                config.response_budget_bytes,
                BudgetMetrics::new(&registry)?,
            ),
        }));
        let mut node = Self {
            leases,
            log,
            hub,
            deletions,
            sweeper,
            front,
            client_urls: Vec::new(),
            dial_peers: tls.dial_peers(),
            replica,
            shared,
            _data_dir: data_dir,
        };
        peer_services.open(&node.shared, node.lease_service());
        node.spawn_background(&config);
        if let Err(error) = node.serve(&config, &registry, ports) {
            // Its threads run and hold the data directory.
            node.shutdown().await;
            return Err(error);
        }
        node.announce(&config);
        Ok(node)
    }

    /// Where clients connect, with the ports that were bound.
    #[must_use]
    pub fn client_urls(&self) -> &[String] {
        &self.client_urls
    }

    /// Where peers connect, with the ports that were really bound.
    #[must_use]
    pub fn peer_urls(&self) -> Vec<String> {
        self.replica.peer_urls()
    }

    /// This member's id.
    #[must_use]
    pub fn member_id(&self) -> NodeId {
        self.shared.member
    }

    /// The consensus algorithm of its cluster.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.shared.settings.algorithm
    }

    /// The cluster's feature level, as of the last entry that this member applied.
    #[must_use]
    pub fn feature_level(&self) -> u32 {
        self.shared.view.roster().feature_level()
    }

    /// Whether this node leads, as far as it knows.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.shared.is_leader()
    }

    /// Waits until a linearizable read succeeds.
    ///
    /// # Errors
    /// None did within `timeout`.
    pub async fn ready(&self, timeout: Duration) -> Result<(), crate::Error> {
        let deadline = clock::now() + timeout;
        self.shared.linearize(deadline).await
    }

    /// Resolves when the node can't go on and has to be shut down.
    ///
    /// # Cancel safety
    /// Safe to drop.
    pub async fn ended(&self) -> Ended {
        const INTERVAL: Duration = Duration::from_secs(1);
        let mut fault = self.shared.replica.watch_fault();
        let mut leaderless = 0;
        loop {
            if let Some(fault) = fault.borrow_and_update().clone() {
                return Ended::Failed(fault);
            }
            if self.shared.replica.status().removed {
                return Ended::Removed;
            }
            leaderless = match self.shared.leader() {
                Some(_) => 0,
                None => leaderless + 1,
            };
            if leaderless >= SECONDS_WITHOUT_LEADER && self.is_unknown_to_others().await {
                return Ended::Removed;
            }
            // A fault is noticed at once, the rest within a second.
            let _changed_or_time = clock::timeout(INTERVAL, fault.changed()).await;
        }
    }

    async fn is_unknown_to_others(&self) -> bool {
        let me = self.shared.member;
        let urls: Vec<String> = {
            let roster = self.shared.view.roster();
            let others = roster.members().filter(|member| member.id != me.get());
            others
                .flat_map(|member| member.peer_urls.iter().cloned())
                .collect()
        };
        bootstrap::was_removed(self.shared.cluster, me, &urls, &self.dial_peers).await
    }

    /// Stops the node: fails readiness checks, hands over the leadership, drains calls, flushes
    /// data.
    pub async fn shutdown(mut self) {
        tracing::info!("stopping");
        self.shared.stop_serving();
        self.front.refuse().await;
        self.hand_over().await;
        self.front.end_tasks();
        // Ends the watch streams, which would never end by themselves.
        let hub = self.hub;
        let _ended = task::spawn_blocking(move || drop(hub)).await;
        self.front.drain().await;
        self.replica.stop().await;
        self.front.stop().await;
        drop(self.sweeper);
        if let Err(error) = self.log.close() {
            tracing::error!(%error, "closing the log failed; the next start checks it, and what was acknowledged is safe");
        }
        tracing::info!("stopped");
    }

    /// Hands over the leadership, so that the others need not wait for an election.
    async fn hand_over(&self) {
        let status = self.shared.replica.status();
        if !self.shared.is_leader() || status.membership.voters.len() < 2 {
            return;
        }
        let patience = self.shared.settings.election_timeout * HAND_OVER_ELECTIONS;
        let deadline = clock::now() + patience;
        if let Err(error) = synod_lease::checkpoint_all(&*self.shared, &self.leases, deadline).await
        {
            tracing::warn!(%error, "could not record the remaining time of leases before the hand-over; they will last longer");
        }
        match self.shared.replica.transfer(NodeId::NONE, deadline).await {
            Ok(()) => tracing::info!("handed the leadership over"),
            Err(error) => {
                tracing::warn!(%error, "could not hand over the leadership; the other members elect a leader after the election timeout");
            }
        }
    }

    fn spawn_background(&self, config: &Config) {
        let shared = || Arc::clone(&self.shared);
        let stop = || self.front.ending().clone();
        self.front.spawn("role", {
            let (shared, stop) = (shared(), stop());
            async move {
                tokio::select! {
                    biased; // stopping comes first
                    () = stop.triggered() => {}
                    () = background::follow_role(shared) => {}
                }
            }
        });
        self.front
            .spawn("publish", background::publish(shared(), stop()));
        self.front
            .spawn("housekeeping", background::keep_house(shared(), stop()));
        let compaction = background::compact(shared(), config.auto_compaction, stop());
        self.front.spawn("auto-compaction", compaction);
        let (shared, leases, stop) = (shared(), Arc::clone(&self.leases), stop());
        self.front.spawn("leases", async move {
            synod_lease::keep(&*shared, &leases, &stop).await;
        });
    }

    fn serve(
        &mut self,
        config: &Config,
        registry: &Registry,
        ports: Ports,
    ) -> Result<(), StartError> {
        let limits = ServerConfig {
            max_concurrent_streams: config.max_concurrent_streams,
            ..ServerConfig::default()
        };
        let server = self.client_server(config, limits.clone(), registry)?;
        for listener in ports.client {
            self.client_urls.push(self.front.serve(&server, listener)?);
        }
        let server = server.without_grpc();
        for listener in ports.http {
            self.front.serve(&server, listener)?;
        }
        let server = Server::new(limits).http(http::router(Arc::clone(&self.shared)));
        for listener in ports.metrics {
            self.front.serve(&server, listener)?;
        }
        Ok(())
    }

    fn lease_service(&self) -> LeaseService {
        LeaseService::new(
            Arc::clone(&self.shared),
            Arc::clone(&self.leases),
            LeaderLink::new(self.dial_peers.clone()),
            self.front.ending().clone(),
        )
    }

    fn kv_service(&self) -> KvService {
        KvService::new(Arc::clone(&self.shared), self.sweeper.swept())
    }

    pub(crate) fn queues(&self) -> Queues {
        Queues::new(QueueParts {
            shared: Arc::clone(&self.shared),
            kv: self.kv_service(),
            leases: self.lease_service(),
            deletions: self.deletions.clone(),
            stop: self.front.ending().clone(),
        })
    }

    /// The services of the client port. Messages may be larger than requests, so that a large
    /// request is refused with etcd's error and not by the decoder.
    fn client_server(
        &self,
        config: &Config,
        limits: ServerConfig,
        registry: &Registry,
    ) -> Result<Server, StartError> {
        let shared = || Arc::clone(&self.shared);
        let limit = config.max_request_bytes * 2 + MESSAGE_OVERHEAD_BYTES;
        let kv = self.kv_service();
        let queues = self.queues();
        let elections = ElectionService::new(queues.clone(), self.hub.handle());
        let watch = WatchService::new(shared(), self.hub.handle(), config.watch_progress_interval);
        let server = Server::new(limits)
            .metrics(RpcMetrics::new(registry)?)
            .access(config.access.clone())
            .add_service(
                pb::kv_server::KvServer::new(kv)
                    .max_decoding_message_size(limit)
                    .max_encoding_message_size(usize::MAX),
            )
            .add_service(
                pb::watch_server::WatchServer::new(watch).max_encoding_message_size(usize::MAX),
            )
            .add_service(pb::lease_server::LeaseServer::new(self.lease_service()))
            .add_service(pb::cluster_server::ClusterServer::new(ClusterService::new(
                shared(),
            )))
            .add_service(pb::maintenance_server::MaintenanceServer::new(
                MaintenanceService::new(shared(), Arc::clone(&self.leases)),
            ))
            .add_service_that_sees_remotes(pb::auth_server::AuthServer::new(AuthService::new(
                shared(),
            )))
            .add_service(v3lockpb::lock_server::LockServer::new(LockService::new(
                queues,
            )))
            .add_service(v3electionpb::election_server::ElectionServer::new(
                elections,
            ))
            .health(self.front.health())
            .http(http::router(shared()))
            .reflection()?;
        Ok(match config.enable_grpc_gateway {
            true => server.json(JsonMapping {
                prefixes: synod_proto::http::PREFIXES,
                paths: synod_proto::http::PATHS,
                // Base64 makes the largest message a third longer; twice its size leaves room for
                // the other fields.
                max_request_bytes: limit,
            }),
            false => server,
        })
    }

    fn announce(&self, config: &Config) {
        tracing::info!(
            name = config.name,
            cluster_id = %self.shared.cluster,
            member_id = %self.shared.member,
            engine = %self.shared.settings.algorithm,
            client_urls = %self.client_urls().join(","),
            peer_urls = %self.peer_urls().join(","),
            data_dir = %config.data_dir.display(),
            "ready to serve client requests"
        );
    }
}

/// Starts the hub that delivers events to watchers.
fn start_hub(
    config: &Config,
    registry: &Registry,
    reader: MvccReader,
) -> Result<WatchHub, StartError> {
    let limits = WatchLimits {
        fragment_bytes: config.max_request_bytes + MESSAGE_OVERHEAD_BYTES,
        ..WatchLimits::default()
    };
    let history = Arc::new(StoreHistory::new(reader, &limits));
    let hub = WatchHub::start(history, limits)?;
    register_watch(registry, hub.handle())?;
    Ok(hub)
}

#[cfg(test)]
pub(crate) mod tests;
