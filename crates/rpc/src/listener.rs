//! A bound port, and clear words when there is none.

use std::{
    fmt, fs, io,
    net::{SocketAddr, TcpListener, ToSocketAddrs as _},
    os::unix::{
        fs::FileTypeExt as _,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use thiserror::Error;

use crate::{
    tls::ServerTls,
    url::{Place, ServerUrl},
};

/// Why an address can't be listened on.
#[derive(Debug, Error)]
pub enum BindError {
    /// The text is no address.
    #[error(
        "{address:?} is not an address to listen on ({reason}): use HOST:PORT, for example 127.0.0.1:2379 or [::]:2379"
    )]
    BadAddress {
        /// The address as given.
        address: String,
        /// The parser's or resolver's answer.
        reason: String,
    },
    /// Another process has the port.
    #[error(
        "{address} is already in use: stop the process that listens there (ss -ltnp shows it) or choose another port"
    )]
    InUse {
        /// The address as given.
        address: String,
    },
    /// The process may not have this port.
    #[error(
        "no permission to listen on {address}: choose a port of 1024 or above, or grant CAP_NET_BIND_SERVICE"
    )]
    Permission {
        /// The address as given.
        address: String,
    },
    /// The address belongs to another machine.
    #[error(
        "{address} is not an address of this machine: listen on one that it has (ip addr lists them), or on 0.0.0.0"
    )]
    NotLocal {
        /// The address as given.
        address: String,
    },
    /// Something that is not a socket stands in the place of one.
    #[error(
        "cannot listen on {path}: a file that is not a socket has this name; move it away or choose another path"
    )]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// TLS is asked for, and nothing is set up for it.
    #[error(
        "{address} needs a certificate, and none is configured: give one, or listen without TLS"
    )]
    NoTls {
        /// The address as given.
        address: String,
    },
    /// Anything else the operating system says.
    #[error("cannot listen on {address}: {source}")]
    Io {
        /// The address as given.
        address: String,
        /// The operating system's answer.
        source: io::Error,
    },
}

/// Where a listener was bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BoundTo {
    /// TCP, with the port that was really bound.
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix(PathBuf),
}

impl BoundTo {
    /// The URL that a process of this machine connects to.
    #[must_use]
    pub fn url(&self, is_tls: bool) -> String {
        let end = if is_tls { "s" } else { "" };
        match self {
            Self::Tcp(address) => format!("http{end}://{address}"),
            Self::Unix(path) => format!("unix{end}://{}", path.display()),
        }
    }

    /// The TCP address, if it is one.
    #[must_use]
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

impl fmt::Display for BoundTo {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(formatter),
            Self::Unix(path) => path.display().fmt(formatter),
        }
    }
}

/// A bound socket that accepts nothing yet: bind everything first, then start.
#[derive(Debug)]
pub struct Listener {
    pub(crate) socket: BoundSocket,
    pub(crate) bound_to: BoundTo,
    pub(crate) tls: Option<ServerTls>,
}

#[derive(Debug)]
pub(crate) enum BoundSocket {
    Tcp(TcpListener),
    /// The file goes first: once nobody listens, it may already be another process's.
    Unix(SocketFile, UnixListener),
}

/// Removes a socket's file when nobody listens there any more.
#[derive(Debug)]
pub(crate) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Without the file nothing is lost, and with it the next start removes it.
        let _ = fs::remove_file(&self.0);
    }
}

impl Listener {
    /// Binds `HOST:PORT`, without TLS. Port 0 takes a free one. Of a host name's addresses the
    /// first is bound.
    ///
    /// # Errors
    /// [`BindError`], which names the address and what to do.
    pub fn bind(address: &str) -> Result<Self, BindError> {
        let bad = |reason: String| BindError::BadAddress {
            address: address.to_owned(),
            reason,
        };
        let resolved = address
            .to_socket_addrs()
            .map_err(|error| bad(error.to_string()))?
            .next()
            .ok_or_else(|| bad("the name has no address".to_owned()))?;
        Self::bind_tcp(address, resolved)
    }

    /// Binds a URL. `localhost` is 127.0.0.1, whatever a resolver would say. A URL with TLS needs
    /// [`Listener::with_tls`] before it is started.
    ///
    /// # Errors
    /// [`BindError`], which names the address and what to do.
    pub fn bind_url(url: &ServerUrl) -> Result<Self, BindError> {
        match url.place() {
            Place::Tcp { host, port } if host == "localhost" => {
                Self::bind(&format!("127.0.0.1:{port}"))
            }
            Place::Tcp { host, port } if host.contains(':') => {
                Self::bind(&format!("[{host}]:{port}"))
            }
            Place::Tcp { host, port } => Self::bind(&format!("{host}:{port}")),
            Place::Unix(path) => Self::bind_path(path),
        }
    }

    /// The socket, for servers of other protocols; `None` for a Unix socket.
    #[must_use]
    pub fn into_tcp(self) -> Option<TcpListener> {
        match self.socket {
            BoundSocket::Tcp(listener) => Some(listener),
            BoundSocket::Unix(..) => None,
        }
    }

