//! Whether anybody listens at an address.

use std::io;

use tokio::net::{TcpStream, lookup_host};
use tonic::transport::Uri;

/// What an attempt to connect has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// A connection was opened, and closed again.
    Accepted,
    /// The machine answered that nobody listens there; or a firewall did.
    Refused,
    /// Neither: the address is no URL of ours, unknown or unreachable.
    Unknown,
}

/// Opens a connection to the host and port of a URL, and closes it. Of several addresses of a name,
/// one that accepts is enough, else one that refuses.
///
/// # Cancel safety
/// Dropping the future gives up the attempt.
pub async fn look(url: &str) -> Look {
    let Ok(uri) = url.parse::<Uri>() else {
        return Look::Unknown;
    };
    let (Some(host), Some(port)) = (uri.host(), uri.port_u16()) else {
        return Look::Unknown;
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let Ok(addresses) = lookup_host((host, port)).await else {
        return Look::Unknown;
    };
    let mut found = Look::Unknown;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(_) => return Look::Accepted,
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => found = Look::Refused,
            Err(_) => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Listener;

    #[tokio::test]
    async fn a_port_that_nobody_listens_at_refuses() {
        let listener = Listener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr());
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
        let port = listener.local_addr().port();
        let found = look(&format!("http://localhost:{port}")).await;
        assert_eq!(found, Look::Accepted);
        drop(listener);
        let found = look(&format!("http://[::1]:{port}")).await;
        // A machine without IPv6 can't tell.
        assert_ne!(found, Look::Accepted);
    }
}
