//! From a request's path to a gRPC service or an HTTP route.

use std::{
    convert::Infallible,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Request, Response, StatusCode, header::CONTENT_TYPE};
use hyper::body::Incoming;
use tonic::{Status, body::Body};
use tower::Service as _;
use tracing::Instrument as _;

use super::body::ResponseBody;
use crate::{
    hold::Hold,
    metrics::{Call, ServiceMetrics},
    tls::ClientCertificate,
    trace,
};

/// What a generated service's `call` returns. It is boxed there once; the server adds no other box.
pub type GrpcFuture = tonic::codegen::BoxFuture<Response<Body>, Infallible>;

/// A generated tonic service, as [`Server::add_service`](crate::Server::add_service) takes it.
pub trait GrpcService:
    tower::Service<
        Request<Incoming>,
        Response = Response<Body>,
        Error = Infallible,
        Future = GrpcFuture,
    > + tonic::server::NamedService
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> GrpcService for S where
    S: tower::Service<
            Request<Incoming>,
            Response = Response<Body>,
            Error = Infallible,
            Future = GrpcFuture,
        > + tonic::server::NamedService
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// A service without its type.
pub(super) type Handler = Arc<dyn Fn(Request<Incoming>) -> GrpcFuture + Send + Sync>;

/// The handler of a generated service. Such a service is always ready, and its clone is a
/// reference count.
pub(super) fn handler<S: GrpcService>(service: S) -> Handler {
    Arc::new(move |request| service.clone().call(request))
}

pub(super) struct Route {
    pub(super) name: &'static str,
    pub(super) handler: Handler,
    pub(super) metrics: Option<ServiceMetrics>,
}

impl fmt::Debug for Route {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Route").field(&self.name).finish()
    }
}

/// Each connection has its own.
#[derive(Debug, Clone)]
pub(super) struct Router {
    routes: Arc<[Route]>,
    http: axum::Router,
    /// Who is on the other side, by TLS.
    client: Option<Arc<ClientCertificate>>,
}

impl Router {
    pub(super) fn new(routes: Arc<[Route]>, http: axum::Router) -> Self {
        Self {
            routes,
            http,
            client: None,
        }
    }

    /// The router of a connection.
    pub(super) fn for_client(&self, client: Option<ClientCertificate>) -> Self {
        Self {
            client: client.map(Arc::new),
            ..self.clone()
        }
    }

    fn route(&self, mut request: Request<Incoming>) -> Answer {
        if let Some(client) = &self.client {
            request.extensions_mut().insert(Arc::clone(client));
        }
        let path = request.uri().path().as_bytes();
        // A server has about ten services, whose names differ early: a scan beats a hash.
        let found = self.routes.iter().find(|route| {
            let name = route.name.as_bytes();
            path.len() > name.len() + 1
                && path[name.len() + 1] == b'/'
                && &path[1..=name.len()] == name
        });
        let Some(route) = found else {
            return self.not_grpc(request);
        };
        let method = &request.uri().path()[route.name.len() + 2..];
        let call = route.metrics.as_ref().map(|metrics| metrics.start(method));
        let future = match trace::server_span(&request) {
            None => (route.handler)(request),
            Some(span) => {
                let future = span.in_scope(|| (route.handler)(request));
                Box::pin(future.instrument(span))
            }
        };
        Answer { future, call }
    }

    fn not_grpc(&self, request: Request<Incoming>) -> Answer {
        let content_type = request.headers().get(CONTENT_TYPE);
        let is_grpc =
            content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
        // gRPC too: Server::routes puts services there.
        let unknown = is_grpc.then(|| {
            let path = request.uri().path().trim_start_matches('/');
            let service = path.split_once('/').map_or(path, |(service, _)| service);
            Status::unimplemented(format!("unknown service {service}"))
        });
        let routed = self.http.clone().call(request);
        let future: GrpcFuture = Box::pin(async move {
            let response = routed.await?.map(Body::new);
            Ok(match unknown {
                Some(status) if response.status() == StatusCode::NOT_FOUND => status.into_http(),
                Some(_) | None => response,
            })
        });
        Answer { future, call: None }
    }
}

impl hyper::service::Service<Request<Incoming>> for Router {
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = Answer;

    fn call(&self, request: Request<Incoming>) -> Answer {
        self.route(request)
    }
}

/// A response under way.
pub(super) struct Answer {
    future: GrpcFuture,
    call: Option<Call>,
}

impl Future for Answer {
    type Output = Result<Response<ResponseBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let response = match ready!(self.future.as_mut().poll(context)) {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let (mut parts, body) = response.into_parts();
        let hold = parts.extensions.remove::<Hold>();
        let body = match self.call.take() {
            Some(call) => ResponseBody::counted(body, call, &parts.headers),
            None => ResponseBody::plain(body),
        };
        let body = body.holding(hold);
        Poll::Ready(Ok(Response::from_parts(parts, body)))
    }
}
