//! Channels to gRPC servers.

use std::time::Duration;

use thiserror::Error;
use tonic::transport::{Channel, Endpoint};

/// Timeouts and windows of a channel. The defaults suit calls between the members of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelConfig {
    /// How long a connection may take to be established. Default 2 s.
    pub connect_timeout: Duration,
    /// How long the peer may be silent before it is pinged, also while nothing is called. Default
    /// 10 s.
    pub keepalive_interval: Duration,
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
    #[error("{url:?} is not an endpoint URL ({reason}): use http://HOST:PORT")]
    BadUrl {
        /// The URL as given.
        url: String,
        /// The parser's answer.
        reason: String,
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
            connect_timeout: Duration::from_secs(2),
            keepalive_interval: Duration::from_secs(10),
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
    /// [`ChannelError::BadUrl`].
    ///
    /// # Panics
    /// Outside a tokio runtime, which drives the channel.
    pub fn lazy(&self, url: &str) -> Result<Channel, ChannelError> {
        Ok(self.endpoint(url)?.connect_lazy())
    }

    /// A channel that is connected, and connects again when it is lost.
    ///
    /// # Errors
    /// [`ChannelError`].
    pub async fn connect(&self, url: &str) -> Result<Channel, ChannelError> {
        let endpoint = self.endpoint(url)?;
        endpoint
            .connect()
            .await
            .map_err(|error| ChannelError::Connect {
                url: url.to_owned(),
                reason: chain(&error),
            })
    }

    fn endpoint(&self, url: &str) -> Result<Endpoint, ChannelError> {
        let bad = |reason: String| ChannelError::BadUrl {
            url: url.to_owned(),
            reason,
        };
        let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|error| bad(chain(&error)))?;
        match endpoint.uri().scheme_str() {
            Some("http") => {}
            Some(scheme) => return Err(bad(format!("scheme {scheme} is not supported"))),
            None => return Err(bad("the scheme is missing".to_owned())),
        }
        Ok(endpoint
            .connect_timeout(self.connect_timeout)
            .tcp_nodelay(true)
            .tcp_keepalive(Some(self.keepalive_interval))
            .http2_keep_alive_interval(self.keepalive_interval)
            .keep_alive_timeout(self.keepalive_timeout)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(self.stream_window_bytes)
            .initial_connection_window_size(self.connection_window_bytes)
            .buffer_size(self.max_queued_calls))
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
        config.lazy("http://127.0.0.1:1").unwrap();
    }

    #[tokio::test]
    async fn an_unreachable_server_is_named_with_the_cause() {
        let free = crate::Listener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", free.local_addr());
        drop(free);
        let error = ChannelConfig::default().connect(&url).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains(&url) && text.contains("refused"), "{text}");
    }
}
