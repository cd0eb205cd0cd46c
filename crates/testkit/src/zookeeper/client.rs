//! A client that hides nothing: it sends what a test wants and shows every message that comes, in
//! order.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use bytes::{Bytes, BytesMut};
use synod_jute::{
    ConnectRequest, ConnectResponse, Decode, Encode, ErrorCode, FrameDecoder, OpCode, PASSWORD_LEN,
    Request, Response, ServerMessage, WatcherEvent, encode_event, encode_request, frame, xid,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a message is awaited. Longer than any session timeout of a test.
const PATIENCE: Duration = Duration::from_secs(30);

/// The largest frame that it accepts.
const MAX_FRAME: usize = 64 << 20;

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The xid in its header.
    pub xid: i32,
    /// The operation of its request.
    pub op: OpCode,
    /// The zxid in its header.
    pub zxid: i64,
    /// Its body, or the error in its header.
    pub outcome: Result<Response, ErrorCode>,
    /// The bytes that came with an error, which should have none.
    pub rest: Bytes,
}

/// A message from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// A watch fired.
    Event {
        /// The zxid in its header.
        zxid: i64,
        /// What happened.
        event: WatcherEvent,
    },
    /// A reply.
    Reply(Reply),
    /// The server closed the connection.
    Closed,
}

/// What a client's bytes go over: TCP, or TLS on it.
pub trait Transport: AsyncRead + AsyncWrite + std::fmt::Debug + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + std::fmt::Debug + Send + Unpin> Transport for T {}

/// A connection to a ZooKeeper server.
#[derive(Debug)]
pub struct ZkClient {
    stream: Box<dyn Transport>,
    decoder: FrameDecoder,
    session: ConnectResponse,
    /// The requests without a reply, oldest first.
    pending: VecDeque<(i32, OpCode)>,
    last_xid: i32,
}

