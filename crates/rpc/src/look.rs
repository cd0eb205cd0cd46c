//! Whether anybody listens at an address.

use std::io;

use tokio::net::{TcpStream, UnixStream, lookup_host};

use crate::url::{Place, ServerUrl};

/// What an attempt to connect has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// A connection was opened, and closed again.
    Accepted,
    /// The machine answered that nobody listens there; or a firewall did.
    Refused,
    /// Neither: the URL is invalid, or its host is unknown or unreachable.
    Unknown,
}

/// Opens a connection to a server, and closes it. If its host has several addresses, one that
/// accepts is enough, else one that refuses.
///
/// # Cancel safety
/// Dropping the future gives up the attempt.
pub async fn look(url: &str) -> Look {
    let Ok(url) = ServerUrl::parse(url) else {
        return Look::Unknown;
    };
    let (host, port) = match url.place() {
        Place::Tcp { host, port } => (host.as_str(), *port),
        Place::Unix(path) => return seen(&UnixStream::connect(path).await),
    };
    let Ok(addresses) = lookup_host((host, port)).await else {
        return Look::Unknown;
    };
    let mut found = Look::Unknown;
    for address in addresses {
        match seen(&TcpStream::connect(address).await) {
            Look::Accepted => return Look::Accepted,
            Look::Refused => found = Look::Refused,
            Look::Unknown => {}
        }
    }
    found
}

fn seen<T>(connected: &io::Result<T>) -> Look {
    match connected.as_ref().map_err(io::Error::kind) {
        Ok(_) => Look::Accepted,
        // The second: a socket's file, which goes with the process that listens there.
        Err(io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => Look::Refused,
        Err(_) => Look::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Listener;

    #[tokio::test]
    async fn a_port_that_nobody_listens_at_refuses() {
        let listener = Listener::bind("127.0.0.1:0").unwrap();
        let url = listener.url();
        assert_eq!(look(&url).await, Look::Accepted);
        drop(listener);
        assert_eq!(look(&url).await, Look::Refused);
    }

    #[tokio::test]
    async fn a_socket_that_nobody_listens_on_refuses() {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("unix://{}/socket", dir.path().display());
        assert_eq!(look(&url).await, Look::Refused);
        let listener = Listener::bind_url(&ServerUrl::parse(&url).unwrap()).unwrap();
        assert_eq!(look(&url).await, Look::Accepted);
        drop(listener);
        assert_eq!(look(&url).await, Look::Refused);
    }

    #[tokio::test]
    async fn what_names_no_address_shows_nothing() {
        for url in ["", "http://", "http://127.0.0.1", "http://host.invalid:1"] {
            assert_eq!(look(url).await, Look::Unknown, "{url}");
        }
    }

    #[tokio::test]
    async fn names_and_ipv6_are_looked_at() {
        let listener = Listener::bind("127.0.0.1:0").unwrap();
        let port = listener.bound_to().tcp().unwrap().port();
        let found = look(&format!("http://localhost:{port}")).await;
        assert_eq!(found, Look::Accepted);
        drop(listener);
        let found = look(&format!("http://[::1]:{port}")).await;
        // A machine without IPv6 can't tell.
        assert_ne!(found, Look::Accepted);
    }
}
