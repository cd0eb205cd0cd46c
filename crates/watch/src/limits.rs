//! The bounds of watching, all in one place.

/// Every bound; the defaults are meant for production, tests shrink them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchLimits {
    /// Event bytes that may wait on one stream; an empty queue accepts any response. A watcher
    /// whose events don't fit is fed from history later.
    pub queue_bytes: usize,
    /// Responses that may wait on one stream before its requests are read no further.
    pub queue_responses: usize,
    /// Waiting events are joined into one response up to this many bytes.
    pub response_bytes: usize,
    /// Fragmenting watchers get responses of at most about this many bytes: etcd's request limit
    /// and 512 KiB.
    pub fragment_bytes: usize,
    /// Revisions that are kept in memory for those who fell behind a little.
    pub ring_batches: usize,
    /// Bytes of events that are kept for them.
    pub ring_bytes: usize,
    /// Event bytes that one step of catching up reads and delivers; a revision is never split.
    pub piece_bytes: usize,
    /// Revisions that may wait for the hub before it has to read them back from history.
    pub feed_batches: usize,
    /// Requests of all streams that may wait for the hub.
    pub commands: usize,
    /// Progress requests that may wait for the feed; further ones are dropped, since clients ask
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
