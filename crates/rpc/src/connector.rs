//! How a channel reaches its server: TCP or a socket in the file system, with TLS or without.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use tokio::net::UnixStream;
use tokio_util::either::Either;
use tower::Service;

use crate::{
    stream::{Socket, Stream},
    tls::ClientTls,
    url::{Place, ServerUrl},
};

/// Whom a certificate of a socket in the file system is for.
const SOCKETS_HOST: &str = "localhost";

/// Connects to one server, again whenever the connection is lost.
#[derive(Debug, Clone)]
pub(crate) struct Connector {
    url: ServerUrl,
    tls: Option<ClientTls>,
    tcp: HttpConnector,
}

impl Connector {
    pub(crate) fn new(url: ServerUrl, tls: Option<ClientTls>, keepalive: Duration) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(keepalive));
        Self { url, tls, tcp }
    }

    async fn socket(&mut self) -> io::Result<Socket> {
        match self.url.place() {
            Place::Unix(path) => UnixStream::connect(path).await.map(Either::Right),
            Place::Tcp { .. } => {
                let uri = self.url.as_str().parse::<Uri>().map_err(io::Error::other)?;
                // Tries each address of the name.
                let connected = self.tcp.call(uri).await.map_err(io::Error::other)?;
                Ok(Either::Left(connected.into_inner()))
            }
        }
    }

    async fn connect(mut self) -> io::Result<TokioIo<Stream>> {
        let socket = self.socket().await?;
        let stream = match &self.tls {
            None => Either::Left(socket),
            Some(tls) => {
                let host = self.url.host().unwrap_or(SOCKETS_HOST);
                Either::Right(Box::new(tls.connect(socket, host).await?))
            }
        };
        Ok(TokioIo::new(stream))
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect())
    }
}
