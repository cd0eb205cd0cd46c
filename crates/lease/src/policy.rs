//! How leases are kept: every choice and bound in one place.

use std::time::Duration;

/// The longest time to live that can be asked for, in seconds.
pub const MAX_TTL_S: i64 = 9_000_000_000;

/// Choices and bounds. The defaults are meant for production.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeasePolicy {
    /// What a new leader adds to every lease: the owners could not renew while there was no leader.
    pub extension: Duration,
    /// The longest time between two records of what is left of a lease whose owner has been silent
    /// for a while.
    pub checkpoint_interval: Duration,
    /// The shortest silence before the first record, and the shortest time between two: short
    /// leases are recorded too.
    pub checkpoint_floor: Duration,
    /// The longest silence before the first record.
    pub checkpoint_patience: Duration,
    /// Leases that one entry revokes.
    pub revoke_batch: usize,
    /// Leases that one entry checkpoints.
    pub checkpoint_batch: usize,
}

impl LeasePolicy {
    /// The defaults for a cluster with this election timeout.
    #[must_use]
    pub fn new(election_timeout: Duration) -> Self {
        Self {
            extension: election_timeout,
            checkpoint_interval: Duration::from_secs(10),
            checkpoint_floor: Duration::from_secs(1),
            checkpoint_patience: Duration::from_secs(300),
            revoke_batch: 1000,
            checkpoint_batch: 4000,
        }
    }

    /// How long after a renewal the first record is due. Owners renew after a third of the time to
    /// live: one that is alive gets no record, which it would then have to take back.
    pub(crate) fn first_checkpoint_ms(&self, ttl_ms: u64) -> u64 {
        let silence = (ttl_ms / 5 * 2).min(millis(self.checkpoint_patience));
        silence.max(millis(self.checkpoint_floor))
    }

    /// How long after a record the next one is due.
    pub(crate) fn next_checkpoint_ms(&self, ttl_ms: u64) -> u64 {
        let apart = (ttl_ms / 5).min(millis(self.checkpoint_interval));
        apart.max(millis(self.checkpoint_floor))
    }
}

/// A duration in whole milliseconds, saturating.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
