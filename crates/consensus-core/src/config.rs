//! A core's configuration and initial state.

use synod_types::{Index, LogPosition, NodeId};

use crate::{DecodeError, Entry, HardState, MembershipError, SnapshotMeta};

/// A core's configuration. A tick is 10 ms. All members of a group must have the same
/// `election_ticks`, `check_quorum` and `max_clock_drift_percent`, because leases depend on them.
/// `lease_ticks` may differ, up to the common `election_ticks`: a leader tells the others its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CoreConfig {
    /// This node.
    pub id: NodeId,
    /// How long a follower waits for its leader before it campaigns, at least; up to twice as long,
    /// drawn anew each time. Also for how long it denies its vote to others, unless the leader
    /// seems to be [gone](crate::Input::Gone). Default 100 (1 s); at least three heartbeats.
    pub election_ticks: u64,
    /// The interval between heartbeats. Default 10 (100 ms); at least 1.
    pub heartbeat_ticks: u64,
    /// The length of the lease that a leader gets from a heartbeat that a quorum answers, before
    /// the clock drift is subtracted. For this long its followers vote for no other node, even if
    /// the leader seems to be [gone](crate::Input::Gone). Zero: no leases, except for a sole voter,
    /// so that reads by lease need a round of messages. Default 20 (200 ms), two heartbeats; at
    /// most `election_ticks`.
    pub lease_ticks: u64,
    /// The maximum number of unanswered appends to a peer. Default 256; at least 1.
    pub max_inflight_messages: usize,
    /// The maximum payload of unanswered appends, in bytes. Default 16 MiB. One message may always
    /// be in flight.
    pub max_inflight_bytes: u64,
    /// The maximum payload of an append, in bytes. Default 1 MiB. One entry always fits.
    pub max_append_bytes: u64,
    /// The maximum size of a leader's uncommitted proposals, in bytes; further ones are
    /// [`Rejected::Overloaded`]. Default 64 MiB. One batch always fits.
    ///
    /// [`Rejected::Overloaded`]: crate::Rejected::Overloaded
    pub max_uncommitted_bytes: u64,
    /// The maximum size of a proposal's data, in bytes. Default 16 MiB.
    pub max_entry_bytes: u64,
    /// The maximum size of the committed entries in a `Ready`, in bytes; the rest come with the
    /// next one. Default 16 MiB.
    pub max_committed_bytes: u64,
    /// The maximum number of unanswered reads. Default 100 000.
    pub max_pending_reads: usize,
    /// Ask whether an election can be won before raising the term. Default true.
    pub pre_vote: bool,
    /// A leader without answers from a quorum steps down, and followers who hear a leader refuse to
    /// vote. Without it there are no leases. Default true.
    pub check_quorum: bool,
    /// Refuse membership changes after which too few voters answer. Default true.
    pub strict_reconfig: bool,
    /// Whether this node would rather lead than others.
    pub priority: Priority,
    /// How much faster or slower than another node's a clock may run, in percent. A lease is
    /// shorter by this much. Default 5; below 50.
    pub max_clock_drift_percent: u64,
    /// The seed of the random number generator: different on each node and at each start.
    pub seed: u64,
}

/// How early a node campaigns. Only a preference: any node may become the leader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Priority {
    /// Waits one election timeout longer than the others.
    Low,
    /// The usual one to two election timeouts.
    #[default]
    Normal,
    /// At most one and a half.
    High,
}

impl CoreConfig {
    /// The default configuration.
    #[must_use]
    pub const fn new(id: NodeId, seed: u64) -> Self {
        Self {
            id,
            election_ticks: 100,
            heartbeat_ticks: 10,
            lease_ticks: 20,
            max_inflight_messages: 256,
            max_inflight_bytes: 16 << 20,
            max_append_bytes: 1 << 20,
            max_uncommitted_bytes: 64 << 20,
            max_entry_bytes: 16 << 20,
            max_committed_bytes: 16 << 20,
            max_pending_reads: 100_000,
            pre_vote: true,
            check_quorum: true,
            strict_reconfig: true,
            priority: Priority::Normal,
            max_clock_drift_percent: 5,
            seed,
        }
    }

