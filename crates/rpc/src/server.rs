//! A server: services and routes, started on listeners, drained in the end.

mod access;
mod authority;
mod body;
mod connection;
mod flow;
mod json;
mod router;
mod running;

use std::{fmt, io, sync::Arc};

use synod_runtime::executor::Executor;
use thiserror::Error;

use self::{
    access::Access,
    connection::Connections,
    json::Json,
    router::{Handler, Route, Router, handler},
    running::{Accepting, Acceptor},
};
pub use self::{
    access::{AccessControl, Allowed},
    json::JsonMapping,
    router::{GrpcFuture, GrpcService, RequestBody},
    running::{Drained, Running},
};
use crate::{
    config::ServerConfig,
    health::Health,
    listener::{BoundTo, Listener},
    metrics::{Methods, RpcMetrics},
    stream::Remote,
};

/// Why a server did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The socket can't be used by the runtime.
    #[error("cannot serve on {address}: {source}")]
    Socket {
        /// The listener's address.
        address: BoundTo,
        /// The operating system's answer.
        source: io::Error,
    },
    /// A descriptor set is broken.
    #[error("cannot read the protobuf descriptors of the services: {reason}")]
    Descriptors {
        /// The decoder's answer.
        reason: String,
    },
    /// A method can't have JSON.
    #[error("cannot map the services to JSON: {0}")]
    Json(#[from] synod_json::SchemaError),
}

/// What is served, and how. Build it once, then start it on each listener.
pub struct Server {
    config: ServerConfig,
    services: Vec<Service>,
    http: axum::Router,
    metrics: Option<RpcMetrics>,
    descriptors: Vec<&'static [u8]>,
    json: Option<JsonMapping>,
    access: Option<AccessControl>,
    speaks_grpc: bool,
}

struct Service {
    name: &'static str,
    handler: Handler,
    sees_remote: bool,
}

