//! What is counted about calls and connections: the names that etcd's dashboards use.
//!
//! Each method's instruments are resolved when a server starts, so that counting a call neither
//! allocates nor looks anything up.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge};
use prost::Message as _;
use prost_types::{FileDescriptorSet, MethodDescriptorProto};
use synod_runtime::{
    clock,
    metrics::{LATENCY_SECONDS, MetricsError, Registry},
};
use tonic::Code;

/// The label of calls to methods that no descriptor names.
const OTHER: &str = "other";

/// gRPC's status names by code, as Go's gRPC metrics spell them.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// The instruments of every server of a node; clones share them.
///
/// | name | kind, unit | labels |
/// |---|---|---|
/// | `grpc_server_started_total` | counter, calls | `grpc_type`, `grpc_service`, `grpc_method` |
/// | `grpc_server_handled_total` | counter, calls | the same and `grpc_code` |
/// | `grpc_server_handling_seconds` | histogram, s; of unary calls | `grpc_type`, `grpc_service`, `grpc_method` |
/// | `grpc_server_in_flight` | gauge, calls | `grpc_service` |
/// | `synod_rpc_connections` | gauge, connections | |
/// | `synod_rpc_connections_refused_total` | counter, connections | |
/// | `synod_rpc_responses_stalled_total` | counter, responses | |
#[derive(Debug, Clone)]
pub struct RpcMetrics {
    started: IntCounterVec,
    handled: IntCounterVec,
    seconds: HistogramVec,
    in_flight: prometheus::IntGaugeVec,
    pub(crate) connections: IntGauge,
    pub(crate) connections_refused: IntCounter,
    pub(crate) responses_stalled: IntCounter,
}

impl RpcMetrics {
    /// Registers the instruments.
    ///
    /// # Errors
    /// [`MetricsError::Register`] when called twice for one registry.
    pub fn new(registry: &Registry) -> Result<Self, MetricsError> {
        let method = ["grpc_type", "grpc_service", "grpc_method"];
        let code = ["grpc_type", "grpc_service", "grpc_method", "grpc_code"];
        Ok(Self {
            started: registry.counter_vec(
                "grpc_server_started_total",
                "Calls started.",
                &method,
            )?,
            handled: registry.counter_vec(
                "grpc_server_handled_total",
                "Calls ended, by status.",
                &code,
            )?,
            seconds: registry.histogram_vec(
                "grpc_server_handling_seconds",
                "Time from a unary call's headers to its status.",
                &method,
                LATENCY_SECONDS,
            )?,
            in_flight: registry.gauge_vec(
                "grpc_server_in_flight",
                "Calls started and not ended.",
                &["grpc_service"],
            )?,
            connections: registry.gauge("synod_rpc_connections", "Open connections.")?,
            connections_refused: registry.counter(
                "synod_rpc_connections_refused_total",
                "Connections closed because there were too many.",
            )?,
            responses_stalled: registry.counter(
                "synod_rpc_responses_stalled_total",
                "Responses reset because their clients stopped reading.",
            )?,
        })
    }

    /// The instruments of `service`, whose methods the descriptors name.
    pub(crate) fn service(&self, service: &str, methods: &Methods) -> ServiceMetrics {
        let known = methods.0.get(service).into_iter().flatten();
        let methods = known
            .map(|(name, kind)| {
                let metrics = self.method(service, name, *kind);
                (name.as_str().into(), metrics)
            })
            .collect();
        ServiceMetrics {
            methods,
            other: self.method(service, OTHER, Kind::Unary),
        }
    }

    fn method(&self, service: &str, method: &str, kind: Kind) -> Arc<MethodMetrics> {
        let labels = [kind.label(), service, method];
        let handled = |code: &str| {
            self.handled
                .with_label_values(&[labels[0], labels[1], labels[2], code])
        };
        Arc::new(MethodMetrics {
            started: self.started.with_label_values(&labels),
            ok: handled(CODES[0]),
            handled: self.handled.clone(),
            labels: labels.map(str::to_owned),
            seconds: (kind == Kind::Unary).then(|| self.seconds.with_label_values(&labels)),
            in_flight: self.in_flight.with_label_values(&[service]),
        })
    }
}

/// What a method streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Unary,
    ClientStream,
    ServerStream,
    BidiStream,
}

impl Kind {
    fn of(method: &MethodDescriptorProto) -> Self {
        match (method.client_streaming(), method.server_streaming()) {
            (false, false) => Self::Unary,
            (true, false) => Self::ClientStream,
            (false, true) => Self::ServerStream,
            (true, true) => Self::BidiStream,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Unary => "unary",
            Self::ClientStream => "client_stream",
            Self::ServerStream => "server_stream",
            Self::BidiStream => "bidi_stream",
        }
    }
}

/// The methods of each service, from descriptors: names from a request would be an unbounded set.
#[derive(Debug, Default)]
pub(crate) struct Methods(BTreeMap<String, Vec<(String, Kind)>>);

impl Methods {
    /// Adds an encoded `FileDescriptorSet`.
    pub(crate) fn add(&mut self, descriptors: &[u8]) -> Result<(), prost::DecodeError> {
        for file in FileDescriptorSet::decode(descriptors)?.file {
            for service in &file.service {
                let name = match file.package() {
                    "" => service.name().to_owned(),
                    package => format!("{package}.{}", service.name()),
                };
                let methods = service.method.iter();
                let methods = methods.map(|method| (method.name().to_owned(), Kind::of(method)));
                self.0.insert(name, methods.collect());
            }
        }
        Ok(())
    }
}

/// The instruments of one service's methods.
#[derive(Debug)]
pub(crate) struct ServiceMetrics {
    methods: Vec<(Box<str>, Arc<MethodMetrics>)>,
    other: Arc<MethodMetrics>,
}

impl ServiceMetrics {
    /// Counts the start of a call.
    pub(crate) fn start(&self, method: &str) -> Call {
        // A service has few methods: a scan beats a hash.
        let found = self.methods.iter().find(|(name, _)| **name == *method);
        let metrics = Arc::clone(found.map_or(&self.other, |(_, metrics)| metrics));
        metrics.started.inc();
        metrics.in_flight.inc();
        Call {
            metrics,
            started: clock::now(),
            // What a call that is dropped before its status came to.
            code: Code::Cancelled,
        }
    }
}

#[derive(Debug)]
struct MethodMetrics {
    started: IntCounter,
    ok: IntCounter,
    handled: IntCounterVec,
    labels: [String; 3],
    seconds: Option<Histogram>,
    in_flight: IntGauge,
}

/// One call from its headers to its status; counted as ended when it is dropped.
#[derive(Debug)]
pub(crate) struct Call {
    metrics: Arc<MethodMetrics>,
    started: Instant,
    code: Code,
}

impl Call {
    pub(crate) fn set_code(&mut self, code: Code) {
        self.code = code;
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let metrics = &self.metrics;
        metrics.in_flight.dec();
        if self.code == Code::Ok {
            metrics.ok.inc();
        } else {
            let [kind, service, method] = &metrics.labels;
            let code = usize::try_from(i32::from(self.code)).ok();
            let code = code
                .and_then(|code| CODES.get(code))
                .copied()
                .unwrap_or(CODES[2]);
            metrics
                .handled
                .with_label_values(&[kind.as_str(), service, method, code])
                .inc();
        }
        if let Some(seconds) = &metrics.seconds {
            seconds.observe(clock::now().duration_since(self.started).as_secs_f64());
        }
    }
}