impl ZkClient {
    /// Connects and waits for the answer to `request`; `None` if the server closed the connection
    /// instead. A session that the server refuses has the id 0 in that answer.
    ///
    /// # Errors
    /// The server can't be reached, or its answer can't be read.
    pub async fn connect(address: &str, request: &ConnectRequest) -> Result<Option<Self>> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Self::connect_over(Box::new(stream), request).await
    }

    /// The same over a connection that is there.
    ///
    /// # Errors
    /// The server's answer can't be read.
    pub async fn connect_over(
        stream: Box<dyn Transport>,
        request: &ConnectRequest,
    ) -> Result<Option<Self>> {
        let mut client = Self {
            stream,
            decoder: FrameDecoder::new(MAX_FRAME),
            session: ConnectResponse::default(),
            pending: VecDeque::new(),
            last_xid: 0,
        };
        let mut out = BytesMut::new();
        frame(&mut out, |out| request.encode(out))?;
        client.send_bytes(&out).await?;
        let Some(mut answer) = client.receive_frame().await? else {
            return Ok(None);
        };
        let bytes = answer.clone();
        client.session = ConnectResponse::decode(&mut answer)
            .with_context(|| format!("connect response: {bytes:02x?}"))?;
        let mut again = BytesMut::new();
        client.session.encode(&mut again);
        ensure!(again == bytes, "{:?} is not {bytes:02x?}", client.session);
        Ok(Some(client))
    }

    /// A new session with default settings.
    ///
    /// # Errors
    /// The server can't be reached or refused the session.
    pub async fn open(address: &str) -> Result<Self> {
        let client = Self::connect(address, &Self::new_session()).await?;
        let client = client.context("the server closed the connection")?;
        ensure!(client.session.session_id != 0, "the session was refused");
        Ok(client)
    }

    /// The request for a new session with default settings.
    #[must_use]
    pub fn new_session() -> ConnectRequest {
        ConnectRequest {
            timeout_ms: 30_000,
            password: Some(Bytes::from_static(&[0; PASSWORD_LEN])),
            read_only: Some(false),
            ..ConnectRequest::default()
        }
    }

    /// The server's answer to the connect request.
    #[must_use]
    pub fn session(&self) -> &ConnectResponse {
        &self.session
    }

    /// Sends a request with the xid that clients use for it, and returns the xid.
    ///
    /// # Errors
    /// The connection is broken.
    pub async fn send(&mut self, request: &Request) -> Result<i32> {
        let fixed = fixed_xid(request.op());
        let xid = fixed.unwrap_or_else(|| {
            self.last_xid += 1;
            self.last_xid
        });
        self.send_as(xid, request).await?;
        Ok(xid)
    }

    /// Sends a request with the given xid.
    ///
    /// # Errors
    /// The connection is broken.
    pub async fn send_as(&mut self, xid: i32, request: &Request) -> Result<()> {
        let mut out = BytesMut::new();
        encode_request(&mut out, xid, request)?;
        self.pending.push_back((xid, request.op()));
        self.send_bytes(&out).await
    }

    /// Sends a frame that is no request, or a damaged one. Its reply is decoded as one of `op`.
    ///
    /// # Errors
    /// The connection is broken.
    pub async fn send_frame(&mut self, xid: i32, op: OpCode, content: &[u8]) -> Result<()> {
        let mut out = BytesMut::new();
        frame(&mut out, |out| out.extend_from_slice(content))?;
        self.pending.push_back((xid, op));
        self.send_bytes(&out).await
    }

    /// Sends bytes that are not even a frame.
    ///
    /// # Errors
    /// The connection is broken.
    pub async fn send_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).await?;
        // TLS keeps what it has encrypted.
        Ok(self.stream.flush().await?)
    }

    /// Whether replies are missing.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.pending.is_empty()
    }

    /// The next message.
    ///
    /// # Errors
    /// None came in time, it can't be read, it answers no request, or our encoder would write it
    /// differently.
    pub async fn receive(&mut self) -> Result<Received> {
        let Some(bytes) = self.receive_frame().await? else {
            return Ok(Received::Closed);
        };
        match ServerMessage::decode(bytes.clone())? {
            ServerMessage::Event { zxid, event } => {
                let mut again = BytesMut::new();
                encode_event(&mut again, zxid, &event)?;
                ensure!(again[4..] == bytes, "{event:?} is not {bytes:02x?}");
                Ok(Received::Event { zxid, event })
            }
            ServerMessage::Reply { header, mut body } => {
                let (xid, op) = self.pending.pop_front().context("a reply to nothing")?;
                ensure!(xid == header.xid, "a reply to {}, not {xid}", header.xid);
                let outcome = if header.err == 0 {
                    let bytes = body.clone();
                    let response = Response::decode(op, &mut body)
                        .with_context(|| format!("reply to {op:?}: {bytes:02x?}"))?;
                    let mut again = BytesMut::new();
                    response.encode(&mut again);
                    ensure!(again == bytes, "{response:?} is not {bytes:02x?}");
                    body.clear();
                    Ok(response)
                } else {
                    Err(ErrorCode::try_from(header.err)?)
                };
                Ok(Received::Reply(Reply {
                    xid,
                    op,
                    zxid: header.zxid,
                    outcome,
                    rest: body,
                }))
            }
        }
    }

    /// Sends a request and waits for its reply. Returns the events that came before it, too.
    ///
    /// # Errors
    /// The connection is broken, or other replies are missing.
    pub async fn call(&mut self, request: &Request) -> Result<(Vec<WatcherEvent>, Reply)> {
        ensure!(!self.is_waiting(), "replies are missing");
        self.send(request).await?;
        let mut events = Vec::new();
        loop {
            match self.receive().await? {
                Received::Event { event, .. } => events.push(event),
                Received::Reply(reply) => return Ok((events, reply)),
                Received::Closed => bail!("the connection was closed"),
            }
        }
    }

    /// Sends a request that has to succeed, and waits for its reply.
    ///
    /// # Errors
    /// It did not succeed.
    pub async fn ok(&mut self, request: &Request) -> Result<Response> {
        let (_, reply) = self.call(request).await?;
        let answer = reply.outcome;
        answer.map_err(|code| anyhow!("{request:?} was answered with {code:?}"))
    }

    /// The next frame; `None` at the connection's end.
    async fn receive_frame(&mut self) -> Result<Option<Bytes>> {
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                return Ok(Some(frame));
            }
            let read = self.stream.read_buf(self.decoder.buffer());
            let read = timeout(PATIENCE, read)
                .await
                .map_err(|_| anyhow!("no message within {PATIENCE:?}"))?;
            match read {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                // A server that closes with unread bytes in its socket resets the connection.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                    return Ok(None);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// The xid that clients always use for an operation.
fn fixed_xid(op: OpCode) -> Option<i32> {
    match op {
        OpCode::Ping => Some(xid::PING),
        OpCode::Auth => Some(xid::AUTH),
        OpCode::SetWatches | OpCode::SetWatches2 => Some(xid::SET_WATCHES),
        OpCode::Create
        | OpCode::Delete
        | OpCode::Exists
        | OpCode::GetData
        | OpCode::SetData
        | OpCode::GetAcl
        | OpCode::SetAcl
        | OpCode::GetChildren
        | OpCode::Sync
        | OpCode::GetChildren2
        | OpCode::Check
        | OpCode::Multi
        | OpCode::Create2
        | OpCode::Reconfig
        | OpCode::CheckWatches
        | OpCode::RemoveWatches
        | OpCode::CreateContainer
        | OpCode::DeleteContainer
        | OpCode::CreateTtl
        | OpCode::MultiRead
        | OpCode::Sasl
        | OpCode::GetEphemerals
        | OpCode::GetAllChildrenNumber
        | OpCode::AddWatch
        | OpCode::WhoAmI
        | OpCode::CreateSession
        | OpCode::CloseSession => None,
    }
}
