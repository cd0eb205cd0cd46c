//! A server and its clients over real sockets: protocols, limits, drain, dead peers.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests may fail loudly"
)]

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::{BufMut as _, Bytes, BytesMut};
use prost::Message as _;
use synod_proto::etcd::v3lockpb::{
    LockRequest, LockResponse, UnlockRequest, UnlockResponse,
    lock_client::LockClient,
    lock_server::{Lock, LockServer},
};
use synod_rpc::{
    ChannelConfig, Drained, Health, Hold, Keep, Listener, RpcMetrics, Running, Server, ServerConfig,
};
use synod_runtime::{clock, executor::Executor, metrics::Registry, task};
use tokio::sync::Semaphore;
use tonic::{Code, Request, Response, Status, transport::Channel};

/// More than any of these tests needs; waiting that long is a failure.
const LONG: Duration = Duration::from_secs(30);

const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// What a response holds in these tests.
#[derive(Debug, Default)]
struct Token {
    encoded: AtomicU32,
}

/// Held by a response.
struct Holding(Arc<Token>);

impl Keep for Holding {
    fn encoded(&self) {
        self.0.encoded.fetch_add(1, Ordering::Relaxed);
    }
}

/// `lock` echoes the name, except for the names `wait`, `fail` and `thread`, which do what they
/// say, and `hold`: it returns as many bytes as the lease says, and holds the token meanwhile.
#[derive(Debug, Clone)]
struct Echo {
    entered: Arc<Semaphore>,
    go: Arc<Semaphore>,
    token: Arc<Token>,
}

#[tonic::async_trait]
impl Lock for Echo {
    async fn lock(&self, request: Request<LockRequest>) -> Result<Response<LockResponse>, Status> {
        let LockRequest { name, lease } = request.into_inner();
        let key = match name.as_ref() {
            b"fail" => return Err(Status::not_found("no such lock")),
            b"thread" => Bytes::from(std::thread::current().name().unwrap().to_owned()),
            b"wait" => {
                self.entered.add_permits(1);
                self.go.acquire().await.unwrap().forget();
                name
            }
            b"hold" => {
                let key = vec![7; usize::try_from(lease).unwrap()].into();
                let mut response = Response::new(LockResponse { header: None, key });
                let hold = Hold::new(Holding(Arc::clone(&self.token)));
                response.extensions_mut().insert(hold);
                return Ok(response);
            }
            _ => name,
        };
        Ok(Response::new(LockResponse { header: None, key }))
    }

    async fn unlock(
        &self,
        _request: Request<UnlockRequest>,
    ) -> Result<Response<UnlockResponse>, Status> {
        Ok(Response::new(UnlockResponse::default()))
    }
}

struct Fixture {
    running: Running,
    executor: Executor,
    echo: Echo,
    registry: Registry,
    health: Health,
}

