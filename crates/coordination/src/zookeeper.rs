//! The port of ZooKeeper's protocol.

mod words;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use synod_coordination_core::ConnectionId;
use synod_jute::{ConnectRequest, Decode as _, ErrorCode, FrameDecoder, FrameError};
use synod_rpc::{BindError, Listener};
use synod_runtime::clock;
use synod_runtime::executor::Executor;
use synod_runtime::shutdown::Shutdown;
use synod_service::Front;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::convert::{Refusal, unreadable};
use crate::hub::{Closed, Hub, Outgoing};

/// A client must send its connect request within this time.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// A client that takes nothing for this long is disconnected.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);

/// The pause after the system refused a connection.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// How much is read at once.
const READ_BYTES: usize = 16 << 10;

/// The bounds of a session's timeout, and of its requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The shortest session timeout.
    pub(crate) min_session_timeout_ms: u32,
    /// The longest session timeout.
    pub(crate) max_session_timeout_ms: u32,
    /// The largest request in bytes (ZooKeeper: `jute.maxbuffer`).
    pub(crate) max_request_bytes: usize,
    /// Connections at once. Further ones are closed.
    pub(crate) max_connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            min_session_timeout_ms: 4_000,
            max_session_timeout_ms: 40_000,
            max_request_bytes: synod_jute::DEFAULT_MAX_FRAME,
            max_connections: 20_000,
        }
    }
}

/// The sockets of the port.
pub(crate) struct Port {
    listeners: Vec<Listener>,
}

impl Port {
    /// Binds the addresses, `HOST:PORT` each.
    ///
    /// # Errors
    /// The first address that can't be bound.
    pub(crate) fn bind(addresses: &[String]) -> Result<Self, BindError> {
        let listeners = addresses.iter().map(|address| Listener::bind(address));
        Ok(Self {
            listeners: listeners.collect::<Result<_, _>>()?,
        })
    }

    /// The addresses, with the ports that were bound.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let addresses = self.listeners.iter();
        let addresses = addresses.filter_map(|listener| listener.bound_to().tcp());
        addresses.map(|address| address.to_string()).collect()
    }
}

/// Accepts connections until `stop` is triggered, on the threads of `front`.
pub(crate) fn serve(port: Port, front: &Front, hub: &Arc<Hub>, limits: Limits, stop: &Shutdown) {
    let places = Arc::new(Semaphore::new(limits.max_connections));
    for listener in port.listeners.into_iter().filter_map(Listener::into_tcp) {
        let accepting = Accepting {
            places: Arc::clone(&places),
            executor: front.executor().clone(),
            hub: Arc::clone(hub),
            limits,
        };
        let (stop, end) = (stop.clone(), front.ending().clone());
        front.spawn("zookeeper", async move {
            tokio::select! {
                biased; // no connection after the stop
                () = stop.triggered() => {}
                () = accepting.run(listener, end) => {}
            }
        });
    }
}

struct Accepting {
    places: Arc<Semaphore>,
    executor: Executor,
    hub: Arc<Hub>,
    limits: Limits,
}

impl Accepting {
    async fn run(self, listener: std::net::TcpListener, end: Shutdown) {
        let listener = match TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, "cannot accept ZooKeeper's clients");
                return;
            }
        };
        loop {
            match listener.accept().await.and_then(|(stream, address)| {
                // Another thread's reactor is to watch it.
                Ok((stream.into_std()?, address))
            }) {
                Ok((stream, address)) => self.hand_over(stream, address, end.clone()),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections: check the limit on open files");
                    clock::sleep(ACCEPT_BACKOFF).await;
                }
            }
        }
    }

    fn hand_over(&self, stream: std::net::TcpStream, address: SocketAddr, end: Shutdown) {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            let limit = self.limits.max_connections;
            tracing::warn!(%address, limit, "refused a connection: there are too many");
            return;
        };
        let (hub, limits) = (Arc::clone(&self.hub), self.limits);
        drop(self.executor.spawn("zookeeper-connection", async move {
            tokio::select! {
                biased; // the stop ends all connections
                () = end.triggered() => {}
                () = connection(stream, address, hub, limits) => {}
            }
            drop(place);
        }));
    }
}

