//! A bound port, and clear words when there is none.

use std::{
    io,
    net::{SocketAddr, TcpListener, ToSocketAddrs as _},
};

use thiserror::Error;

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
    /// Anything else the operating system says.
    #[error("cannot listen on {address}: {source}")]
    Io {
        /// The address as given.
        address: String,
        /// The operating system's answer.
        source: io::Error,
    },
}

/// A port that is bound, though nothing is accepted yet: bind everything first, then start.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Binds `HOST:PORT`; port 0 takes a free one. A host name stands for its first address.
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
        let os_error = |source| bind_error(address, source);
        // The standard library sets SO_REUSEADDR, so a restart need not wait for TIME_WAIT.
        let listener = TcpListener::bind(resolved).map_err(os_error)?;
        listener.set_nonblocking(true).map_err(os_error)?;
        let address = listener.local_addr().map_err(os_error)?;
        Ok(Self { listener, address })
    }

    /// The address with the port that was really bound.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn into_std(self) -> TcpListener {
        self.listener
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
        let address = first.local_addr().to_string();
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
    fn a_missing_permission_is_named() {
        let refused = io::Error::from(io::ErrorKind::PermissionDenied);
        let text = bind_error("0.0.0.0:80", refused).to_string();
        assert!(
            text.contains("0.0.0.0:80") && text.contains("1024"),
            "{text}"
        );
    }
}
