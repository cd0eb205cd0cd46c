//! Connections of every kind, as one type.

use std::{fmt, io, net::SocketAddr, os::unix::net::UnixStream as StdUnixStream, time::Duration};

use rustix::net::sockopt;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsStream;
use tokio_util::either::Either;

/// TCP, or a socket in the file system.
pub(crate) type Socket = Either<TcpStream, UnixStream>;
/// A socket, or TLS on it.
pub(crate) type Stream = Either<Socket, Box<TlsStream<Socket>>>;

/// After this time without a packet from a client, the kernel probes the connection.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// The connection is closed after this many probes without an answer.
const KEEPALIVE_PROBES: u32 = 3;

/// A socket between two runtimes.
pub(crate) enum Moved {
    Tcp(std::net::TcpStream),
    Unix(StdUnixStream),
}

impl Moved {
    /// Takes a socket from its runtime.
    pub(crate) fn from_runtime(socket: Socket) -> io::Result<Self> {
        match socket {
            Either::Left(stream) => {
                stream.set_nodelay(true)?;
                // HTTP/1 has no pings: without probes, a vanished client of a stream goes
                // unnoticed.
                sockopt::set_socket_keepalive(&stream, true)?;
                sockopt::set_tcp_keepidle(&stream, KEEPALIVE_IDLE)?;
                sockopt::set_tcp_keepintvl(&stream, KEEPALIVE_INTERVAL)?;
                sockopt::set_tcp_keepcnt(&stream, KEEPALIVE_PROBES)?;
                stream.into_std().map(Self::Tcp)
            }
            Either::Right(stream) => stream.into_std().map(Self::Unix),
        }
    }

    /// Gives the socket to the runtime that it is called in.
    pub(crate) fn into_runtime(self) -> io::Result<Socket> {
        match self {
            Self::Tcp(stream) => TcpStream::from_std(stream).map(Either::Left),
            Self::Unix(stream) => UnixStream::from_std(stream).map(Either::Right),
        }
    }
}

/// Who connected, for log lines.
#[derive(Debug, Clone, Copy)]
pub enum Remote {
    /// A socket with this address.
    Tcp(SocketAddr),
    /// A process of this machine; such sockets have no names on the client's side.
    Unix,
}

impl fmt::Display for Remote {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(formatter),
            Self::Unix => formatter.write_str("a process of this machine"),
        }
    }
}
