//! The settings of leases.

use std::time::Duration;

/// The longest TTL that a client may request, in seconds.
pub const MAX_TTL_S: i64 = 9_000_000_000;

/// Settings and limits. The defaults are for production.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeasePolicy {
    /// Added by a new leader to every lease, because owners could not renew while there was no
    /// leader.
    pub extension: Duration,
    /// The longest time between two records of the remaining time of a lease whose owner is silent.
    pub checkpoint_interval: Duration,
    /// The shortest silence before the first record, and the shortest time between two records. It
    /// applies to short leases, which are recorded too.
    pub checkpoint_floor: Duration,
    /// The longest silence before the first record.
    pub checkpoint_patience: Duration,
    /// The number of leases that one entry revokes.
    pub revoke_batch: usize,
    /// The number of leases that one entry checkpoints.
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

    /// The time from a renewal to the first record. Owners renew after a third of the TTL, so a
    /// live owner's lease is not recorded and no record has to be deleted.
    pub(crate) fn first_checkpoint_ms(&self, ttl_ms: u64) -> u64 {
        let silence = (ttl_ms / 5 * 2).min(millis(self.checkpoint_patience));
        silence.max(millis(self.checkpoint_floor))
    }

    /// The time from a record to the next one.
    pub(crate) fn next_checkpoint_ms(&self, ttl_ms: u64) -> u64 {
        let apart = (ttl_ms / 5).min(millis(self.checkpoint_interval));
        apart.max(millis(self.checkpoint_floor))
    }
}

/// A duration in whole milliseconds, saturating.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
