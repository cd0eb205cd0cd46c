//! gRPC methods called with JSON, over real sockets.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests may fail loudly"
)]

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt as _, stream};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use synod_proto::etcd::etcdserverpb as pb;
use synod_proto::etcd::etcdserverpb::lease_server::{Lease, LeaseServer};
use synod_proto::etcd::v3lockpb::lock_client::LockClient;
use synod_proto::etcd::v3lockpb::lock_server::{Lock, LockServer};
use synod_proto::etcd::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};
use synod_rpc::{
    AccessControl, Allowed, Hold, JsonMapping, Keep, Listener, Remote, RpcMetrics, Running, Server,
    ServerConfig,
};
use synod_runtime::{clock, executor::Executor, metrics::Registry, task};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

/// More than any of these tests needs; waiting that long is a failure.
const LONG: Duration = Duration::from_secs(30);
const MAX_REQUEST_BYTES: usize = 64 << 10;

type Body = StreamBody<BoxStream<'static, Result<Frame<Bytes>, std::io::Error>>>;

#[derive(Debug)]
struct Seen {
    /// How many responses hold something.
    held: AtomicU32,
    /// A permit for each call that began to wait.
    entered: Semaphore,
    /// A permit for each call that was dropped while it waited.
    dropped: Semaphore,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            held: AtomicU32::new(0),
            entered: Semaphore::new(0),
            dropped: Semaphore::new(0),
        }
    }
}

impl Seen {
    /// Waits until the call is dropped.
    async fn wait(self: Arc<Self>) {
        self.entered.add_permits(1);
        let _dropped = Dropped(self);
        std::future::pending::<()>().await;
    }
}

struct Holding(Arc<Seen>);

impl Keep for Holding {}

impl Drop for Holding {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Tells when a call's future is dropped.
struct Dropped(Arc<Seen>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.dropped.add_permits(1);
    }
}

/// `lock` echoes the name, except for those that say what they do. `hold` returns as many bytes as
/// the lease says, and holds something meanwhile.
#[derive(Debug, Clone, Default)]
struct Echo(Arc<Seen>);

#[tonic::async_trait]
impl Lock for Echo {
    async fn lock(
        &self,
        request: tonic::Request<LockRequest>,
    ) -> Result<tonic::Response<LockResponse>, Status> {
        let metadata = request.metadata().clone();
        let remote = request.extensions().get::<Remote>();
        let remote = remote.map(Remote::to_string).unwrap_or_default().into();
        let LockRequest { name, lease } = request.into_inner();
        let key = match name.as_ref() {
            b"fail" => return Err(Status::unauthenticated("etcdserver: invalid auth token")),
            b"wait" => {
                Arc::clone(&self.0).wait().await;
                name
            }
            b"remote" => remote,
            b"metadata" => {
                let mut lines: Vec<String> = metadata
                    .into_headers()
                    .iter()
                    .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
                    .collect();
                lines.sort();
                lines.join("\n").into()
            }
            b"hold" => {
                let key = vec![7; usize::try_from(lease).unwrap()].into();
                let mut response = tonic::Response::new(LockResponse { header: None, key });
                self.0.held.fetch_add(1, Ordering::Relaxed);
                let hold = Hold::new(Holding(Arc::clone(&self.0)));
                response.extensions_mut().insert(hold);
                return Ok(response);
            }
            _ => name,
        };
        Ok(tonic::Response::new(LockResponse { header: None, key }))
    }

    async fn unlock(
        &self,
        _request: tonic::Request<UnlockRequest>,
    ) -> Result<tonic::Response<UnlockResponse>, Status> {
        Ok(tonic::Response::new(UnlockResponse::default()))
    }
}

#[tonic::async_trait]
impl Lease for Echo {
    type LeaseKeepAliveStream = BoxStream<'static, Result<pb::LeaseKeepAliveResponse, Status>>;