    /// Checks the ranges of all settings.
    ///
    /// # Errors
    ///
    /// The first setting that is out of range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let check = |holds, error| if holds { Ok(()) } else { Err(error) };
        check(self.id.is_some(), ConfigError::NoNode)?;
        check(self.heartbeat_ticks >= 1, ConfigError::Heartbeat)?;
        check(
            self.election_ticks >= self.heartbeat_ticks.saturating_mul(3)
                && self.election_ticks <= Self::MAX_ELECTION_TICKS,
            ConfigError::Election,
        )?;
        check(self.lease_ticks <= self.election_ticks, ConfigError::Lease)?;
        check(
            self.max_inflight_messages >= 1
                && self.max_inflight_bytes >= 1
                && self.max_append_bytes >= 1
                && self.max_uncommitted_bytes >= 1
                && self.max_entry_bytes >= 1
                && self.max_committed_bytes >= 1
                && self.max_pending_reads >= 1,
            ConfigError::Limit,
        )?;
        check(self.max_clock_drift_percent < 50, ConfigError::Drift)
    }

    /// One hour, so that sums of ticks can't overflow.
    pub(crate) const MAX_ELECTION_TICKS: u64 = 360_000;
}

/// A core's initial state: what the log and the state machine stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Restored {
    /// The last [`Write::HardState`](crate::Write::HardState), or the default.
    pub hard_state: HardState,
    /// The position before the first entry, and the membership there. For a new group, position
    /// zero and the initial membership; for a node that waits to be added, the default.
    pub start: SnapshotMeta,
    /// The entries after it, in ascending order. They are contiguous; in Multi-Paxos only up to
    /// `hard_state.commit`, with possible gaps after it.
    pub entries: Vec<Entry>,
    /// What the state machine has durably applied. After a crash between the installation of a
    /// snapshot and its [`Write::Reset`](crate::Write::Reset) it may be past the entries; the core
    /// then writes the reset again.
    pub applied: SnapshotMeta,
}

/// The reason why a core can't start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The node has no id.
    #[error("the node id is zero")]
    NoNode,
    /// See [`CoreConfig::heartbeat_ticks`].
    #[error("heartbeat_ticks must be at least 1")]
    Heartbeat,
    /// See [`CoreConfig::election_ticks`].
    #[error("election_ticks must be at least three times heartbeat_ticks, and at most an hour")]
    Election,
    /// See [`CoreConfig::lease_ticks`].
    #[error("lease_ticks must be at most election_ticks")]
    Lease,
    /// A limit is zero.
    #[error("limits must be at least 1")]
    Limit,
    /// See [`CoreConfig::max_clock_drift_percent`].
    #[error("max_clock_drift_percent must be below 50")]
    Drift,
    /// Entries are missing or out of order: the log is damaged.
    #[error("the log has entry {found} instead of the one after {after}")]
    Gap {
        /// The position of the entry before.
        after: LogPosition,
        /// The position of the next entry.
        found: LogPosition,
    },
    /// Committed entries are missing: the log is damaged.
    #[error("the log ends at {last}, but {commit} was committed")]
    LostCommitted {
        /// The commit index.
        commit: Index,
        /// The last entry.
        last: Index,
    },
    /// The state machine lacks entries that the log has compacted.
    #[error("the log starts after {start}, but only {applied} is applied")]
    LostApplied {
        /// The position before the first entry.
        start: Index,
        /// The applied index.
        applied: Index,
    },
    /// A configuration entry is damaged.
    #[error("the configuration entry at {index} is damaged: {error}")]
    Entry {
        /// The entry's index.
        index: Index,
        /// The decoding error.
        error: DecodeError,
    },
    /// The membership is inconsistent.
    #[error("impossible membership: {0}")]
    Membership(#[from] MembershipError),
}
