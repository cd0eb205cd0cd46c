//! A listener at work: accepting, spreading connections over threads, draining.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use synod_runtime::{clock, executor::Executor, shutdown::Shutdown, task::JoinHandle};
use tokio::{
    net::{TcpListener, UnixListener},
    sync::watch,
};
use tokio_util::either::Either;

use super::connection::Connections;
use crate::{
    listener::{BoundSocket, BoundTo, SocketFile},
    metrics::RpcMetrics,
    stream::{Moved, Remote, Socket},
};

/// How long to wait before accepting again when the process is out of file descriptors or memory.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// How a drain went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Every call in flight was answered.
    Clean,
    /// The grace period was over; so many connections were closed with calls in flight.
    Cut {
        /// How many connections were closed.
        connections: usize,
    },
}

/// A started listener. Dropping it closes the port and cuts its connections off.
#[derive(Debug)]
pub struct Running {
    bound_to: BoundTo,
    is_tls: bool,
    accepting: Option<JoinHandle<()>>,
    acceptor: Arc<Acceptor>,
}

impl Running {
    pub(super) fn start(
        bound_to: BoundTo,
        listener: Accepting,
        executor: &Executor,
        acceptor: Acceptor,
    ) -> Self {
        let is_tls = acceptor.connections.is_tls();
        let acceptor = Arc::new(acceptor);
        let accepting = Arc::clone(&acceptor).accept(listener, executor.clone());
        Self {
            bound_to,
            is_tls,
            accepting: Some(executor.spawn_on(0, "rpc-accept", accepting)),
            acceptor,
        }
    }

    /// Where it was really bound.
    #[must_use]
    pub fn bound_to(&self) -> &BoundTo {
        &self.bound_to
    }

    /// The URL that a process of this machine connects to, with the port that was really bound.
    #[must_use]
    pub fn url(&self) -> String {
        self.bound_to.url(self.is_tls)
    }

    /// How many connections are open.
    #[must_use]
    pub fn connections(&self) -> usize {
        *self.acceptor.open.borrow()
    }

    /// Closes the port, tells clients to call elsewhere, and waits up to `grace` for the calls in
    /// flight. Streams without end (watches) have to be ended by their services; those that are
    /// left after the grace period are cut off.
    ///
    /// # Cancel safety
    /// Dropping the future cuts all connections off.
    pub async fn drain(mut self, grace: Duration) -> Drained {
        let deadline = clock::now() + grace;
        self.acceptor.drain.trigger();
        if let Some(accepting) = self.accepting.take() {
            // An error means that the runtime has dropped the task, and with it the port.
            let _ = accepting.await;
        }
        let mut open = self.acceptor.open.subscribe();
        let closed = open.wait_for(|open| *open == 0);
        // Never an error while we hold the sender.
        let drained = clock::timeout_at(deadline, closed).await.is_ok();
        let left = self.connections();
        self.acceptor.cut.trigger();
        if drained {
            return Drained::Clean;
        }
        // They end with the next poll, unless their runtime is gone already.
        let _ = clock::timeout(ACCEPT_BACKOFF, open.wait_for(|open| *open == 0)).await;
        Drained::Cut { connections: left }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.acceptor.drain.trigger();
        self.acceptor.cut.trigger();
    }
}

/// A listener of the runtime.
pub(super) enum Accepting {
    Tcp(TcpListener),
    /// The file goes first, as in [`BoundSocket`].
    Unix(SocketFile, UnixListener),
}

impl Accepting {
    /// Must be called within a runtime, whose reactor watches the socket.
    pub(super) fn new(socket: BoundSocket) -> io::Result<Self> {
        Ok(match socket {
            BoundSocket::Tcp(listener) => Self::Tcp(TcpListener::from_std(listener)?),
            BoundSocket::Unix(file, listener) => {
                Self::Unix(file, UnixListener::from_std(listener)?)
            }
        })
    }

    async fn accept(&self) -> io::Result<(Socket, Remote)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok((Either::Left(stream), Remote::Tcp(peer)))
            }
            Self::Unix(_file, listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((Either::Right(stream), Remote::Unix))
            }
        }
    }
}