    /// Echoes the ids. The id -1 is an error; after -2 it waits for ever; -3 is echoed for ever,
    /// without a pause.
    async fn lease_keep_alive(
        &self,
        request: tonic::Request<Streaming<pb::LeaseKeepAliveRequest>>,
    ) -> Result<tonic::Response<Self::LeaseKeepAliveStream>, Status> {
        let seen = Arc::clone(&self.0);
        let answers = request.into_inner().then(move |next| {
            let seen = Arc::clone(&seen);
            async move {
                // As a watch does, it does not tell what was wrong with a request.
                let id = next.map_err(|_| Status::unavailable("ended"))?.id;
                if id == -2 {
                    seen.wait().await;
                }
                match id {
                    -1 => Err(Status::not_found("etcdserver: requested lease not found")),
                    id => Ok(pb::LeaseKeepAliveResponse {
                        id,
                        ..Default::default()
                    }),
                }
            }
        });
        let answers = answers.flat_map(|answer| match answer {
            Ok(answer) if answer.id == -3 => stream::repeat(answer).map(Ok).boxed(),
            answer => stream::iter([answer]).boxed(),
        });
        Ok(tonic::Response::new(answers.boxed()))
    }

    async fn lease_grant(
        &self,
        _: tonic::Request<pb::LeaseGrantRequest>,
    ) -> Result<tonic::Response<pb::LeaseGrantResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn lease_revoke(
        &self,
        _: tonic::Request<pb::LeaseRevokeRequest>,
    ) -> Result<tonic::Response<pb::LeaseRevokeResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn lease_time_to_live(
        &self,
        _: tonic::Request<pb::LeaseTimeToLiveRequest>,
    ) -> Result<tonic::Response<pb::LeaseTimeToLiveResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn lease_leases(
        &self,
        _: tonic::Request<pb::LeaseLeasesRequest>,
    ) -> Result<tonic::Response<pb::LeaseLeasesResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

struct Fixture {
    running: Running,
    seen: Arc<Seen>,
    registry: Registry,
    _executor: Executor,
}

impl Fixture {
    fn start() -> Self {
        Self::with(ServerConfig::default(), |server| server)
    }

    fn with(config: ServerConfig, change: impl FnOnce(Server) -> Server) -> Self {
        let executor = Executor::start("serve", NonZeroUsize::new(2).unwrap()).unwrap();
        let echo = Echo::default();
        let seen = Arc::clone(&echo.0);
        let registry = Registry::new();
        let pages = axum::Router::new().route("/health", axum::routing::get(async || "healthy"));
        let server = Server::new(config)
            .metrics(RpcMetrics::new(&registry).unwrap())
            .add_service_that_sees_remotes(LockServer::new(echo.clone()))
            .add_service(LeaseServer::new(echo))
            .http(pages)
            .json(JsonMapping {
                prefixes: synod_proto::http::PREFIXES,
                paths: synod_proto::http::PATHS,
                max_request_bytes: MAX_REQUEST_BYTES,
            });
        let listener = Listener::bind("127.0.0.1:0").unwrap();
        Self {
            running: change(server).start(listener, &executor).unwrap(),
            seen,
            registry,
            _executor: executor,
        }
    }

    async fn connect(&self) -> TcpStream {
        let address = self.running.bound_to().tcp().unwrap();
        TcpStream::connect(address).await.unwrap()
    }

    /// Sends a request over a connection of its own.
    async fn send(&self, http2: bool, request: Request<Body>) -> Response<Incoming> {
        let stream = TokioIo::new(self.connect().await);
        let sent = async {
            if http2 {
                let shaken = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream);
                let (mut sender, connection) = shaken.await.unwrap();
                drop(task::spawn("client", async move { drop(connection.await) }));
                sender.send_request(request).await.unwrap()
            } else {
                let (mut sender, connection) =
                    hyper::client::conn::http1::handshake(stream).await.unwrap();
                drop(task::spawn("client", async move { drop(connection.await) }));
                sender.send_request(request).await.unwrap()
            }
        };
        clock::timeout(LONG, sent).await.unwrap()
    }

    /// The status and the text that answer a POST.
    async fn post(&self, path: &str, json: &str) -> (u16, String) {
        let response = self.send(false, post(path, json)).await;
        let status = response.status().as_u16();
        (status, text(response).await)
    }

    /// Waits until a call waits.
    async fn entered(&self) {
        let entered = clock::timeout(LONG, self.seen.entered.acquire()).await;
        entered.unwrap().unwrap().forget();
    }

    /// Waits until such a call was dropped.
    async fn dropped(&self) {
        let dropped = clock::timeout(LONG, self.seen.dropped.acquire()).await;
        dropped.unwrap().unwrap().forget();
    }
}

