//! The log's counters. Reading and updating them takes no lock.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Upper bounds of the sync duration buckets in microseconds; a last bucket has no bound. From one
/// millisecond on these are the bounds of etcd's `etcd_disk_wal_fsync_duration_seconds`.
pub const SYNC_BUCKETS_US: [u64; 20] = [
    15, 30, 60, 125, 250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000,
    256_000, 512_000, 1_024_000, 2_048_000, 4_096_000, 8_192_000,
];

/// Counters of a log, shared by its threads.
#[derive(Debug, Default)]
pub struct Metrics {
    sync_buckets: [AtomicU64; SYNC_BUCKETS_US.len() + 1],
    sync_total_us: AtomicU64,
    commits: AtomicU64,
    records: AtomicU64,
    bytes_written: AtomicU64,
    segments: AtomicU64,
    recycled: AtomicU64,
    pending_bytes: AtomicU64,
}

/// A snapshot of the counters.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MetricsSnapshot {
    /// Syncs by duration: one count per bucket of [`SYNC_BUCKETS_US`], not cumulative, and one for
    /// longer syncs.
    pub sync_buckets: [u64; SYNC_BUCKETS_US.len() + 1],
    /// Sum of all sync durations in microseconds.
    pub sync_total_us: u64,
    /// Group commits that wrote something.
    pub commits: u64,
    /// Records written, including the log's own.
    pub records: u64,
    /// Bytes written, including headers and padding.
    pub bytes_written: u64,
    /// Segments in use.
    pub segments: u64,
    /// Segments released since the start.
    pub recycled: u64,
    /// Bytes that were appended but are not durable yet.
    pub pending_bytes: u64,
}

impl Metrics {
    pub(crate) fn observe_sync(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = SYNC_BUCKETS_US.partition_point(|bound| *bound < us);
        self.sync_buckets[bucket].fetch_add(1, Relaxed);
        self.sync_total_us.fetch_add(us, Relaxed);
    }

    pub(crate) fn observe_write(&self, records: u64, bytes: u64) {
        self.records.fetch_add(records, Relaxed);
        self.bytes_written.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn observe_commit(&self) {
        self.commits.fetch_add(1, Relaxed);
    }

    pub(crate) fn observe_recycled(&self) {
        self.recycled.fetch_add(1, Relaxed);
    }

    pub(crate) fn set_segments(&self, segments: usize) {
        self.segments
            .store(u64::try_from(segments).unwrap_or(u64::MAX), Relaxed);
    }

    pub(crate) fn set_pending(&self, bytes: u64) {
        self.pending_bytes.store(bytes, Relaxed);
    }

    /// The current counters. Each is exact, but they may have been read at slightly different
    /// times.
    #[must_use]
    pub fn snapshot(&self) -> MetricsSnapshot {
        let mut sync_buckets = [0; SYNC_BUCKETS_US.len() + 1];
        for (out, bucket) in sync_buckets.iter_mut().zip(&self.sync_buckets) {
            *out = bucket.load(Relaxed);
        }
        MetricsSnapshot {
            sync_buckets,
            sync_total_us: self.sync_total_us.load(Relaxed),
            commits: self.commits.load(Relaxed),
            records: self.records.load(Relaxed),
            bytes_written: self.bytes_written.load(Relaxed),
            segments: self.segments.load(Relaxed),
            recycled: self.recycled.load(Relaxed),
            pending_bytes: self.pending_bytes.load(Relaxed),
        }
    }
}

impl MetricsSnapshot {
    /// The number of syncs.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.sync_buckets.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_counted_in_the_first_bucket_that_fits() {
        let metrics = Metrics::default();
        for us in [0, 15, 16, 1_000, 1_001, 9_000_000] {
            metrics.observe_sync(Duration::from_micros(us));
        }
        let seen = metrics.snapshot();
        assert_eq!(seen.sync_buckets[0], 2);
        assert_eq!(seen.sync_buckets[1], 1);
        assert_eq!(seen.sync_buckets[6], 1);
        assert_eq!(seen.sync_buckets[7], 1);
        assert_eq!(seen.sync_buckets[20], 1);
        assert_eq!(seen.syncs(), 6);
        assert_eq!(seen.sync_total_us, 9_002_032);
    }
}
