//! Starts a pod from sockets, the log and the services, and stops it in the right order.

use std::sync::Arc;
use std::time::Duration;

use synod_proto::coordination::v1::discovery_server::DiscoveryServer;
use synod_proto::coordination::v1::elections_server::ElectionsServer;
use synod_proto::coordination::v1::files_server::FilesServer;
use synod_proto::coordination::v1::locks_server::LocksServer;
use synod_proto::coordination::v1::pods_server::PodsServer;
use synod_proto::coordination::v1::sessions_server::SessionsServer;
use synod_rpc::{BindError, RpcMetrics, Server, ServerConfig, TlsError, UrlError};
use synod_runtime::clock;
use synod_runtime::executor::ExecutorError;
use synod_runtime::metrics::{MetricsError, Registry};
use synod_runtime::shutdown::Shutdown;
use synod_service::config::ConfigError;
use synod_service::{Front, listen};

use crate::config::Config;
use crate::dns;
use crate::endpoint::EndpointError;
use crate::http::{self, Checks};
use crate::hub::Hub;
use crate::leadership::Leader;
use crate::metrics::Metrics;
use crate::sasl::UsersError;
use crate::service::Shared;
use crate::service::discovery::DiscoveryService;
use crate::service::elections::ElectionsService;
use crate::service::files::FilesService;
use crate::service::locks::LocksService;
use crate::service::pods::PodsService;
use crate::service::sessions::SessionsService;
use crate::shared_log::{Parts, SharedLog};
use crate::zookeeper::{self, Operators, Port};

/// Messages between pods have 2 MiB of commands, or one large command.
const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// How long a pod that stops takes to close its clients' connections, so that not all of them come
/// to the other pods at once.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// In how many steps it closes them.
const CLOSE_STEPS: usize = 20;