async fn connection(
    stream: std::net::TcpStream,
    address: SocketAddr,
    hub: Arc<Hub>,
    limits: Limits,
) {
    let stream = match TcpStream::from_std(stream).and_then(|stream| {
        stream.set_nodelay(true)?;
        Ok(stream)
    }) {
        Ok(stream) => stream,
        Err(error) => {
            tracing::debug!(%address, %error, "the connection ended at once");
            return;
        }
    };
    let (read, write) = stream.into_split();
    let out = Arc::new(Outgoing::default());
    let id = hub.open(Arc::clone(&out), address.ip());
    let reading = Reading {
        id,
        hub: Arc::clone(&hub),
        stream: read,
        frames: FrameDecoder::new(limits.max_request_bytes),
        limits,
        address,
    };
    tokio::select! {
        biased; // what was answered is sent before the end is noticed
        () = send(write, &out) => {}
        () = reading.run(&out) => {}
    }
    hub.lost(id);
}

/// Sends what waits, until the connection is closed or lost.
async fn send(mut stream: OwnedWriteHalf, out: &Outgoing) {
    while let Some(mut bytes) = out.next().await {
        let sent = clock::timeout(SEND_TIMEOUT, stream.write_all_buf(&mut bytes)).await;
        if !matches!(sent, Ok(Ok(()))) {
            return;
        }
    }
    // The connection ends in any case.
    let _lost = stream.shutdown().await;
}

struct Reading {
    id: ConnectionId,
    hub: Arc<Hub>,
    stream: OwnedReadHalf,
    frames: FrameDecoder,
    limits: Limits,
    address: SocketAddr,
}

impl Reading {
    /// Reads requests until the client is gone. If the hub ends the connection, it waits until the
    /// last answer is sent.
    async fn run(mut self, out: &Outgoing) {
        match self.requests(out).await {
            Ok(()) => {}
            Err(Closed) => {
                out.close();
                std::future::pending().await
            }
        }
    }

    async fn requests(&mut self, out: &Outgoing) -> Result<(), Closed> {
        let Ok(Some(first)) = clock::timeout(HANDSHAKE_TIMEOUT, self.first(out)).await else {
            return Ok(());
        };
        self.connect(first)?;
        while let Some((xid, request)) = self.next().await? {
            self.hub.room_for(self.id).await;
            self.hub.request(self.id, xid, request)?;
        }
        Ok(())
    }

    fn connect(&self, mut frame: Bytes) -> Result<(), Closed> {
        let Ok(request) = ConnectRequest::decode(&mut frame) else {
            tracing::debug!(address = %self.address, "closed a connection: no connect request came first");
            return Err(Closed);
        };
        let asked = u32::try_from(request.timeout_ms).unwrap_or(0);
        let timeout_ms = asked.clamp(
            self.limits.min_session_timeout_ms,
            self.limits.max_session_timeout_ms,
        );
        self.hub.connect(self.id, &request, timeout_ms)
    }

    /// The first frame. A four-letter word is answered instead.
    async fn first(&mut self, out: &Outgoing) -> Option<Bytes> {
        loop {
            if let Some(word) = self.frames.leading_word() {
                out.text(&words::answer(word, &self.hub));
                out.close();
                return std::future::pending().await;
            }
            match self.frames.next_frame() {
                Ok(Some(frame)) => return Some(frame),
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(address = %self.address, %error, "closed a connection: no connect request came first");
                    return None;
                }
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    /// The next request; `None` at the end of the connection.
    async fn next(
        &mut self,
    ) -> Result<Option<(i32, Result<synod_jute::Request, Refusal>)>, Closed> {
        loop {
            match self.frames.next_frame() {
                Ok(Some(frame)) => {
                    let decoded = synod_jute::decode_request(frame);
                    let (header, request) = decoded.map_err(|_headless| Closed)?;
                    let request = request.map_err(|error| unreadable(header.op, error));
                    return Ok(Some((header.xid, request)));
                }
                Ok(None) => {}
                Err(FrameError::TooLarge {
                    length,
                    limit,
                    header,
                }) => {
                    tracing::warn!(address = %self.address, length, limit, "refused a request that is too large");
                    let refusal = Refusal::Local(ErrorCode::BadArguments);
                    return Ok(Some((header.xid, Err(refusal))));
                }
                Err(error) => {
                    tracing::debug!(address = %self.address, %error, "closed a connection");
                    return Err(Closed);
                }
            }
            if !self.fill().await {
                return Ok(None);
            }
        }
    }

    /// Reads more bytes. Returns whether there were any.
    async fn fill(&mut self) -> bool {
        let buffer = self.frames.buffer();
        buffer.reserve(READ_BYTES);
        matches!(self.stream.read_buf(buffer).await, Ok(read) if read > 0)
    }
}
