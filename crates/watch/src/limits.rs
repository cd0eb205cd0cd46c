//! All limits of watching.

/// The limits. The defaults are for production; tests use smaller ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchLimits {
    /// Bytes of events that may wait on one stream. An empty queue accepts any response. A watcher
    /// whose events don't fit is served from history later.
    pub queue_bytes: usize,
    /// Responses that may wait on one stream before it stops reading requests.
    pub queue_responses: usize,
    /// Waiting events are merged into one response up to this many bytes.
    pub response_bytes: usize,
    /// Fragmenting watchers get responses of at most about this many bytes: etcd's request limit
    /// plus 512 KiB.
    pub fragment_bytes: usize,
    /// Revisions kept in memory for watchers that are slightly behind.
    pub ring_batches: usize,
    /// Bytes of events kept in memory for them.
    pub ring_bytes: usize,
    /// Bytes of events that one catch-up step reads and delivers. A revision is never split.
    pub piece_bytes: usize,
    /// Revisions that may wait for the hub. Beyond that it reads them from history.
    pub feed_batches: usize,
    /// Requests of all streams that may wait for the hub.
    pub commands: usize,
    /// Progress requests that may wait for the feed. Further ones are dropped, since clients ask
    /// again.
    pub questions: usize,
}

impl Default for WatchLimits {
    fn default() -> Self {
        Self {
            queue_bytes: 2 << 20,
            queue_responses: 4096,
            response_bytes: 1 << 20,
            fragment_bytes: (1536 << 10) + (512 << 10),
            ring_batches: 4096,
            ring_bytes: 8 << 20,
            piece_bytes: 512 << 10,
            feed_batches: 8192,
            commands: 1024,
            questions: 16_384,
        }
    }
}
