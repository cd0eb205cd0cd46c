//! Channels to gRPC servers.

use std::time::Duration;

use http::{Uri, uri::InvalidUri};
use thiserror::Error;
use tonic::transport::{Channel, Endpoint};

use crate::{
    connector::Connector,
    tls::ClientTls,
    url::{ServerUrl, UrlError},
};

/// Timeouts and windows of a channel. The defaults suit calls between the members of a cluster.
#[derive(Debug, Clone)]
pub struct ChannelConfig {
    /// For URLs with TLS; without it they are refused. Default none.
    pub tls: Option<ClientTls>,
    /// How long a connection may take to be established. Default 2 s.
    pub connect_timeout: Duration,
    /// How long the peer may be silent before it is pinged. Default 10 s.
    pub keepalive_interval: Duration,
    /// Whether it is pinged also while nothing is called. Default true.
    pub keepalive_while_idle: bool,
    /// How long the peer may take to answer a ping before the connection is given up. Default 5 s.
    pub keepalive_timeout: Duration,
    /// Bytes of one response that the server may send ahead of the reader. Default 1 MiB.
    pub stream_window_bytes: u32,
    /// Bytes that the server may send ahead on the connection. Default 8 MiB.
    pub connection_window_bytes: u32,
    /// Calls that may wait for the connection before callers are held back. Default 1024.
    pub max_queued_calls: usize,
}

/// Why there is no channel.
#[derive(Debug, Error)]
pub enum ChannelError {
    /// The text is no URL.
    #[error(transparent)]
    BadUrl(#[from] UrlError),
    /// A URL with TLS, and nothing is set up for it.
    #[error(
        "{url} needs TLS, which is not configured here: name the authority's certificate, or use http://"
    )]
    NoTls {
        /// The URL as given.
        url: String,
    },
    /// The peer can't be reached.
    #[error(
        "cannot connect to {url}: {reason}; check that the server runs and that the address is right"
    )]
    Connect {
        /// The URL as given.
        url: String,
        /// The chain of causes.
        reason: String,
    },
}

impl Default for ChannelConfig {
    fn default() -> Self {
        Self {
            tls: None,
            connect_timeout: Duration::from_secs(2),
            keepalive_interval: Duration::from_secs(10),
            keepalive_while_idle: true,
            keepalive_timeout: Duration::from_secs(5),
            stream_window_bytes: 1 << 20,
            connection_window_bytes: 8 << 20,
            max_queued_calls: 1024,
        }
    }
}

impl ChannelConfig {
    /// A channel that connects with its first call, and again after it lost its connection.
    ///
    /// # Errors
    /// [`ChannelError::BadUrl`] and [`ChannelError::NoTls`].
    ///
    /// # Panics
    /// Outside a tokio runtime, which drives the channel.
    pub fn lazy(&self, url: &str) -> Result<Channel, ChannelError> {
        let (endpoint, connector) = self.endpoint(url)?;
        Ok(endpoint.connect_with_connector_lazy(connector))
    }

    /// A channel that is connected, and connects again when it is lost.
    ///
    /// # Errors
    /// [`ChannelError`].
    pub async fn connect(&self, url: &str) -> Result<Channel, ChannelError> {
        let (endpoint, connector) = self.endpoint(url)?;
        endpoint
            .connect_with_connector(connector)
            .await
            .map_err(|error| ChannelError::Connect {
                url: url.to_owned(),
                reason: chain(&error),
            })
    }

    fn endpoint(&self, text: &str) -> Result<(Endpoint, Connector), ChannelError> {
        let url = ServerUrl::parse(text)?;
        let tls = match (url.is_tls(), &self.tls) {
            (false, _) => None,
            (true, Some(tls)) => Some(tls.clone()),
            (true, None) => {
                return Err(ChannelError::NoTls {
                    url: text.to_owned(),
                });
            }
        };
        let bad = |error: &InvalidUri| UrlError {
            text: text.to_owned(),
            reason: format!("can't be dialled ({error})"),
        };
        // The connector knows where to go, and tonic would refuse a URI whose TLS it doesn't know.
        // The origin is for the headers of requests, in which a socket's path has no place.
        let origin = match url.socket_path() {
            Some(_) if url.is_tls() => "https://localhost".to_owned(),
            Some(_) => "http://localhost".to_owned(),
            None => url.as_str().to_owned(),
        };
        let origin: Uri = origin.parse().map_err(|error: InvalidUri| bad(&error))?;
        let endpoint = Endpoint::from_static("http://localhost")
            .origin(origin)
            .connect_timeout(self.connect_timeout)
            .http2_keep_alive_interval(self.keepalive_interval)
            .keep_alive_timeout(self.keepalive_timeout)
            .keep_alive_while_idle(self.keepalive_while_idle)
            .initial_stream_window_size(self.stream_window_bytes)
            .initial_connection_window_size(self.connection_window_bytes)
            .buffer_size(self.max_queued_calls);
        Ok((endpoint, Connector::new(url, tls, self.keepalive_interval)))
    }
}

/// An error with its causes: tonic's own text is only "transport error".
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bad_urls_are_refused_with_the_shape_of_good_ones() {
        let config = ChannelConfig::default();
        for bad in ["127.0.0.1:2379", "ftp://127.0.0.1:1", "http://[", ""] {
            let error = config.lazy(bad).unwrap_err().to_string();
            assert!(error.contains("http://HOST:PORT"), "{bad}: {error}");
        }
        let error = config.lazy("https://127.0.0.1:1").unwrap_err();
        assert!(matches!(error, ChannelError::NoTls { .. }), "{error:?}");
        config.lazy("http://127.0.0.1:1").unwrap();
    }

    #[tokio::test]
    async fn an_unreachable_server_is_named_with_the_cause() {
        let free = crate::Listener::bind("127.0.0.1:0").unwrap();
        let url = free.url();
        drop(free);
        let error = ChannelConfig::default().connect(&url).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains(&url) && text.contains("refused"), "{text}");
    }
}
