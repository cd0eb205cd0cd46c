//! Spans cross a call and reach an OTLP collector. One test: telemetry is set up once a process.

use std::{num::NonZeroUsize, time::Duration};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    trace::v1::Span,
};
use synod_proto::etcd::v3lockpb::{
    LockRequest, LockResponse, UnlockRequest, UnlockResponse,
    lock_client::LockClient,
    lock_server::{Lock, LockServer},
};
use synod_rpc::{ChannelConfig, Listener, Server, ServerConfig, inject};
use synod_runtime::{
    executor::Executor,
    task,
    telemetry::{self, TelemetryConfig, TelemetryError},
};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status};
use tracing::Instrument as _;

const LONG: Duration = Duration::from_secs(30);

/// Exports that may wait for the test.
const QUEUED_EXPORTS: usize = 64;

struct Collector(mpsc::Sender<ExportTraceServiceRequest>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        // The test may have seen enough and be gone.
        let _ = self.0.send(request.into_inner()).await;
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

struct Plain;

#[tonic::async_trait]
impl Lock for Plain {
    async fn lock(&self, _request: Request<LockRequest>) -> Result<Response<LockResponse>, Status> {
        tracing::info_span!("inside").in_scope(|| ());
        Ok(Response::new(LockResponse::default()))
    }

    async fn unlock(
        &self,
        _request: Request<UnlockRequest>,
    ) -> Result<Response<UnlockResponse>, Status> {
        Ok(Response::new(UnlockResponse::default()))
    }
}

#[tokio::test]
async fn a_call_continues_its_callers_trace() {
    let executor = Executor::start("serve", NonZeroUsize::MIN).unwrap();
    let (exports, mut exported) = mpsc::channel(QUEUED_EXPORTS);
    let listener = || Listener::bind("127.0.0.1:0").unwrap();
    let collector = Server::new(ServerConfig::default())
        .add_service(TraceServiceServer::new(Collector(exports)));
    let collector = collector.start(listener(), &executor).unwrap();
    let server = Server::new(ServerConfig::default()).add_service(LockServer::new(Plain));
    let server = server.start(listener(), &executor).unwrap();

    let config = TelemetryConfig {
        otlp_endpoint: Some(collector.url()),
        service_name: "synod-test".to_owned(),
        service_instance: "n1".to_owned(),
        ..TelemetryConfig::default()
    };
    let guard = telemetry::init(&config).unwrap();
    assert!(telemetry::is_exporting());
    let again = telemetry::init(&TelemetryConfig::default());
    assert!(matches!(again, Err(TelemetryError::AlreadyInitialized)));

    let url = server.url();
    let mut client = LockClient::new(ChannelConfig::default().connect(&url).await.unwrap());
    let call = async {
        let mut request = Request::new(LockRequest::default());
        inject(&mut request);
        client.lock(request).await.unwrap();
    };
    call.instrument(tracing::info_span!("caller")).await;
    // Dropping the guard exports what is left; it blocks.
    task::spawn_blocking(move || drop(guard)).await.unwrap();
    assert!(!telemetry::is_exporting());

    let mut spans: Vec<Span> = Vec::new();
    let wanted = ["caller", "v3lockpb.Lock/Lock", "inside"];
    while !wanted
        .iter()
        .all(|name| spans.iter().any(|span| span.name == *name))
    {
        let export = tokio::time::timeout(LONG, exported.recv())
            .await
            .unwrap()
            .unwrap();
        for resource in export.resource_spans {
            let attributes = format!("{:?}", resource.resource);
            assert!(attributes.contains("synod-test") && attributes.contains("n1"));
            spans.extend(
                resource
                    .scope_spans
                    .into_iter()
                    .flat_map(|scope| scope.spans),
            );
        }
    }
    let [caller, server, inside] =
        wanted.map(|name| spans.iter().find(|span| span.name == name).unwrap());
    assert_eq!(caller.trace_id, server.trace_id);
    assert_eq!(caller.span_id, server.parent_span_id);
    assert_eq!(server.span_id, inside.parent_span_id);
    assert!(caller.parent_span_id.is_empty());
}