impl Service {
    fn new<S: GrpcService>(service: S) -> Self {
        Self {
            name: S::NAME,
            handler: handler(service),
            sees_remote: false,
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let services: Vec<_> = self.services.iter().map(|service| service.name).collect();
        formatter
            .debug_struct("Server")
            .field("config", &self.config)
            .field("services", &services)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// A server of nothing: every gRPC call is UNIMPLEMENTED, every HTTP request 404.
    #[must_use]
    pub fn new(config: ServerConfig) -> Self {
        Self {
            config,
            services: Vec::new(),
            http: axum::Router::new(),
            metrics: None,
            descriptors: vec![
                synod_proto::FILE_DESCRIPTOR_SET,
                tonic_health::pb::FILE_DESCRIPTOR_SET,
            ],
            json: None,
            access: None,
            speaks_grpc: true,
        }
    }

    /// Adds a generated tonic service, for instance `KvServer::new(..)`. The first of two with one
    /// name wins.
    #[must_use]
    pub fn add_service<S: GrpcService>(mut self, service: S) -> Self {
        self.services.push(Service::new(service));
        self
    }

    /// Adds a service whose requests have the client's address, a [`Remote`](crate::Remote), in
    /// their extensions. That costs some allocations a call.
    #[must_use]
    pub fn add_service_that_sees_remotes<S: GrpcService>(mut self, service: S) -> Self {
        self.services.push(Service {
            sees_remote: true,
            ..Service::new(service)
        });
        self
    }

    /// Adds HTTP routes: what isn't a call of one of the services goes there.
    #[must_use]
    pub fn http(mut self, routes: axum::Router) -> Self {
        self.http = self.http.merge(routes);
        self
    }

    /// Lets clients call the services with JSON.
    #[must_use]
    pub fn json(mut self, mapping: JsonMapping) -> Self {
        self.json = Some(mapping);
        self
    }

    /// Controls which requests over HTTP are answered, and which pages may read the answers.
    #[must_use]
    pub fn access(mut self, access: AccessControl) -> Self {
        self.access = Some(access);
        self
    }

    /// Serves HTTP routes and JSON only: the services can't be called with gRPC.
    #[must_use]
    pub fn without_grpc(mut self) -> Self {
        self.speaks_grpc = false;
        self
    }

    /// Adds services whose types aren't those that tonic generates (wrapped in layers, say). They
    /// go through axum's router, uncounted, and cost a little more for each call.
    #[must_use]
    pub fn routes(self, routes: tonic::service::Routes) -> Self {
        // tonic's fallback would collide with the one here; unknown services are answered anyway.
        let router = routes.into_axum_router().reset_fallback();
        self.http(router)
    }

    /// Adds `grpc.health.v1.Health`.
    #[must_use]
    pub fn health(self, health: &Health) -> Self {
        self.add_service(health.service())
    }

    /// Adds gRPC reflection, versions v1 and v1alpha, over everything in synod-proto and health.
    ///
    /// # Errors
    /// [`StartError::Descriptors`] when a descriptor set is broken.
    pub fn reflection(self) -> Result<Self, StartError> {
        let broken = |error: tonic_reflection::server::Error| StartError::Descriptors {
            reason: error.to_string(),
        };
        let builder = || {
            let builder = tonic_reflection::server::Builder::configure();
            let names = self.services.iter().map(|service| service.name);
            let builder = names.fold(
                builder,
                tonic_reflection::server::Builder::with_service_name,
            );
            let sets = self.descriptors.iter().copied();
            sets.fold(
                builder,
                tonic_reflection::server::Builder::register_encoded_file_descriptor_set,
            )
        };
        let v1 = builder().build_v1().map_err(broken)?;
        let v1alpha = builder().build_v1alpha().map_err(broken)?;
        Ok(self.add_service(v1).add_service(v1alpha))
    }

    /// Counts calls and connections.
    #[must_use]
    pub fn metrics(mut self, metrics: RpcMetrics) -> Self {
        self.metrics = Some(metrics);
        self
    }

    /// Accepts on `listener`, and serves the connections on the threads of `executor`.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(&self, listener: Listener, executor: &Executor) -> Result<Running, StartError> {
        let Listener {
            socket,
            bound_to,
            tls,
        } = listener;
        let listener = {
            // The first runtime's reactor watches the port.
            let _entered = executor.handle(0);
            let _entered = _entered.enter();
            Accepting::new(socket).map_err(|source| StartError::Socket {
                address: bound_to.clone(),
                source,
            })?
        };
        let router = self.router(tls.is_some())?;
        let connections = Connections::new(&self.config, router, tls, self.metrics.as_ref());
        let max_connections = self.config.max_connections;
        let metrics = self.metrics.clone();
        Ok(Running::start(
            bound_to,
            listener,
            executor,
            Acceptor::new(connections, max_connections, executor.threads(), metrics),
        ))
    }

    fn router(&self, is_secure: bool) -> Result<Router, StartError> {
        let mut methods = Methods::default();
        for descriptors in &self.descriptors {
            let added = methods.add(descriptors);
            added.map_err(|error| StartError::Descriptors {
                reason: error.to_string(),
            })?;
        }
        let routes = self.services.iter().map(|service| Route {
            name: service.name,
            handler: Arc::clone(&service.handler),
            metrics: self
                .metrics
                .as_ref()
                .map(|metrics| metrics.service(service.name, &methods)),
            sees_remote: service.sees_remote,
        });
        let routes: Arc<[Route]> = routes.collect();
        let json = self.json.as_ref().map(|mapping| {
            let json = Json::new(mapping, &routes, synod_proto::FILE_DESCRIPTOR_SET);
            json.map(Arc::new)
        });
        Ok(Router {
            routes,
            speaks_grpc: self.speaks_grpc,
            json: json.transpose()?,
            access: self
                .access
                .clone()
                .map(|access| Arc::new(Access::new(access))),
            // axum prepares a router once its state is known.
            http: self.http.clone().with_state(()),
            is_secure,
            remote: Remote::Unix,
            client: None,
        })
    }
}
