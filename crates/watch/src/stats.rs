//! What the metrics show of the hub.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Gauges, current to within one step of the hub.
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

    /// Open streams.
    pub fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    /// Watchers.
    pub fn watchers(&self) -> usize {
        self.watchers.load(Ordering::Relaxed)
    }

    /// Watchers that catch up or whose streams are full.
    pub fn behind(&self) -> usize {
        self.watchers()
            .saturating_sub(self.synced.load(Ordering::Relaxed))
    }
}
