//! A server's limits and timeouts.

use std::time::Duration;

/// The default of [`ServerConfig::response_stall_timeout`].
const RESPONSE_STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Limits and timeouts of a [`Server`](crate::Server). The defaults suit a service that many
/// clients call on long-lived connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// Open connections a listener; more are closed at once. 1 or more; default 16,384.
    pub max_connections: usize,
    /// Calls in flight on one HTTP/2 connection; the client holds further ones back. 1 or more;
    /// default 16,384.
    pub max_concurrent_streams: u32,
    /// Bytes of one call that a client may send ahead of the reader. 64 KiB to 2 GiB; default 1
    /// MiB.
    pub stream_window_bytes: u32,
    /// Bytes that a client may send ahead on one connection. 64 KiB to 2 GiB; default 8 MiB.
    pub connection_window_bytes: u32,
    /// The largest HTTP/2 frame that is accepted. 16 KiB to 16 MiB; default 64 KiB.
    pub max_frame_bytes: u32,
    /// The largest header block that is accepted. Default 64 KiB.
    pub max_header_bytes: u32,
    /// Response bytes of one call that wait for a slow client before the service is held back.
    /// Default 1 MiB.
    pub max_send_buffer_bytes: usize,
    /// How long an HTTP/2 connection may be silent before it is pinged. Default 10 s.
    pub keepalive_interval: Duration,
    /// How long a client may take to answer a ping before its connection is closed. Default 20 s.
    pub keepalive_timeout: Duration,
    /// How long a new connection may take to show its protocol, and an HTTP/1 request to send its
    /// headers. Default 10 s.
    pub handshake_timeout: Duration,
    /// How long a client may take nothing of a response that [holds](crate::Hold) something before
    /// its stream is reset. Default 60 s.
    pub response_stall_timeout: Duration,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            max_connections: 16_384,
            max_concurrent_streams: 16_384,
            stream_window_bytes: 1 << 20,
            connection_window_bytes: 8 << 20,
            max_frame_bytes: 64 << 10,
            max_header_bytes: 64 << 10,
            max_send_buffer_bytes: 1 << 20,
            keepalive_interval: Duration::from_secs(10),
            keepalive_timeout: Duration::from_secs(20),
            handshake_timeout: Duration::from_secs(10),
            response_stall_timeout: RESPONSE_STALL_TIMEOUT,
        }
    }
}
