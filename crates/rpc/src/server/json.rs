//! gRPC methods as POST requests with JSON, as grpc-gateway offers them for etcd.
//!
//! A request is translated to the bytes of a gRPC call, given to the service in this process, and
//! the response's bytes are translated back. So a method needs only a path and its descriptor.

mod deadline;
mod error;
mod frames;
mod metadata;
mod request;
mod response;

use std::collections::HashMap;
use std::sync::Arc;

use http::{Method as HttpMethod, Request, Response, Uri};
use hyper::body::Incoming;
use synod_json::{Method, Schema, SchemaError};
use tonic::{Code, Status, body::Body};

use self::deadline::Deadline;
use self::error::Refusal;
use super::body::ResponseBody;
use super::router::Route;
use crate::hold::Hold;

pub(super) use self::request::Source;

/// Which methods have paths for JSON, and how large requests may be.
#[derive(Debug, Clone, Copy)]
pub struct JsonMapping {
    /// What paths begin with, each with a slash at both ends.
    pub prefixes: &'static [&'static str],
    /// The path after a prefix, and the method's path in gRPC. Methods of services that a server
    /// doesn't have are left out.
    pub paths: &'static [(&'static str, &'static str)],
    /// The largest request; of a stream of requests, the largest of them.
    pub max_request_bytes: usize,
}

/// The mapping of a server.
#[derive(Debug)]
pub(super) struct Json {
    prefixes: &'static [&'static str],
    targets: HashMap<&'static str, Target>,
    schema: Arc<Schema>,
    max_request_bytes: usize,
}

/// What a path stands for.
#[derive(Debug, Clone)]
struct Target {
    /// The position of its service.
    route: usize,
    /// The path in gRPC.
    uri: Uri,
    method: Method,
}

impl Json {
    /// # Errors
    /// [`SchemaError`]: a method of one of the services is not in the descriptors, or has a field
    /// that JSON can't have.
    pub(super) fn new(
        mapping: &JsonMapping,
        routes: &[Route],
        descriptors: &[u8],
    ) -> Result<Self, SchemaError> {
        let position = |path: &str| {
            let service = path.trim_start_matches('/').split('/').next();
            routes.iter().position(|route| Some(route.name) == service)
        };
        let served = || {
            let paths = mapping.paths.iter();
            paths.filter_map(|(http, grpc)| Some((*http, *grpc, position(grpc)?)))
        };
        let schema = Schema::new(descriptors, served().map(|(_, grpc, _)| grpc))?;
        let targets = served().filter_map(|(http, grpc, route)| {
            let target = Target {
                route,
                uri: Uri::from_static(grpc),
                method: schema.method(grpc)?,
            };
            Some((http, target))
        });
        Ok(Self {
            prefixes: mapping.prefixes,
            targets: targets.collect(),
            schema: Arc::new(schema),
            max_request_bytes: mapping.max_request_bytes,
        })
    }

    /// The path after the prefix, if it is one of this mapping.
    pub(super) fn strip<'a>(&self, path: &'a str) -> Option<&'a str> {
        let mut prefixes = self.prefixes.iter();
        prefixes.find_map(|prefix| path.strip_prefix(prefix))
    }

    /// Answers a request whose path [`strip`](Self::strip) takes.
    pub(super) async fn answer(
        self: Arc<Self>,
        routes: Arc<[Route]>,
        request: Request<Incoming>,
    ) -> Response<Body> {
        let target = self
            .strip(request.uri().path())
            .and_then(|path| self.targets.get(path));
        let answered = match target {
            None => Err(Status::new(Code::NotFound, "Not Found").into()),
            // As in grpc-gateway the code is that of a method that is not implemented.
            Some(_) if request.method() != HttpMethod::POST => {
                Err(Status::new(Code::Unimplemented, "Method Not Allowed").into())
            }
            Some(target) => self.call(&routes[target.route], target, request).await,
        };
        answered.unwrap_or_else(Refusal::into_response)
    }

    async fn call(
        &self,
        route: &Route,
        target: &Target,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Refusal> {
        let (head, body) = request.into_parts();
        let (headers, timeout) = metadata::of_call(&head.headers)?;
        let mut deadline = Deadline::after(timeout);
        let failure = request::Failure::default();
        let body = match target.method.streams_requests {
            false => {
                let whole = request::collect(body, self.max_request_bytes);
                let whole = deadline.run(whole).await??;
                Source::One(Some(request::frame(
                    &self.schema,
                    target.method.input,
                    &whole,
                )?))
            }
            true => Source::Many(Box::new(request::Requests::new(
                body,
                Arc::clone(&self.schema),
                target.method.input,
                self.max_request_bytes,
                failure.clone(),
            ))),
        };
        deadline.check()?;
        let mut request = Request::new(body.into());
        *request.method_mut() = HttpMethod::POST;
        *request.uri_mut() = target.uri.clone();
        *request.headers_mut() = headers;
        *request.extensions_mut() = head.extensions;
        let (future, call) = route.start(request);
        let response = match deadline.run(future).await? {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let (mut head, body) = response.into_parts();
        let hold = head.extensions.remove::<Hold>();
        let body = match call {
            Some(call) => ResponseBody::counted(body, call, &head.headers),
            None => ResponseBody::plain(body),
        };
        let frames = frames::Frames::new(body, &head.headers, deadline);
        let translate = response::Translate {
            schema: Arc::clone(&self.schema),
            output: target.method.output,
        };
        let mut response = match target.method.streams_responses {
            false => translate.one(frames, &head.headers).await?,
            true => translate.many(frames, &head.headers, failure).await,
        };
        if let Some(hold) = hold {
            response.extensions_mut().insert(hold);
        }
        Ok(response)
    }
}