impl Fixture {
    fn start(config: ServerConfig) -> Self {
        let executor = Executor::start("serve", NonZeroUsize::new(2).unwrap()).unwrap();
        let echo = Echo {
            entered: Arc::new(Semaphore::new(0)),
            go: Arc::new(Semaphore::new(0)),
            token: Arc::default(),
        };
        let registry = Registry::new();
        let health = Health::new();
        let http = axum::Router::new().route(
            "/health",
            axum::routing::get(async || r#"{"health":"true"}"#),
        );
        let service = LockServer::new(echo.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let server = Server::new(config)
            .metrics(RpcMetrics::new(&registry).unwrap())
            .add_service(service)
            .health(&health)
            .reflection()
            .unwrap()
            .http(http);
        let listener = Listener::bind("127.0.0.1:0").unwrap();
        Self {
            running: server.start(listener, &executor).unwrap(),
            executor,
            echo,
            registry,
            health,
        }
    }

    fn address(&self) -> SocketAddr {
        self.running.bound_to().tcp().unwrap()
    }

    async fn channel(&self) -> Channel {
        let url = self.running.url();
        ChannelConfig::default().connect(&url).await.unwrap()
    }

    async fn client(&self) -> LockClient<Channel> {
        LockClient::new(self.channel().await)
    }

    async fn stop(self) -> Drained {
        let drained = self.running.drain(LONG).await;
        self.executor.stop(LONG).await;
        drained
    }
}

fn request(name: &'static str) -> LockRequest {
    LockRequest {
        name: Bytes::from_static(name.as_bytes()),
        lease: 0,
    }
}

/// One HTTP/1.1 exchange; the connection is closed by the server.
async fn http1(address: SocketAddr, path: &'static str) -> String {
    let exchange = task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    exchange.await.unwrap()
}

#[tokio::test]
async fn one_port_speaks_grpc_and_http1() {
    let fixture = Fixture::start(ServerConfig::default());
    let mut client = fixture.client().await;
    let answer = client.lock(request("a")).await.unwrap().into_inner();
    assert_eq!(answer.key, "a");
    let answer = http1(fixture.address(), "/health").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(answer.ends_with(r#"{"health":"true"}"#), "{answer}");
    let answer = http1(fixture.address(), "/nothing").await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    drop(client);
    assert_eq!(fixture.stop().await, Drained::Clean);
}

#[tokio::test]
async fn connections_are_spread_over_the_threads() {
    let fixture = Fixture::start(ServerConfig::default());
    let mut threads = Vec::new();
    let mut clients = Vec::new();
    for _ in 0..4 {
        let mut client = fixture.client().await;
        let answer = client.lock(request("thread")).await.unwrap().into_inner();
        threads.push(answer.key);
        clients.push(client);
    }
    threads.sort();
    assert_eq!(threads, ["serve-0", "serve-0", "serve-1", "serve-1"]);
    assert_eq!(fixture.running.connections(), 4);
}

#[tokio::test]
async fn unknown_services_and_methods_are_unimplemented() {
    use synod_proto::etcd::v3electionpb::{LeaderRequest, election_client::ElectionClient};
    let fixture = Fixture::start(ServerConfig::default());
    let mut client = ElectionClient::new(fixture.channel().await);
    let status = client.leader(LeaderRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    assert_eq!(status.message(), "unknown service v3electionpb.Election");
}

#[tokio::test]
async fn an_oversized_message_is_refused_and_the_connection_lives_on() {
    let fixture = Fixture::start(ServerConfig::default());
    let mut client = fixture.client().await;
    let large = LockRequest {
        name: vec![0; MAX_MESSAGE_BYTES + 1].into(),
        lease: 0,
    };
    let status = client.lock(large).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
    client.lock(request("a")).await.unwrap();
}

#[tokio::test]
async fn calls_are_counted_by_method_and_status() {
    let fixture = Fixture::start(ServerConfig::default());
    let mut client = fixture.client().await;
    client.lock(request("a")).await.unwrap();
    client.lock(request("b")).await.unwrap();
    client.lock(request("fail")).await.unwrap_err();
    // A call that its client gives up.
    let waiting = {
        let mut client = client.clone();
        task::spawn("call", async move { client.lock(request("wait")).await })
    };
    fixture.echo.entered.acquire().await.unwrap().forget();
    let method = r#"grpc_method="Lock",grpc_service="v3lockpb.Lock",grpc_type="unary"}"#;
    let in_flight = r#"grpc_server_in_flight{grpc_service="v3lockpb.Lock"}"#;
    assert_metric(&fixture, &format!("{in_flight} 1")).await;
    waiting.abort();
    let handled = |code: &str, count: u32| {
        format!(r#"grpc_server_handled_total{{grpc_code="{code}",{method} {count}"#)
    };
    for line in [
        handled("OK", 2),
        handled("NotFound", 1),
        handled("Canceled", 1),
        format!("grpc_server_started_total{{{method} 4"),
        format!("grpc_server_handling_seconds_count{{{method} 4"),
        format!("{in_flight} 0"),
        "synod_rpc_connections 1".to_owned(),
    ] {
        assert_metric(&fixture, &line).await;
    }
}

/// Waits until the metrics hold `line`: a call is counted just after its client has the answer.
async fn assert_metric(fixture: &Fixture, line: &str) {
    let found = async {
        while !fixture
            .registry
            .text()
            .unwrap()
            .lines()
            .any(|found| found == line)
        {
            tokio::task::yield_now().await;
        }
    };
    if tokio::time::timeout(LONG, found).await.is_err() {
        panic!("{line} is not in\n{}", fixture.registry.text().unwrap());
    }
}

#[tokio::test]
async fn drain_answers_calls_in_flight_and_refuses_new_ones() {
    let fixture = Fixture::start(ServerConfig::default());
    let address = fixture.address();
    let mut client = fixture.client().await;
    let waiting = {
        let mut client = client.clone();
        task::spawn("call", async move { client.lock(request("wait")).await })
    };
    fixture.echo.entered.acquire().await.unwrap().forget();

    let Fixture {
        running,
        echo,
        executor,
        ..
    } = fixture;
    let draining = task::spawn("drain", running.drain(LONG));
    // The port closes first.
    let closed = async {
        while tokio::net::TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, closed).await.unwrap();
    assert!(!draining.is_finished());
    assert!(!waiting.is_finished());
    // Until the client has heard of it, calls are still answered; then they find no server. One
    // that meets the end of the old connection is cancelled by tonic's client.
    let refused = async {
        loop {
            match client.lock(request("late")).await {
                Ok(_) => {}
                Err(status) if status.code() == Code::Cancelled => {}
                Err(status) => return status,
            }
        }
    };
    let status = tokio::time::timeout(LONG, refused).await.unwrap();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert!(!waiting.is_finished());

    echo.go.add_permits(1);
    assert_eq!(waiting.await.unwrap().unwrap().into_inner().key, "wait");
    assert_eq!(draining.await.unwrap(), Drained::Clean);
    executor.stop(LONG).await;
}

#[tokio::test]
async fn drain_cuts_off_what_outlives_the_grace_period() {
    let fixture = Fixture::start(ServerConfig::default());
    let mut client = fixture.client().await;
    let waiting = task::spawn("call", async move { client.lock(request("wait")).await });
    fixture.echo.entered.acquire().await.unwrap().forget();
    let drained = fixture.running.drain(Duration::from_millis(50)).await;
    assert_eq!(drained, Drained::Cut { connections: 1 });
    assert!(waiting.await.unwrap().is_err());
}

#[tokio::test]
async fn health_answers_and_follows() {
    use tonic_health::pb::{
        HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
    };
    let fixture = Fixture::start(ServerConfig::default());
    let mut client = HealthClient::new(fixture.channel().await);
    let check = HealthCheckRequest::default();
    let answer = client.check(check.clone()).await.unwrap().into_inner();
    assert_eq!(answer.status(), ServingStatus::Serving);
    fixture.health.set("", false).await;
    let answer = client.check(check).await.unwrap().into_inner();
    assert_eq!(answer.status(), ServingStatus::NotServing);
    let unknown = HealthCheckRequest {
        service: "x".to_owned(),
    };
    let status = client.check(unknown).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
}

#[tokio::test]
async fn reflection_lists_services_and_describes_them() {
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let fixture = Fixture::start(ServerConfig::default());
    let mut client = ServerReflectionClient::new(fixture.channel().await);
    let requests = [
        MessageRequest::ListServices(String::new()),
        MessageRequest::FileContainingSymbol("etcdserverpb.RangeResponse".to_owned()),
    ]
    .map(|message| ServerReflectionRequest {
        host: String::new(),
        message_request: Some(message),
    });
    let stream = tokio_stream::iter(requests);
    let mut answers = client
        .server_reflection_info(stream)
        .await
        .unwrap()
        .into_inner();
    let first = answers
        .message()
        .await
        .unwrap()
        .unwrap()
        .message_response
        .unwrap();
    let MessageResponse::ListServicesResponse(list) = first else {
        panic!("{first:?}");
    };
    let names: Vec<_> = list
        .service
        .iter()
        .map(|service| service.name.as_str())
        .collect();
    assert!(names.contains(&"v3lockpb.Lock"), "{names:?}");
    assert!(names.contains(&"grpc.health.v1.Health"), "{names:?}");
    // A service that this server does not have is not advertised.
    assert!(!names.contains(&"v3electionpb.Election"), "{names:?}");
    let second = answers
        .message()
        .await
        .unwrap()
        .unwrap()
        .message_response
        .unwrap();
    assert!(
        matches!(second, MessageResponse::FileDescriptorResponse(_)),
        "{second:?}"
    );
}

fn impatient() -> ServerConfig {
    ServerConfig {
        keepalive_interval: Duration::from_millis(100),
        keepalive_timeout: Duration::from_millis(100),
        handshake_timeout: Duration::from_millis(100),
        ..ServerConfig::default()
    }
}

/// Sends `bytes`, then nothing, and returns when the server has closed the connection.
async fn closed_after(address: SocketAddr, bytes: &'static [u8]) {
    let closed = task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.write_all(bytes).unwrap();
        // What the server sends meanwhile (settings, pings, an error page) is not answered.
        let mut received = Vec::new();
        match stream.read_to_end(&mut received) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
    });
    closed.await.unwrap();
}

#[tokio::test]
async fn silent_and_half_open_clients_are_dropped() {
    const PREFACE_AND_SETTINGS: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let fixture = Fixture::start(impatient());
    let address = fixture.address();
    let mut alive = fixture.client().await;
    // Nothing at all; half a preface; a preface and no answer to pings; half a HTTP/1 request.
    closed_after(address, b"").await;
    closed_after(address, b"PRI * HTTP/2.0\r\n").await;
    closed_after(address, PREFACE_AND_SETTINGS).await;
    closed_after(address, b"GET /health HTTP/1.1\r\nhost:").await;
    // A client that answers pings stays, idle as it is.
    alive.lock(request("a")).await.unwrap();
    assert_metric(&fixture, "synod_rpc_connections 1").await;
}

#[tokio::test]
async fn connections_over_the_limit_are_closed_at_once() {
    let fixture = Fixture::start(ServerConfig {
        max_connections: 1,
        ..ServerConfig::default()
    });
    let mut client = fixture.client().await;
    client.lock(request("a")).await.unwrap();
    closed_after(fixture.address(), b"").await;
    assert_metric(&fixture, "synod_rpc_connections_refused_total 1").await;
    client.lock(request("a")).await.unwrap();
}

/// A client that decides itself what it reads.
struct RawClient {
    requests: h2::client::SendRequest<Bytes>,
    address: SocketAddr,
}

impl RawClient {
    /// Streams begin with a window of so many bytes.
    async fn connect(address: SocketAddr, window_bytes: u32) -> Self {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(window_bytes);
        builder.initial_connection_window_size(1 << 20);
        let (requests, connection) = builder.handshake(stream).await.unwrap();
        task::spawn("raw-client", async move {
            let _closed = connection.await;
        });
        Self { requests, address }
    }

    /// Asks for a response that holds the token. Returns its body, unread.
    async fn hold(&self, bytes: usize) -> h2::RecvStream {
        let message = LockRequest {
            name: Bytes::from_static(b"hold"),
            lease: i64::try_from(bytes).unwrap(),
        };
        let mut body = BytesMut::new();
        body.put_u8(0);
        body.put_u32(u32::try_from(message.encoded_len()).unwrap());
        message.encode(&mut body).unwrap();
        let request = http::Request::post(format!("http://{}/v3lockpb.Lock/Lock", self.address))
            .header("content-type", "application/grpc")
            .body(())
            .unwrap();
        let mut requests = self.requests.clone().ready().await.unwrap();
        let (response, mut sending) = requests.send_request(request, false).unwrap();
        sending.send_data(body.freeze(), true).unwrap();
        response.await.unwrap().into_body()
    }
}

fn ends_stalled_responses() -> ServerConfig {
    ServerConfig {
        response_stall_timeout: Duration::from_millis(300),
        ..ServerConfig::default()
    }
}

/// Waits until no response holds the token any more.
async fn assert_released(fixture: &Fixture) {
    let released = async {
        // The fixture and the service have it.
        while Arc::strong_count(&fixture.echo.token) > 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    if tokio::time::timeout(Duration::from_secs(10), released)
        .await
        .is_err()
    {
        panic!("a response is still held");
    }
}

#[tokio::test]
async fn a_response_that_nobody_reads_is_ended_and_holds_nothing_any_more() {
    // Nothing of it fits into the window; a part; all but the last bytes.
    for (window, bytes) in [
        (0, 8 << 20),
        (0, 20_000),
        (100_000, 8 << 20),
        (100_000, 120_000),
        (65_535, 65_536),
    ] {
        let fixture = Fixture::start(ends_stalled_responses());
        let client = RawClient::connect(fixture.address(), window).await;
        let mut unread = client.hold(bytes).await;
        assert_released(&fixture).await;
        assert_metric(&fixture, "synod_rpc_responses_stalled_total 1").await;
        assert_eq!(fixture.echo.token.encoded.load(Ordering::Relaxed), 1);
        // Only this stream is gone.
        let ended = loop {
            match unread.data().await {
                Some(Ok(data)) => drop(data),
                Some(Err(error)) => break error,
                None => panic!("it ended as if it were whole, window {window}, {bytes} bytes"),
            }
        };
        assert_eq!(ended.reason(), Some(h2::Reason::CANCEL), "{ended}");
        let other = client.hold(usize::try_from(window / 2).unwrap()).await;
        drop(other);
    }
}

#[tokio::test]
async fn a_reader_that_is_slow_but_steady_gets_all() {
    let fixture = Fixture::start(ends_stalled_responses());
    let client = RawClient::connect(fixture.address(), 65_535).await;
    let mut body = client.hold(500_000).await;
    let began = clock::now();
    let mut received = 0;
    let mut unreleased = 0;
    while let Some(data) = body.data().await {
        let length = data.unwrap().len();
        (received, unreleased) = (received + length, unreleased + length);
        if unreleased >= 40_000 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            body.flow_control().release_capacity(unreleased).unwrap();
            unreleased = 0;
        }
    }
    assert!(received > 500_000, "{received}");
    assert!(clock::now() - began > Duration::from_millis(900));
    let trailers = body.trailers().await.unwrap().unwrap();
    assert_eq!(trailers.get("grpc-status").unwrap(), "0");
    assert_released(&fixture).await;
    assert_metric(&fixture, "synod_rpc_responses_stalled_total 0").await;
}
