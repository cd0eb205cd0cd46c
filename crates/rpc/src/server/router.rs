//! From a request's path to a gRPC service or an HTTP route.

use std::{
    convert::Infallible,
    error::Error,
    fmt,
    future::{Future, ready},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, Version, header::CONTENT_TYPE};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use tonic::{Status, body::Body};
use tower::Service as _;
use tracing::Instrument as _;

use super::{
    access::Access,
    body::ResponseBody,
    json::{Json, Source},
};
use crate::{
    hold::Hold,
    metrics::{Call, ServiceMetrics},
    stream::Remote,
    tls::ClientCertificate,
    trace,
};

/// What a generated service's `call` returns. It is boxed there once; the server adds no other box.
pub type GrpcFuture = tonic::codegen::BoxFuture<Response<Body>, Infallible>;

/// The body of a call: of a gRPC request, or of one that was made from JSON.
#[derive(Debug)]
pub struct RequestBody(Source);

impl From<Source> for RequestBody {
    fn from(source: Source) -> Self {
        Self(source)
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.0).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

/// A generated tonic service, as [`Server::add_service`](crate::Server::add_service) takes it.
pub trait GrpcService:
    tower::Service<
        Request<RequestBody>,
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
            Request<RequestBody>,
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
pub(super) type Handler = Arc<dyn Fn(Request<RequestBody>) -> GrpcFuture + Send + Sync>;

/// The handler of a generated service. Such a service is always ready, and its clone is a
/// reference count.
pub(super) fn handler<S: GrpcService>(service: S) -> Handler {
    Arc::new(move |request| service.clone().call(request))
}

pub(super) struct Route {
    pub(super) name: &'static str,
    pub(super) handler: Handler,
    pub(super) metrics: Option<ServiceMetrics>,
    /// Whether its requests carry the client's address.
    pub(super) sees_remote: bool,
}

impl fmt::Debug for Route {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Route").field(&self.name).finish()
    }
}

impl Route {
    /// Starts a call of this service. Its account is open until the caller has seen its status.
    pub(super) fn start(&self, request: Request<RequestBody>) -> (GrpcFuture, Option<Call>) {
        let method = &request.uri().path()[self.name.len() + 2..];
        let call = self.metrics.as_ref().map(|metrics| metrics.start(method));
        let future = match trace::server_span(&request) {
            None => (self.handler)(request),
            Some(span) => {
                let future = span.in_scope(|| (self.handler)(request));
                Box::pin(future.instrument(span))
            }
        };
        (future, call)
    }
}

/// Each connection has its own.
#[derive(Debug, Clone)]
pub(super) struct Router {
    pub(super) routes: Arc<[Route]>,
    /// Whether clients may call the services with gRPC.
    pub(super) speaks_grpc: bool,
    pub(super) json: Option<Arc<Json>>,
    pub(super) access: Option<Arc<Access>>,
    pub(super) http: axum::Router,
    pub(super) is_secure: bool,
    pub(super) remote: Remote,
    /// Who is on the other side, by TLS.
    pub(super) client: Option<Arc<ClientCertificate>>,
}

impl Router {
    /// The router of a connection.
    pub(super) fn for_connection(&self, remote: Remote, client: Option<ClientCertificate>) -> Self {
        Self {
            remote,
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
        match found {
            Some(route) if self.speaks_grpc && is_grpc(&request) => {
                if route.sees_remote {
                    request.extensions_mut().insert(self.remote);
                }
                let (future, call) = route.start(request.map(|body| Source::Grpc(body).into()));
                Answer { future, call }
            }
            Some(_) | None => Answer {
                future: self.not_grpc(request),
                call: None,
            },
        }
    }

    fn not_grpc(&self, request: Request<Incoming>) -> GrpcFuture {
        let is_grpc = is_grpc(&request);
        let is_exempt = is_grpc && !self.is_json(request.uri().path());
        let access = self.access.as_ref().filter(|_| !is_exempt);
        let Some(access) = access else {
            return self.page(request, is_grpc);
        };
        if let Some(answer) = access.answer(&request, self.is_secure) {
            return Box::pin(ready(Ok(answer)));
        }
        let access = Arc::clone(access);
        let asked = request.headers().get(http::header::ORIGIN).cloned();
        let routed = self.page(request, is_grpc);
        Box::pin(async move {
            let mut response = routed.await?;
            access.allow(asked.as_ref(), response.headers_mut());
            Ok(response)
        })
    }

    fn is_json(&self, path: &str) -> bool {
        let json = self.json.as_ref();
        json.is_some_and(|json| json.strip(path).is_some())
    }

    fn page(&self, mut request: Request<Incoming>, is_grpc: bool) -> GrpcFuture {
        if let Some(json) = &self.json
            && json.strip(request.uri().path()).is_some()
        {
            request.extensions_mut().insert(self.remote);
            let answer = Arc::clone(json).answer(Arc::clone(&self.routes), request);
            return Box::pin(async move { Ok(answer.await) });
        }
        // gRPC too: Server::routes puts services there.
        let unknown = is_grpc.then(|| {
            let path = request.uri().path().trim_start_matches('/');
            let service = path.split_once('/').map_or(path, |(service, _)| service);
            Status::unimplemented(format!("unknown service {service}"))
        });
        let routed = self.http.clone().call(request);
        Box::pin(async move {
            let response = routed.await?.map(Body::new);
            Ok(match unknown {
                Some(status) if response.status() == StatusCode::NOT_FOUND => status.into_http(),
                Some(_) | None => response,
            })
        })
    }
}

/// Whether a request is one of gRPC, which a page in a browser can't make: over HTTP/2, with gRPC's
/// content type. Others reach no service by its gRPC path, so that a page can neither use the
/// certificate of the browser's user nor a name that it gave to this machine (DNS rebinding).
fn is_grpc<B>(request: &Request<B>) -> bool {
    let content_type = request.headers().get(CONTENT_TYPE);
    request.version() == Version::HTTP_2
        && content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
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
