//! Trace context on its way in and out. Only used while spans are exported.

use http::{HeaderMap, HeaderName, HeaderValue, Request};
use opentelemetry::{
    global,
    propagation::{Extractor, Injector},
};
use synod_runtime::telemetry;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// The span of a call that comes in, a child of the caller's if it sent a `traceparent`. `None`
/// while spans aren't exported, so that a call costs nothing then.
pub(crate) fn server_span<B>(request: &Request<B>) -> Option<Span> {
    if !telemetry::is_exporting() {
        return None;
    }
    let method = request.uri().path().trim_start_matches('/');
    let span = tracing::info_span!(
        "rpc",
        otel.name = method,
        otel.kind = "server",
        rpc.system.name = "grpc",
        rpc.method = method,
    );
    let parent = global::get_text_map_propagator(|propagator| {
        propagator.extract(&Headers(request.headers()))
    });
    // An error means that the span is filtered out: then it has no parent to speak of.
    let _ = span.set_parent(parent);
    Some(span)
}

/// Writes the current span's context into the metadata of an outgoing call. Does nothing while
/// spans aren't exported.
pub fn inject<T>(request: &mut tonic::Request<T>) {
    if !telemetry::is_exporting() {
        return;
    }
    let context = Span::current().context();
    let mut headers = std::mem::take(request.metadata_mut()).into_headers();
    global::get_text_map_propagator(|propagator| {
        propagator.inject_context(&context, &mut HeadersMut(&mut headers));
    });
    *request.metadata_mut() = tonic::metadata::MetadataMap::from_headers(headers);
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

struct HeadersMut<'a>(&'a mut HeaderMap);

impl Injector for HeadersMut<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(key.as_bytes()),
            HeaderValue::from_str(&value),
        ) {
            self.0.insert(name, value);
        }
    }
}
