//! One connection from its first byte to its end.

use std::{
    future::Future,
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::rt::{Executor, Read, ReadBufCursor, Write};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use synod_runtime::{clock, shutdown::Shutdown, task};
use tokio_util::either::Either;

use super::{authority::Lenient, flow::Watch, router::Router};
use crate::{
    config::ServerConfig,
    metrics::RpcMetrics,
    stream::{Remote, Socket, Stream},
    tls::{ClientCertificate, ServerTls},
};

/// As many bytes as tell HTTP/2 from HTTP/1: the length of HTTP/2's preface.
const PREFACE_BYTES: usize = 24;

/// What all connections of a listener share.
#[derive(Debug, Clone)]
pub(super) struct Connections {
    builder: auto::Builder<Spawner>,
    watch: Watch,
    router: Router,
    tls: Option<ServerTls>,
    handshake_timeout: Duration,
}

/// Runs HTTP/2 calls as tasks of the connection's own runtime.
#[derive(Debug, Clone)]
struct Spawner(Watch);

impl<F> Executor<F> for Spawner
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        let call = self.0.clone().run(future);
        drop(task::spawn("rpc-call", async move {
            let _ended_by_us = call.await;
        }));
    }
}

impl Connections {
    pub(super) fn new(
        config: &ServerConfig,
        router: Router,
        tls: Option<ServerTls>,
        metrics: Option<&RpcMetrics>,
    ) -> Self {
        let watch = Watch {
            timeout: config.response_stall_timeout,
            ended: metrics.map(|metrics| metrics.responses_stalled.clone()),
        };
        let mut builder = auto::Builder::new(Spawner(watch.clone()));
        builder
            .http2()
            .timer(TokioTimer::new())
            .initial_stream_window_size(config.stream_window_bytes)
            .initial_connection_window_size(config.connection_window_bytes)
            .max_concurrent_streams(config.max_concurrent_streams)
            .max_frame_size(config.max_frame_bytes)
            .max_header_list_size(config.max_header_bytes)
            .max_send_buf_size(config.max_send_buffer_bytes)
            .keep_alive_interval(config.keepalive_interval)
            .keep_alive_timeout(config.keepalive_timeout)
            // gRPC has no use for a date in every response.
            .auto_date_header(false);
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(config.handshake_timeout)
            // Bytes are not copied on their way out, so that a response that holds something knows
            // which of them have left.
            .writev(true);
        Self {
            builder,
            watch,
            router,
            tls,
            handshake_timeout: config.handshake_timeout,
        }
    }

    pub(super) fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Serves until the peer closes or fails, or `drain` is triggered and the calls in flight are
    /// answered. `cut` ends it at once.
    pub(super) async fn serve(
        &self,
        socket: Socket,
        peer: Remote,
        drain: &Shutdown,
        cut: &Shutdown,
    ) {
        let shaken = tokio::select! {
            biased; // a server that drains takes no new calls
            () = drain.triggered() => return,
            () = cut.triggered() => return,
            shaken = self.shake_hands(socket) => shaken,
        };
        let (stream, client) = match shaken {
            Ok(shaken) => shaken,
            Err(error) => {
                tracing::debug!(%peer, %error, "TLS handshake failed");
                return;
            }
        };
        let router = self.router.for_connection(peer, client);
        // HTTP/2 runs calls as tasks of their own, HTTP/1 within this one.
        let speaking = self.speak(stream, router, peer, drain, cut);
        let _ended_by_us = self.watch.clone().run(speaking).await;
    }

    /// Serves the requests on a stream.
    async fn speak(
        &self,
        stream: Stream,
        router: Router,
        peer: Remote,
        drain: &Shutdown,
        cut: &Shutdown,
    ) {
        let spoken = Arc::new(AtomicBool::new(false));
        let io = Watched {
            io: TokioIo::new(stream),
            read_bytes: 0,
            spoken: Arc::clone(&spoken),
        };
        let io = Lenient::new(io);
        let mut connection = pin!(self.builder.serve_connection(io, router));
        let mut draining = pin!(drain.triggered());
        let mut cutting = pin!(cut.triggered());
        let mut silent = pin!(clock::sleep(self.handshake_timeout));
        let (mut watch_drain, mut watch_silence) = (true, true);
        loop {
            tokio::select! {
                biased; // the connection is nearly always what is ready
                result = connection.as_mut() => {
                    if let Err(error) = result {
                        tracing::debug!(%peer, %error, "connection failed");
                    }
                    return;
                }
                () = cutting.as_mut() => return,
                () = draining.as_mut(), if watch_drain => {
                    watch_drain = false;
                    connection.as_mut().graceful_shutdown();
                }
                () = silent.as_mut(), if watch_silence => {
                    watch_silence = false;
                    if !spoken.load(Ordering::Relaxed) {
                        tracing::debug!(%peer, "connection closed: it sent no request in time");
                        return;
                    }
                }
            }
        }
    }
}

/// What TLS gave.
type Shaken = (Stream, Option<ClientCertificate>);

impl Connections {
    /// Without TLS there is nothing to do.
    async fn shake_hands(&self, socket: Socket) -> io::Result<Shaken> {
        let Some(tls) = &self.tls else {
            return Ok((Either::Left(socket), None));
        };
        let accepted = clock::timeout(self.handshake_timeout, tls.accept(socket)).await;
        let (stream, client) = accepted.map_err(|_| io::ErrorKind::TimedOut)??;
        Ok((Either::Right(Box::new(stream)), client))
    }
}

/// A socket that notes whether its peer has said enough to be understood. HTTP/2's pings and
/// HTTP/1's header timeout begin only after that.
struct Watched {
    io: TokioIo<Stream>,
    read_bytes: usize,
    spoken: Arc<AtomicBool>,
}

impl Read for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read_bytes >= PREFACE_BYTES {
            return Pin::new(&mut self.io).poll_read(context, buffer);
        }
        let before = buffer.remaining();
        // A borrowed cursor: the number of bytes must be known afterwards.
        let mut chunk = [0; PREFACE_BYTES];
        let length = chunk.len().min(before);
        let mut piece = hyper::rt::ReadBuf::new(&mut chunk[..length]);
        ready!(Pin::new(&mut self.io).poll_read(context, piece.unfilled()))?;
        buffer.put_slice(piece.filled());
        let is_http1 = self.read_bytes == 0 && !piece.filled().starts_with(b"P");
        self.read_bytes += piece.filled().len();
        if is_http1 || self.read_bytes >= PREFACE_BYTES {
            self.spoken.store(true, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl Write for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, buffers)
    }
}
