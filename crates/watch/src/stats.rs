//! The hub's statistics for metrics.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Gauges; they lag by at most one step of the hub.
#[derive(Debug, Default)]
pub struct WatchStats {
    streams: AtomicUsize,
    watchers: AtomicUsize,
    synced: AtomicUsize,
}

impl WatchStats {
    pub fn set(&self, streams: usize, watchers: usize, synced: usize) {
        self.streams.store(streams, Ordering::Relaxed);
        self.watchers.store(watchers, Ordering::Relaxed);
        self.synced.store(synced, Ordering::Relaxed);
    }

    /// The number of open streams.
    pub fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    /// The number of watchers.
    pub fn watchers(&self) -> usize {
        self.watchers.load(Ordering::Relaxed)
    }

    /// The number of watchers that are catching up or whose streams are full.
    pub fn behind(&self) -> usize {
        self.watchers()
            .saturating_sub(self.synced.load(Ordering::Relaxed))
    }
}
