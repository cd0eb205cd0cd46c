//! A connection with an open session.

use anyhow::{Context as _, ensure};
use bytes::{Bytes, BytesMut};
use synod_jute::{
    ConnectRequest, ConnectResponse, Decode as _, Encode as _, FrameDecoder, PASSWORD_LEN, Request,
    ServerMessage, encode_request, frame,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The largest frame that a client accepts.
const MAX_FRAME: usize = 64 << 20;

/// Sends requests and receives messages. It repeats nothing.
pub(crate) struct Connection {
    stream: TcpStream,
    frames: FrameDecoder,
    out: BytesMut,
}

impl Connection {
    /// Connects and opens a session with this timeout.
    ///
    /// # Errors
    /// The server can't be reached, or refuses a session.
    pub(crate) async fn open(address: &str, timeout_ms: i32) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)
            .await
            .with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        let mut connection = Self {
            stream,
            frames: FrameDecoder::new(MAX_FRAME),
            out: BytesMut::new(),
        };
        let request = ConnectRequest {
            timeout_ms,
            password: Some(Bytes::from_static(&[0; PASSWORD_LEN])),
            read_only: Some(false),
            ..ConnectRequest::default()
        };
        frame(&mut connection.out, |out| request.encode(out))?;
        connection.flush().await?;
        let mut answer = connection.frame().await?;
        let response = ConnectResponse::decode(&mut answer)?;
        ensure!(response.session_id != 0, "{address} refused a session");
        Ok(connection)
    }

    /// Adds a request to those that the next flush sends.
    ///
    /// # Errors
    /// The request is too large.
    pub(crate) fn push(&mut self, xid: i32, request: &Request) -> anyhow::Result<()> {
        Ok(encode_request(&mut self.out, xid, request)?)
    }

    /// Sends what was added.
    ///
    /// # Errors
    /// The connection is broken. Some of the requests may have been sent.
    pub(crate) async fn flush(&mut self) -> anyhow::Result<()> {
        Ok(self.stream.write_all_buf(&mut self.out).await?)
    }

    /// The next frame.
    ///
    /// # Errors
    /// The connection is broken, or the server closed it.
    ///
    /// # Cancel safety
    /// No byte is lost.
    pub(crate) async fn frame(&mut self) -> anyhow::Result<Bytes> {
        loop {
            if let Some(frame) = self.arrived()? {
                return Ok(frame);
            }
            let read = self.stream.read_buf(self.frames.buffer()).await?;
            ensure!(read > 0, "the server closed the connection");
        }
    }

    /// The next frame, if it has arrived.
    ///
    /// # Errors
    /// It is too large.
    pub(crate) fn arrived(&mut self) -> anyhow::Result<Option<Bytes>> {
        Ok(self.frames.next_frame()?)
    }

    /// The next message.
    ///
    /// # Errors
    /// As [`Connection::frame`], or the message is damaged.
    pub(crate) async fn receive(&mut self) -> anyhow::Result<ServerMessage> {
        Ok(ServerMessage::decode(self.frame().await?)?)
    }
}
