//! One look at an instance: over HTTP, TCP or gRPC.

use std::net::SocketAddr;

use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use synod_rpc::ChannelConfig;
use synod_runtime::{clock, task};
use tokio::net::TcpStream;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::instance::{Check, Kind};

/// The head of an HTTP response, at most. Its body is not read.
const MAX_HEAD_BYTES: usize = 16 << 10;

/// The answer to a gRPC check, at most.
const MAX_ANSWER_BYTES: usize = 4 << 10;

/// Why an instance did not pass a check.
pub(super) type Failure = String;

/// Checks an instance once. TTL checks have nothing to look at.
///
/// # Errors
/// Why it did not pass, also if it did not within the check's timeout.
pub(super) async fn probe(check: &Check, target: SocketAddr) -> Result<(), Failure> {
    let probing = async {
        match &check.kind {
            Kind::Ttl => Ok(()),
            Kind::Tcp { .. } => connect(target).await.map(drop),
            Kind::Http { path, .. } => http(target, path).await,
            Kind::Grpc { service, .. } => grpc(target, service, check).await,
        }
    };
    let within = check.timeout();
    let probed = clock::timeout(within, probing).await;
    probed.unwrap_or_else(|_| Err(format!("no answer within {within:?}")))
}

async fn connect(target: SocketAddr) -> Result<TcpStream, Failure> {
    let connected = TcpStream::connect(target).await;
    connected.map_err(|error| format!("cannot connect: {error}"))
}

async fn http(target: SocketAddr, path: &str) -> Result<(), Failure> {
    let stream = TokioIo::new(connect(target).await?);
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MAX_HEAD_BYTES);
    let failed = |error: hyper::Error| format!("no HTTP answer: {error}");
    let (mut sender, connection) = builder.handshake(stream).await.map_err(failed)?;
    let connection = task::spawn("http-check", connection);
    let _end = AbortOnDrop(connection.abort_handle());
    let request = hyper::Request::get(path)
        .header(hyper::header::HOST, target.to_string())
        .header(hyper::header::USER_AGENT, "synod-check")
        .body(Empty::<bytes::Bytes>::new())
        .map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await.map_err(failed)?;
    match response.status() {
        status if status.is_success() => Ok(()),
        status => Err(format!("HTTP status {status}")),
    }
}

async fn grpc(target: SocketAddr, service: &str, check: &Check) -> Result<(), Failure> {
    let config = ChannelConfig {
        connect_timeout: check.timeout(),
        ..ChannelConfig::default()
    };
    let channel = config.lazy(&format!("http://{target}"));
    let channel = channel.map_err(|error| error.to_string())?;
    let mut client = HealthClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
    let request = HealthCheckRequest {
        service: service.to_owned(),
    };
    let answer = client.check(request).await;
    let answer = answer.map_err(|status| format!("no gRPC answer: {}", status.message()))?;
    match answer.into_inner().status() {
        ServingStatus::Serving => Ok(()),
        status @ (ServingStatus::Unknown
        | ServingStatus::NotServing
        | ServingStatus::ServiceUnknown) => Err(format!("gRPC status {}", status.as_str_name())),
    }
}

/// Ends a connection with the check.
struct AbortOnDrop(task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