/// What the accept loop and the connections share.
#[derive(Debug)]
pub(super) struct Acceptor {
    connections: Connections,
    max_connections: usize,
    /// Open connections, for drain.
    open: watch::Sender<usize>,
    /// Open connections by runtime thread: a new one goes where the fewest are.
    per_thread: Box<[AtomicUsize]>,
    metrics: Option<RpcMetrics>,
    drain: Shutdown,
    cut: Shutdown,
}

impl Acceptor {
    pub(super) fn new(
        connections: Connections,
        max_connections: usize,
        threads: usize,
        metrics: Option<RpcMetrics>,
    ) -> Self {
        Self {
            connections,
            max_connections,
            open: watch::Sender::new(0),
            per_thread: (0..threads).map(|_| AtomicUsize::new(0)).collect(),
            metrics,
            drain: Shutdown::new(),
            cut: Shutdown::new(),
        }
    }

    async fn accept(self: Arc<Self>, listener: Accepting, executor: Executor) {
        loop {
            let accepted = tokio::select! {
                biased; // a server that drains takes nothing new
                () = self.drain.triggered() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((socket, peer)) => self.hand_over(socket, peer, &executor),
                // The peer was gone before we came to it.
                Err(error) if is_peers(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections: check the limit on open files");
                    clock::sleep(ACCEPT_BACKOFF).await;
                }
            }
        }
    }

    /// Moves the socket to the thread with the fewest connections.
    fn hand_over(self: &Arc<Self>, socket: Socket, peer: Remote, executor: &Executor) {
        if *self.open.borrow() >= self.max_connections {
            tracing::debug!(%peer, limit = self.max_connections, "connection refused: too many");
            if let Some(metrics) = &self.metrics {
                metrics.connections_refused.inc();
            }
            return;
        }
        let start = executor.next_worker();
        let threads = self.per_thread.len();
        let thread = (0..threads)
            .map(|offset| (start + offset) % threads)
            .min_by_key(|thread| self.per_thread[*thread].load(Ordering::Relaxed))
            .unwrap_or_default();
        let open = Open::new(self, thread);
        let moved = match Moved::from_runtime(socket) {
            Ok(moved) => moved,
            Err(error) => {
                tracing::debug!(%peer, %error, "connection failed");
                return;
            }
        };
        let shared = Arc::clone(self);
        let serving = async move {
            let _open = open;
            match moved.into_runtime() {
                Ok(socket) => {
                    let Self {
                        connections,
                        drain,
                        cut,
                        ..
                    } = &*shared;
                    connections.serve(socket, peer, drain, cut).await;
                }
                Err(error) => tracing::debug!(%peer, %error, "connection failed"),
            }
        };
        drop(executor.spawn_on(thread, "rpc-connection", serving));
    }
}

/// Counts a connection while it exists.
struct Open {
    shared: Arc<Acceptor>,
    thread: usize,
}

impl Open {
    fn new(shared: &Arc<Acceptor>, thread: usize) -> Self {
        shared.open.send_modify(|open| *open += 1);
        shared.per_thread[thread].fetch_add(1, Ordering::Relaxed);
        if let Some(metrics) = &shared.metrics {
            metrics.connections.inc();
        }
        let shared = Arc::clone(shared);
        Self { shared, thread }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let shared = &self.shared;
        if let Some(metrics) = &shared.metrics {
            metrics.connections.dec();
        }
        shared.per_thread[self.thread].fetch_sub(1, Ordering::Relaxed);
        shared.open.send_modify(|open| *open -= 1);
    }
}

/// Whether an accept error concerns one peer, not this process.
fn is_peers(error: &io::Error) -> bool {
    use io::ErrorKind;
    [
        ErrorKind::ConnectionAborted,
        ErrorKind::ConnectionReset,
        ErrorKind::ConnectionRefused,
        ErrorKind::Interrupted,
    ]
    .contains(&error.kind())
}