    /// Serves TLS.
    #[must_use]
    pub fn with_tls(mut self, tls: ServerTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Where it was really bound.
    #[must_use]
    pub fn bound_to(&self) -> &BoundTo {
        &self.bound_to
    }

    /// The URL that a process of this machine connects to.
    #[must_use]
    pub fn url(&self) -> String {
        self.bound_to.url(self.tls.is_some())
    }

    fn bind_tcp(name: &str, address: SocketAddr) -> Result<Self, BindError> {
        let os_error = |source| bind_error(name, source);
        // The standard library sets SO_REUSEADDR, so a restart need not wait for TIME_WAIT.
        let listener = TcpListener::bind(address).map_err(os_error)?;
        listener.set_nonblocking(true).map_err(os_error)?;
        let address = listener.local_addr().map_err(os_error)?;
        Ok(Self {
            socket: BoundSocket::Tcp(listener),
            bound_to: BoundTo::Tcp(address),
            tls: None,
        })
    }

    fn bind_path(path: &Path) -> Result<Self, BindError> {
        let name = path.display().to_string();
        let os_error = |source| bind_error(&name, source);
        remove_stale(path)?;
        let listener = UnixListener::bind(path).map_err(os_error)?;
        let file = SocketFile(path.to_owned());
        listener.set_nonblocking(true).map_err(os_error)?;
        Ok(Self {
            socket: BoundSocket::Unix(file, listener),
            bound_to: BoundTo::Unix(path.to_owned()),
            tls: None,
        })
    }
}

/// Removes the socket that a process left when it was killed. A socket that somebody listens on
/// stays, as does any other file.
fn remove_stale(path: &Path) -> Result<(), BindError> {
    let name = path.display().to_string();
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(bind_error(&name, error)),
    };
    if !metadata.file_type().is_socket() {
        return Err(BindError::NotASocket {
            path: path.to_owned(),
        });
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|error| bind_error(&name, error))
        }
        Ok(_) | Err(_) => Err(BindError::InUse { address: name }),
    }
}

fn bind_error(address: &str, source: io::Error) -> BindError {
    let address = address.to_owned();
    let kind = source.kind();
    if kind == io::ErrorKind::AddrInUse {
        BindError::InUse { address }
    } else if kind == io::ErrorKind::PermissionDenied {
        BindError::Permission { address }
    } else if kind == io::ErrorKind::AddrNotAvailable {
        BindError::NotLocal { address }
    } else {
        BindError::Io { address, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_port_is_named_with_a_way_out() {
        let first = Listener::bind("127.0.0.1:0").unwrap();
        let address = first.bound_to().to_string();
        let error = Listener::bind(&address).unwrap_err();
        assert!(matches!(error, BindError::InUse { .. }), "{error:?}");
        let text = error.to_string();
        assert!(
            text.contains(&address) && text.contains("another port"),
            "{text}"
        );
        drop(first);
        Listener::bind(&address).unwrap();
    }

    #[test]
    fn a_malformed_address_and_a_foreign_one_are_told_apart() {
        for bad in ["2379", "127.0.0.1:99999", "http://127.0.0.1:2379", ""] {
            let error = Listener::bind(bad).unwrap_err();
            assert!(
                matches!(error, BindError::BadAddress { .. }),
                "{bad}: {error:?}"
            );
        }
        // TEST-NET-1 is never a local address (RFC 5737).
        let error = Listener::bind("192.0.2.1:2379").unwrap_err();
        assert!(matches!(error, BindError::NotLocal { .. }), "{error:?}");
    }

    #[test]
    fn a_socket_file_is_taken_over_only_from_the_dead() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let url = ServerUrl::parse(&format!("unix://{}", path.display())).unwrap();
        let first = Listener::bind_url(&url).unwrap();
        assert_eq!(first.url(), url.as_str());
        let error = Listener::bind_url(&url).unwrap_err();
        assert!(matches!(error, BindError::InUse { .. }), "{error:?}");
        drop(first);
        assert!(!path.exists(), "it goes with its listener");

        // A process that is killed leaves the file.
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        drop(Listener::bind_url(&url).unwrap());

        fs::write(&path, "data").unwrap();
        let error = Listener::bind_url(&url).unwrap_err();
        assert!(matches!(error, BindError::NotASocket { .. }), "{error:?}");
        assert_eq!(fs::read(&path).unwrap(), b"data");
    }

    #[test]
    fn localhost_is_ipv4_and_ipv6_addresses_work() {
        let bind = |text: &str| Listener::bind_url(&ServerUrl::parse(text).unwrap()).unwrap();
        let address = bind("http://localhost:0").bound_to().tcp().unwrap();
        assert!(address.ip().is_loopback() && address.is_ipv4());
        let wide = bind("https://[::]:0");
        assert!(wide.bound_to().tcp().unwrap().is_ipv6());
    }

    #[test]
    fn a_missing_permission_is_named() {
        let refused = io::Error::from(io::ErrorKind::PermissionDenied);
        let text = bind_error("0.0.0.0:80", refused).to_string();
        assert!(
            text.contains("0.0.0.0:80") && text.contains("1024"),
            "{text}"
        );
    }
}
