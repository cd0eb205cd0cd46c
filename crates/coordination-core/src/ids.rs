//! Ids and positions as newtypes.

use std::fmt;

/// A session's id. Zero is no session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(i64);

/// A transaction's position: the epoch of the sequencer in the upper 32 bits, a counter in the
/// lower 32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Zxid(i64);

/// One run of a pod. A pod that restarts takes a new id. Zero is no pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodId(u64);

/// A client's connection to this pod. The service numbers them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(u32);

impl SessionId {
    /// Wraps an id from the wire.
    #[must_use]
    pub const fn new(id: i64) -> Self {
        Self(id)
    }

    /// The id on the wire.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl Zxid {
    /// The zxid of events that a [`set`](crate::Watches::set) of watches fires at once: they belong
    /// to no transaction.
    pub const NONE: Self = Self(-1);

    /// After all transactions.
    pub(crate) const MAX: Self = Self(i64::MAX);

    /// Wraps a zxid from the wire.
    #[must_use]
    pub const fn new(zxid: i64) -> Self {
        Self(zxid)
    }

    /// The zxid on the wire.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The zxid that is `count` after this one.
    ///
    /// # Panics
    /// If the sum exceeds an `i64`: at one million transactions per second, after 292,000 years.
    #[must_use]
    pub fn plus(self, count: usize) -> Self {
        let count = i64::try_from(count).expect("a count of commands in memory fits");
        Self(self.0.checked_add(count).expect("zxids are not exhausted"))
    }
}

/// The part of a zxid that counts transactions within an epoch.
const COUNTER_BITS: u32 = 32;

impl Zxid {
    /// The first transaction of the next epoch.
    ///
    /// # Panics
    /// After 2^31 epochs.
    #[must_use]
    pub fn next_epoch(self) -> Self {
        let next = (self.0 >> COUNTER_BITS) + 1;
        let first = next
            .checked_mul(1 << COUNTER_BITS)
            .expect("epochs are not exhausted");
        Self(first + 1)
    }

    /// Whether this transaction and the ones after it, `count` in all, are of one epoch.
    #[must_use]
    pub fn has_room_for(self, count: usize) -> bool {
        let last = i64::try_from(count)
            .ok()
            .and_then(|count| self.0.checked_add(count - 1));
        last.is_some_and(|last| last >> COUNTER_BITS == self.0 >> COUNTER_BITS)
    }
}

impl PodId {
    /// Wraps an id.
    #[must_use]
    pub const fn new(id: u64) -> Self {
        Self(id)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl ConnectionId {
    /// Wraps a connection's number.
    #[must_use]
    pub const fn new(id: u32) -> Self {
        Self(id)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:x}", self.0)
    }
}

impl fmt::Display for Zxid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:x}", self.0)
    }
}

impl fmt::Display for PodId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}