fn body(json: &str) -> Body {
    let data = Frame::data(Bytes::copy_from_slice(json.as_bytes()));
    StreamBody::new(stream::iter([Ok(data)]).boxed())
}

fn post(path: &str, json: &str) -> Request<Body> {
    Request::post(format!("http://localhost{path}"))
        .header("host", "localhost")
        .body(body(json))
        .unwrap()
}

async fn text(response: Response<Incoming>) -> String {
    let whole = clock::timeout(LONG, response.into_body().collect());
    let bytes = whole.await.unwrap().unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The next piece of a body: as much as was sent at once.
async fn piece(body: &mut Incoming) -> Option<String> {
    let frame = clock::timeout(LONG, body.frame()).await.unwrap()?;
    let data = frame.unwrap().into_data().unwrap();
    Some(String::from_utf8(data.to_vec()).unwrap())
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers
        .get(name)
        .map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn a_method_answers_over_either_protocol() {
    let fixture = Fixture::start();
    for http2 in [false, true] {
        let request = post("/v3/lock/lock", r#"{"name":"Zm9v"}"#);
        let response = fixture.send(http2, request).await;
        assert_eq!(response.status(), 200);
        let headers = response.headers().clone();
        assert_eq!(header(&headers, "content-type"), "application/json");
        assert_eq!(header(&headers, "content-length"), "14");
        assert_eq!(
            header(&headers, "grpc-metadata-content-type"),
            "application/grpc"
        );
        assert_eq!(text(response).await, r#"{"key":"Zm9v"}"#);
    }
    let (status, text) = fixture.post("/v3beta/lock/unlock?x=y", "").await;
    assert_eq!((status, text.as_str()), (200, "{}"));
}

#[tokio::test]
async fn paths_and_methods_that_do_not_exist_are_told_in_json() {
    let fixture = Fixture::start();
    let not_found = r#"{"code":5,"message":"Not Found"}"#;
    // The last one is of a service that this server does not have.
    for path in [
        "/v3/",
        "/v3/lock",
        "/v3/lock/lock/",
        "/v3//lock/lock",
        "/v3/kv/put",
    ] {
        let (status, text) = fixture.post(path, "{}").await;
        assert_eq!((status, text.as_str()), (404, not_found), "{path}");
    }
    // Not below the prefix.
    for path in ["/v3", "/v3lock/lock", "/V3/lock/lock", "/lock/lock", "/"] {
        let (status, text) = fixture.post(path, "{}").await;
        assert_eq!((status, text.as_str()), (404, ""), "{path}");
    }
    for method in ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        let mut request = post("/v3/lock/lock", "{}");
        *request.method_mut() = method.parse().unwrap();
        let response = fixture.send(false, request).await;
        assert_eq!(response.status(), 501, "{method}");
        let expected = r#"{"code":12,"message":"Method Not Allowed"}"#;
        assert_eq!(text(response).await, expected, "{method}");
    }
    let health = Request::get("http://localhost/health")
        .body(body(""))
        .unwrap();
    assert_eq!(text(fixture.send(false, health).await).await, "healthy");
}

#[tokio::test]
async fn failures_have_a_status_and_a_reason() {
    let fixture = Fixture::start();
    let request = post("/v3/lock/lock", r#"{"name":"ZmFpbA=="}"#);
    let response = fixture.send(false, request).await;
    assert_eq!(response.status(), 401);
    let reason = "etcdserver: invalid auth token";
    assert_eq!(header(response.headers(), "www-authenticate"), reason);
    let expected = format!(r#"{{"code":16,"message":"{reason}"}}"#);
    assert_eq!(text(response).await, expected);
    let (status, text) = fixture.post("/v3/lock/lock", r#"{"name":"%"}"#).await;
    assert_eq!(status, 400);
    assert!(
        text.starts_with(r#"{"code":3,"message":"invalid value for field"#),
        "{text}"
    );
    // The calls of the service are counted as those with gRPC are; the other never reached it.
    let metrics = fixture.registry.text().unwrap();
    let line = concat!(
        r#"grpc_server_handled_total{grpc_code="Unauthenticated",grpc_method="Lock","#,
        r#"grpc_service="v3lockpb.Lock",grpc_type="unary"} 1"#
    );
    assert!(metrics.lines().any(|found| found == line), "{metrics}");
    let started = r#"grpc_server_started_total{grpc_method="Lock",grpc_service="v3lockpb.Lock",grpc_type="unary"} 1"#;
    assert!(metrics.lines().any(|found| found == started), "{metrics}");
}

#[tokio::test]
async fn requests_that_are_too_large_are_refused() {
    let fixture = Fixture::start();
    let refused = r#"{"code":3,"message":"etcdserver: request is too large"}"#;
    let fits = format!(r#"{{"name":"{}"}}"#, "A".repeat(MAX_REQUEST_BYTES - 12));
    let large = format!(r#"{{"name":"{}"}}"#, "A".repeat(MAX_REQUEST_BYTES));
    assert_eq!(fixture.post("/v3/lock/lock", &fits).await.0, 200);
    // With a length that is known before, and in pieces without one.
    let mut request = post("/v3/lock/lock", &large);
    let length = large.len().into();
    request.headers_mut().insert("content-length", length);
    let response = fixture.send(false, request).await;
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(text(response).await, refused);
    let response = fixture.send(true, post("/v3/lock/lock", &large)).await;
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(text(response).await, refused);
    // One object of a stream.
    let large = format!(r#"{{"ID":1}}{{"x":"{}"#, "A".repeat(MAX_REQUEST_BYTES + 1));
    let (status, text) = fixture.post("/v3/lease/keepalive", &large).await;
    let expected = format!("{{\"result\":{{\"ID\":\"1\"}}}}\n{{\"error\":{refused}}}\n");
    assert_eq!((status, text), (200, expected));
    // Many small ones are not limited.
    let many = r#"{"ID":1}"#.repeat(MAX_REQUEST_BYTES / 4);
    let (status, text) = fixture.post("/v3/lease/keepalive", &many).await;
    assert_eq!((status, text.lines().count()), (200, MAX_REQUEST_BYTES / 4));
}

#[tokio::test]
async fn a_stream_is_a_line_a_message_and_each_is_sent_at_once() {
    let fixture = Fixture::start();
    for http2 in [false, true] {
        let (sender, objects) = mpsc::channel::<&'static str>(1);
        let objects = ReceiverStream::new(objects);
        let frames = objects.map(|text| Ok(Frame::data(Bytes::from_static(text.as_bytes()))));
        let request = Request::post("http://localhost/v3/lease/keepalive")
            .body(StreamBody::new(frames.boxed()))
            .unwrap();
        sender.send(r#"{"ID":1} {"ID""#).await.unwrap();
        let mut body = fixture.send(http2, request).await.into_body();
        assert_eq!(
            piece(&mut body).await.unwrap(),
            "{\"result\":{\"ID\":\"1\"}}\n"
        );
        // The request goes on while the response does.
        sender.send(r#":"2"}"#).await.unwrap();
        assert_eq!(
            piece(&mut body).await.unwrap(),
            "{\"result\":{\"ID\":\"2\"}}\n"
        );
        drop(sender);
        // HTTP/2 may say so with an empty piece.
        assert_eq!(piece(&mut body).await.unwrap_or_default(), "");
    }
}

#[tokio::test]
async fn a_stream_tells_why_it_ended() {
    let fixture = Fixture::start();
    let missing = r#"{"error":{"code":5,"message":"etcdserver: requested lease not found"}}"#;
    let (one, minus_one) = (r#"{"result":{"ID":"1"}}"#, r#"{"ID":-1}"#);
    for (json, status, lines) in [
        (String::new(), 200, vec![]),
        (r#"{"ID":1}"#.to_owned(), 200, vec![one]),
        (
            format!(r#"{{"ID":1}}{minus_one}{{"ID":3}}"#),
            200,
            vec![one, missing],
        ),
        // Nothing was sent yet: the status tells it too.
        (minus_one.to_owned(), 404, vec![missing]),
    ] {
        let (found, text) = fixture.post("/v3/lease/keepalive", &json).await;
        assert_eq!((found, text.lines().collect()), (status, lines), "{json}");
    }
    for (json, status, reason) in [
        (
            r#"{"ID":"x"}"#,
            400,
            r#"{"error":{"code":3,"message":"invalid value for field \"ID\""#,
        ),
        (
            r#"{"ID":1}["#,
            200,
            r#"{"error":{"code":3,"message":"expected a JSON object"#,
        ),
        (
            r#"{"ID":1}{"ID":"#,
            200,
            r#"{"error":{"code":3,"message":"unexpected end"#,
        ),
    ] {
        let (found, text) = fixture.post("/v3/lease/keepalive", json).await;
        assert_eq!(found, status, "{json}");
        let last = text.lines().last().unwrap();
        assert!(last.starts_with(reason), "{json}: {last}");
    }
}

#[tokio::test]
async fn a_client_that_goes_away_ends_its_call() {
    let fixture = Fixture::start();
    for http2 in [false, true] {
        // A unary call, and a stream that has begun.
        tokio::select! {
            _ = fixture.send(http2, post("/v3/lock/lock", r#"{"name":"d2FpdA=="}"#)) => panic!("answered"),
            () = fixture.entered() => {}
        }
        fixture.dropped().await;
        let request = post("/v3/lease/keepalive", r#"{"ID":1}{"ID":-2}"#);
        let mut body = fixture.send(http2, request).await.into_body();
        assert_eq!(
            piece(&mut body).await.unwrap(),
            "{\"result\":{\"ID\":\"1\"}}\n"
        );
        fixture.entered().await;
        drop(body);
        fixture.dropped().await;
    }
}

#[tokio::test]
async fn a_call_has_the_time_that_its_client_gives_it() {
    let fixture = Fixture::start();
    let exceeded = r#"{"code":4,"message":"context deadline exceeded"}"#;
    for (path, json, timeout, status, expected) in [
        (
            "/v3/lock/lock",
            r#"{"name":"d2FpdA=="}"#,
            "50m",
            504,
            exceeded.to_owned(),
        ),
        // Too late already: the call isn't made.
        (
            "/v3/lock/lock",
            r#"{"name":"YQ=="}"#,
            "-1S",
            504,
            exceeded.to_owned(),
        ),
        (
            "/v3/lock/lock",
            r#"{"name":"YQ=="}"#,
            "0S",
            200,
            r#"{"key":"YQ=="}"#.to_owned(),
        ),
        (
            "/v3/lease/keepalive",
            r#"{"ID":1}{"ID":-2}"#,
            "50m",
            200,
            format!("{{\"result\":{{\"ID\":\"1\"}}}}\n{{\"error\":{exceeded}}}\n"),
        ),
        (
            "/v3/lock/lock",
            "{}",
            "soon",
            400,
            r#"{"code":3,"message":"invalid grpc-timeout: soon"}"#.to_owned(),
        ),
    ] {
        let mut request = post(path, json);
        let headers = request.headers_mut();
        headers.insert("grpc-timeout", timeout.parse().unwrap());
        let response = fixture.send(false, request).await;
        assert_eq!(response.status(), status, "{timeout}");
        assert_eq!(text(response).await, expected, "{timeout}");
    }
}

#[tokio::test]
async fn a_stream_that_never_pauses_ends_at_its_deadline() {
    let fixture = Fixture::start();
    let mut request = post("/v3/lease/keepalive", r#"{"ID":-3}"#);
    let headers = request.headers_mut();
    headers.insert("grpc-timeout", "100m".parse().unwrap());
    // Over HTTP/2 the client's library may take so many small frames for an attack.
    let mut body = fixture.send(false, request).await.into_body();
    let mut end = String::new();
    let ended = async {
        while let Some(piece) = piece(&mut body).await {
            end.push_str(&piece);
            // The last line is enough.
            end.drain(..end.len().saturating_sub(100));
        }
    };
    clock::timeout(LONG, ended).await.unwrap();
    let exceeded = r#"{"error":{"code":4,"message":"context deadline exceeded"}}"#;
    assert_eq!(end.lines().last(), Some(exceeded));
}

#[tokio::test]
async fn headers_become_metadata() {
    let fixture = Fixture::start();
    let mut request = post("/v3/lock/lock", r#"{"name":"bWV0YWRhdGE="}"#);
    for (name, value) in [
        ("authorization", "Bearer abc"),
        ("grpc-metadata-hasleader", "true"),
        ("accept", "application/json"),
        ("cookie", "secret"),
        ("token", "of nobody"),
    ] {
        request.headers_mut().append(name, value.parse().unwrap());
    }
    let answer = text(fixture.send(true, request).await).await;
    let key = answer.strip_prefix(r#"{"key":""#).unwrap();
    let key = key.strip_suffix(r#""}"#).unwrap();
    use base64::Engine as _;
    let lines = base64::engine::general_purpose::STANDARD
        .decode(key)
        .unwrap();
    assert_eq!(
        String::from_utf8(lines).unwrap(),
        "authorization: Bearer abc\ngrpcgateway-accept: application/json\nhasleader: true"
    );
}

#[tokio::test]
async fn a_service_can_see_where_its_clients_are() {
    let fixture = Fixture::start();
    let (_, answer) = fixture
        .post("/v3/lock/lock", r#"{"name":"cmVtb3Rl"}"#)
        .await;
    let key = answer
        .strip_prefix(r#"{"key":""#)
        .and_then(|rest| rest.strip_suffix(r#""}"#));
    use base64::Engine as _;
    let remote = base64::engine::general_purpose::STANDARD
        .decode(key.unwrap())
        .unwrap();
    let is_client = |remote: &[u8]| {
        let address: std::net::SocketAddr = str::from_utf8(remote).unwrap().parse().unwrap();
        let server = fixture.running.bound_to().tcp().unwrap();
        address.ip() == server.ip() && address != server
    };
    assert!(is_client(&remote));
    let mut client = LockClient::connect(fixture.running.url()).await.unwrap();
    let request = LockRequest {
        name: "remote".into(),
        lease: 0,
    };
    let answer = client.lock(request).await.unwrap().into_inner();
    assert!(is_client(&answer.key));
}

#[tokio::test]
async fn a_large_response_is_held_until_it_is_sent() {
    const BYTES: usize = 20 << 20;
    let fixture = Fixture::start();
    for http2 in [false, true] {
        let json = format!(r#"{{"name":"aG9sZA==","lease":{BYTES}}}"#);
        let mut body = fixture
            .send(http2, post("/v3/lock/lock", &json))
            .await
            .into_body();
        let first = piece(&mut body).await.unwrap();
        assert!(first.starts_with(r#"{"key":"BwcH"#));
        assert_eq!(fixture.seen.held.load(Ordering::Relaxed), 1);
        let mut bytes = first.len();
        while let Some(piece) = piece(&mut body).await {
            bytes += piece.len();
        }
        assert_eq!(bytes, r#"{"key":""}"#.len() + BYTES.div_ceil(3) * 4);
        let released = async {
            while fixture.seen.held.load(Ordering::Relaxed) > 0 {
                tokio::task::yield_now().await;
            }
        };
        clock::timeout(LONG, released).await.unwrap();
    }
}

#[tokio::test]
async fn a_response_that_nobody_reads_is_ended() {
    let config = ServerConfig {
        response_stall_timeout: Duration::from_millis(200),
        ..ServerConfig::default()
    };
    let fixture = Fixture::with(config, |server| server);
    for (index, http2) in [false, true].into_iter().enumerate() {
        let json = format!(r#"{{"name":"aG9sZA==","lease":{}}}"#, 64 << 20);
        let response = fixture.send(http2, post("/v3/lock/lock", &json)).await;
        assert_eq!(response.status(), 200);
        let ended = async {
            while fixture.seen.held.load(Ordering::Relaxed) > 0 {
                clock::sleep(Duration::from_millis(10)).await;
            }
        };
        clock::timeout(LONG, ended).await.unwrap();
        let line = format!("synod_rpc_responses_stalled_total {}", index + 1);
        let metrics = fixture.registry.text().unwrap();
        assert!(metrics.lines().any(|found| found == line), "{metrics}");
        drop(response);
    }
}

#[tokio::test]
async fn access_is_controlled_for_http_and_not_for_grpc() {
    let these = |word: &str| Allowed::These(vec![word.to_owned()]);
    let access = AccessControl {
        origins: these("http://page.example"),
        hosts: these("localhost"),
    };
    let fixture = Fixture::with(ServerConfig::default(), |server| server.access(access));
    for (host, origin, status, shown) in [
        (
            "localhost:1",
            "http://page.example",
            200,
            "http://page.example",
        ),
        ("localhost", "http://other.example", 200, ""),
        ("other.example", "http://page.example", 421, ""),
    ] {
        for method in ["POST", "OPTIONS"] {
            let mut request = post("/v3/lock/unlock", "{}");
            *request.method_mut() = method.parse().unwrap();
            // As browsers do: with a name here too, this name would be the one that counts.
            *request.uri_mut() = "/v3/lock/unlock".parse().unwrap();
            request.headers_mut().insert("host", host.parse().unwrap());
            request
                .headers_mut()
                .insert("origin", origin.parse().unwrap());
            let response = fixture.send(false, request).await;
            assert_eq!(response.status(), status, "{method} {host}");
            let found = header(response.headers(), "access-control-allow-origin");
            assert_eq!(found, shown, "{method} {host}");
            let body = text(response).await;
            let expected = match (status, method) {
                (200, "POST") => "{}",
                (200, _) => "",
                _ => "Add the hostname you want to use to the whitelist",
            };
            assert!(body.contains(expected), "{method} {host}: {body}");
        }
    }
    let health = Request::get("/health").header("host", "other.example");
    let health = fixture.send(false, health.body(body("")).unwrap()).await;
    assert_eq!(health.status(), 421);
    // A page may send any type.
    for path in ["/v3/lock/unlock", "/health"] {
        let mut request = post(path, "{}");
        *request.uri_mut() = path.parse().unwrap();
        let headers = request.headers_mut();
        headers.insert("host", "other.example".parse().unwrap());
        headers.insert("content-type", "application/grpc".parse().unwrap());
        assert_eq!(fixture.send(false, request).await.status(), 421, "{path}");
    }
    // A page can't make gRPC calls, so their name is not checked.
    let request = Request::post("http://other.example/v3lockpb.Lock/Unlock")
        .header("content-type", "application/grpc")
        .body(body("\0\0\0\0\0"))
        .unwrap();
    let response = fixture.send(true, request).await;
    assert_eq!(response.status(), 200);
    assert_eq!(
        header(response.headers(), "content-type"),
        "application/grpc"
    );
}

/// Otherwise a page could use the certificate that the browser presents for its user.
#[tokio::test]
async fn services_have_their_grpc_paths_only_for_grpc() {
    let fixture = Fixture::with(ServerConfig::default(), |server| server);
    for (is_http2, content_type, status) in [
        (true, "application/grpc", 200),
        (true, "application/grpc+proto", 200),
        (true, "text/plain", 404),
        (true, "", 404),
        (false, "application/grpc", 404),
        (false, "text/plain", 404),
    ] {
        let request = Request::post("http://localhost/v3lockpb.Lock/Unlock")
            .header("content-type", content_type)
            .body(body("\0\0\0\0\0"))
            .unwrap();
        let response = fixture.send(is_http2, request).await;
        assert_eq!(response.status(), status, "{is_http2} {content_type}");
    }
}

#[tokio::test]
async fn a_server_can_have_json_without_grpc() {
    let fixture = Fixture::with(ServerConfig::default(), Server::without_grpc);
    let (status, text) = fixture.post("/v3/lock/unlock", "{}").await;
    assert_eq!((status, text.as_str()), (200, "{}"));
    let request = Request::post("http://localhost/v3lockpb.Lock/Unlock")
        .header("content-type", "application/grpc")
        .body(body("\0\0\0\0\0"))
        .unwrap();
    let response = fixture.send(true, request).await;
    assert_eq!(header(response.headers(), "grpc-status"), "12");
}

#[tokio::test]
async fn strange_requests_get_an_answer() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let fixture = Fixture::start();
    let long = format!("/v3/{}", "a/".repeat(10_000));
    for path in [
        "/v3/%",
        "/v3/%zz",
        "/v3/%00",
        "/v3/lock%2Flock",
        "/v3/../v3/lock/lock",
        "/v3/\\",
        "/v3/lock/lock;x",
        "/v3/?",
        "/v3beta/",
        "*",
        "/v3/\u{e9}",
        &long,
    ] {
        let mut stream = fixture.connect().await;
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{{}}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let read = clock::timeout(LONG, stream.read_to_end(&mut answer));
        read.await.unwrap().unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let status: String = answer.split(' ').nth(1).unwrap_or_default().to_owned();
        assert!(
            ["400", "404", "414"].contains(&status.as_str()),
            "{path:.40}: {answer:.200}"
        );
    }
    // The server is fine.
    let (status, _) = fixture.post("/v3/lock/unlock", "{}").await;
    assert_eq!(status, 200);
}
