//! One connection: a task that reads requests and sends what the hub answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use synod_coordination_core::ConnectionId;
use synod_jute::{ConnectRequest, Decode as _, ErrorCode, FrameDecoder, FrameError, RequestHeader};
use synod_runtime::clock;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::{HANDSHAKE_TIMEOUT, Operators, words};
use crate::convert::{Refusal, unreadable};
use crate::hub::{Closed, Outgoing, Peer, Unsent};

/// A client that takes nothing for this long is disconnected.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);

/// How much is read at once.
const READ_BYTES: usize = 16 << 10;

/// Serves a client until one side ends the connection.
pub(super) async fn serve<R, W>(
    (read, write): (R, W),
    peer: Peer,
    operators: &Operators,
    unsent: Unsent,
) where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let out = Arc::new(Outgoing::new(unsent));
    let address = peer.address;
    let id = operators.hub.open(Arc::clone(&out), peer);
    let reading = Reading {
        id,
        operators,
        stream: read,
        frames: FrameDecoder::new(operators.limits.max_request_bytes),
        address,
    };
    tokio::select! {
        biased; // what was answered is sent before the end is noticed
        () = send(write, &out, operators) => {}
        () = reading.run(&out) => {}
    }
    operators.hub.lost(id);
}

/// Sends what waits, until the connection is closed or lost.
async fn send(mut stream: impl AsyncWrite + Unpin, out: &Outgoing, operators: &Operators) {
    while let Some(mut bytes) = out.next().await {
        operators.traffic.bytes_sent.inc_by(bytes.len() as u64);
        while bytes.has_remaining() {
            let sent = clock::timeout(SEND_TIMEOUT, stream.write_buf(&mut bytes)).await;
            if !matches!(sent, Ok(Ok(1..))) {
                return;
            }
        }
        // TLS keeps what it has encrypted.
        if !matches!(
            clock::timeout(SEND_TIMEOUT, stream.flush()).await,
            Ok(Ok(()))
        ) {
            return;
        }
    }
    // The connection ends in any case.
    let _lost = clock::timeout(SEND_TIMEOUT, stream.shutdown()).await;
}

struct Reading<'a, R> {
    id: ConnectionId,
    operators: &'a Operators,
    stream: R,
    frames: FrameDecoder,
    address: SocketAddr,
}

impl<R: AsyncRead + Unpin> Reading<'_, R> {
    /// Reads requests until the client is gone. If the hub ends the connection, it waits until the
    /// last answer is sent.
    async fn run(mut self, out: &Outgoing) {
        match self.requests(out).await {
            Ok(()) => {}
            Err(Closed) => {
                out.close();
                std::future::pending::<()>().await;
            }
        }
    }

    async fn requests(&mut self, out: &Outgoing) -> Result<(), Closed> {
        let Ok(Some(first)) = clock::timeout(HANDSHAKE_TIMEOUT, self.first(out)).await else {
            return Ok(());
        };
        self.connect(first)?;
        while let Some((header, request)) = self.next().await? {
            out.room().await;
            if self.operators.hub.room_for(self.id).await {
                self.operators.traffic.throttled.inc();
            }
            self.operators.hub.request(self.id, header, request)?;
        }
        Ok(())
    }

    fn connect(&self, mut frame: Bytes) -> Result<(), Closed> {
        let Ok(request) = ConnectRequest::decode(&mut frame) else {
            tracing::debug!(address = %self.address, "closed a connection: no connect request came first");
            return Err(Closed);
        };
        let limits = &self.operators.limits;
        let asked = u32::try_from(request.timeout_ms).unwrap_or(0);
        let timeout_ms = asked.clamp(limits.min_session_timeout_ms, limits.max_session_timeout_ms);
        self.operators.hub.connect(self.id, &request, timeout_ms)
    }

    /// The first frame. A four-letter word is answered instead.
    async fn first(&mut self, out: &Outgoing) -> Option<Bytes> {
        loop {
            if let Some(word) = self.frames.leading_word() {
                out.text(&words::answer(word, self.operators));
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
    ) -> Result<Option<(RequestHeader, Result<synod_jute::Request, Refusal>)>, Closed> {
        loop {
            match self.frames.next_frame() {
                Ok(Some(frame)) => {
                    let decoded = synod_jute::decode_request(frame);
                    let (header, request) = decoded.map_err(|_headless| Closed)?;
                    let request = request.map_err(|error| unreadable(header.op, error));
                    return Ok(Some((header, request)));
                }
                Ok(None) => {}
                Err(FrameError::TooLarge {
                    length,
                    limit,
                    header,
                }) => {
                    self.operators.traffic.too_large.inc();
                    tracing::warn!(address = %self.address, length, limit, "refused a request that is too large");
                    let refusal = Refusal::Local(ErrorCode::BadArguments);
                    return Ok(Some((header, Err(refusal))));
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
        match self.stream.read_buf(buffer).await {
            Ok(read) if read > 0 => {
                self.operators.traffic.bytes_received.inc_by(read as u64);
                true
            }
            Ok(_) | Err(_) => false,
        }
    }
}