/// How often [`Pod::ready`] looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Why a pod does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Flags that contradict each other.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The etcd endpoint can't be used.
    #[error("{0}")]
    Endpoint(String),
    /// A port can't be used.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The users of SASL can't be read.
    #[error(transparent)]
    Users(#[from] UsersError),
    /// A certificate can't be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A URL that is none.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// A server can't be started.
    #[error(transparent)]
    Server(#[from] synod_rpc::StartError),
    /// The operating system refuses a thread.
    #[error(transparent)]
    Threads(#[from] ExecutorError),
    /// Metrics can't be registered.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
}

impl From<EndpointError> for StartError {
    fn from(error: EndpointError) -> Self {
        Self::Endpoint(error.to_string())
    }
}

/// A running pod.
pub struct Pod {
    hub: Arc<Hub>,
    log: SharedLog,
    front: Front,
    checks: Arc<Checks>,
    /// Ends the log's tasks.
    stop: Shutdown,
    /// Ends the port of ZooKeeper's clients, and the streams of gRPC's.
    close: Shutdown,
    zookeeper: Vec<String>,
    urls: Vec<String>,
    dns: Vec<String>,
}

impl Pod {
    /// Starts a pod. Returns once its ports are open; it serves clients when it is in contact with
    /// the log ([`Pod::ready`]).
    ///
    /// # Errors
    /// [`StartError`] says what to do.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        config.validate()?;
        let tls = config.server_tls()?;
        let (servers, channels) = (config.servers()?, config.channels()?);
        let urls = listen::bind(&config.listen_urls, tls.as_ref())?;
        let metrics_urls = listen::bind(&config.listen_metrics_urls, tls.as_ref())?;
        let sasl = config.sasl()?;
        let secure = &config.listen_zookeeper_tls;
        let port = Port::bind(&config.listen_zookeeper, secure, tls)?;
        let dns = dns::Sockets::bind(&config.listen_dns)?;
        let registry = Registry::new();
        let metrics = Metrics::new(&registry)?;
        let mut front = Front::start("synod-coord", config.io_threads)?;

        let endpoint = SharedLog::connect(&servers, &config.root).await?;
        let limits = SharedLog::limits(&endpoint).await?;
        let hub = Arc::new(Hub::new(limits.outbox, config.super_user()));
        let stop = Shutdown::new();
        let close = Shutdown::new();

        // The ports come before the log: the pod's address is in the leadership key.
        let own = Leader::new(config.advertised(&urls));
        let log = SharedLog::start(
            Parts {
                endpoint,
                hub: Arc::clone(&hub),
                own: own.clone(),
                limits,
                channels,
            },
            &stop,
        );
        let traffic = metrics.traffic.clone();
        let checks = Arc::new(Checks::new(Arc::clone(&hub), metrics));
        let limits = ServerConfig::default();
        let pods = PodsService::new(Arc::clone(&hub), log.entrance().clone(), own.secret);
        let checked = config.check_allow.clone();
        let shared = Shared::new(Arc::clone(&hub), config.limits(), checked, close.clone());
        let server = Server::new(limits.clone())
            .metrics(RpcMetrics::new(&registry)?)
            .add_service(PodsServer::new(pods).max_decoding_message_size(MAX_MESSAGE_BYTES))
            .add_service(SessionsServer::new(SessionsService::new(Arc::clone(
                &shared,
            ))))
            .add_service(LocksServer::new(LocksService::new(Arc::clone(&shared))))
            .add_service(ElectionsServer::new(ElectionsService::new(Arc::clone(
                &shared,
            ))))
            .add_service(DiscoveryServer::new(DiscoveryService::new(Arc::clone(
                &shared,
            ))))
            .add_service(FilesServer::new(FilesService::new(shared)))
            .health(front.health())
            .http(http::router(Arc::clone(&checks)));
        let mut served = Vec::new();
        for listener in urls {
            served.push(front.serve(&server, listener)?);
        }
        let server = Server::new(limits).http(http::router(Arc::clone(&checks)));
        for listener in metrics_urls {
            front.serve(&server, listener)?;
        }
        let (zookeeper, zookeeper_tls) = (port.addresses(), port.tls_addresses());
        let operators = Operators {
            hub: Arc::clone(&hub),
            limits: config.limits(),
            words: config.words.clone(),
            sasl,
            entrance: log.entrance().clone(),
            traffic,
            started: clock::now(),
            addresses: zookeeper.clone(),
            tls_addresses: zookeeper_tls.clone(),
        };
        zookeeper::serve(port, &front, operators, &close);
        let dns_addresses = dns.addresses();
        dns::serve(dns, &hub, config.zone()?, &close)?;
        tracing::info!(
            zookeeper = zookeeper.join(","),
            zookeeper_tls = zookeeper_tls.join(","),
            grpc = served.join(","),
            dns = dns_addresses.join(","),
            "listening"
        );
        Ok(Self {
            hub,
            log,
            front,
            checks,
            stop,
            close,
            zookeeper,
            urls: served,
            dns: dns_addresses,
        })
    }

    /// Where ZooKeeper's clients connect, with the ports that were bound.
    #[must_use]
    pub fn zookeeper_addresses(&self) -> &[String] {
        &self.zookeeper
    }

    /// Where gRPC's clients and other pods connect, with the ports that were bound.
    #[must_use]
    pub fn urls(&self) -> &[String] {
        &self.urls
    }

    /// Where resolvers ask, with the ports that were bound.
    #[must_use]
    pub fn dns_addresses(&self) -> &[String] {
        &self.dns
    }

    /// Waits until the pod serves clients.
    ///
    /// # Errors
    /// It did not within `timeout`.
    pub async fn ready(&self, timeout: Duration) -> Result<(), NotReady> {
        let serving = async {
            while !self.hub.is_serving() {
                clock::sleep(LOOK_EVERY).await;
            }
        };
        clock::timeout(timeout, serving).await.map_err(|_| NotReady)
    }

    /// Stops the pod: fails readiness checks, closes connections one after the other, hands over
    /// the leadership.
    pub async fn shutdown(mut self) {
        tracing::info!("stopping");
        self.checks.stop_serving();
        self.front.refuse().await;
        self.close.trigger();
        self.close_clients().await;
        self.stop.trigger();
        self.log.stopped().await;
        self.front.end_tasks();
        self.front.drain().await;
        self.front.stop().await;
        tracing::info!("stopped");
    }

    async fn close_clients(&self) {
        let step = self.hub.facts().connections.div_ceil(CLOSE_STEPS);
        let steps = u32::try_from(CLOSE_STEPS).unwrap_or(u32::MAX);
        for _ in 0..CLOSE_STEPS {
            if !self.hub.close_some(step) {
                break;
            }
            clock::sleep(CLOSE_WITHIN / steps).await;
        }
    }

    /// Resolves when the pod can't go on, and has to be ended.
    ///
    /// # Cancel safety
    /// Safe to drop.
    pub async fn ended(&self) {
        self.log.ended().await;
    }
}

/// The pod does not serve clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the pod has no contact with the pod that orders commands, or with the etcd endpoint")]
pub struct NotReady;
