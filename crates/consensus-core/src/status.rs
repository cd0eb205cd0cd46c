//! A core's status.

use std::collections::BTreeMap;

use synod_types::{Ballot, Index, LogPosition, NodeId, Tick};

use crate::Membership;

/// A node's role in a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Role {
    /// Follows a leader, or waits for one.
    #[default]
    Follower,
    /// Asks whether an election could be won.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}

/// The complete status of a core.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Status {
    /// This node.
    pub id: NodeId,
    /// Its role.
    pub role: Role,
    /// The leader, if known.
    pub leader: Option<NodeId>,
    /// The latest ballot.
    pub ballot: Ballot,
    /// The highest index known to be committed.
    pub commit: Index,
    /// The highest index that the shell has reported as applied.
    pub applied: Index,
    /// The position before the first entry in memory.
    pub start: LogPosition,
    /// The last entry.
    pub last: LogPosition,
    /// The highest index up to which all entries are durable on this node.
    pub durable: Index,
    /// The membership in effect: that of the last configuration entry in the log, committed or not.
    pub membership: Membership,
    /// The index of that entry; zero for the initial membership.
    pub membership_index: Index,
    /// The other members, as the leader sees them; empty on other nodes.
    pub peers: BTreeMap<NodeId, PeerStatus>,
    /// As [`Consensus::lease_until`](crate::Consensus::lease_until).
    pub lease_until: Option<Tick>,
    /// The target of a leadership transfer in progress.
    pub transferee: Option<NodeId>,
    /// Whether a committed change has removed this node.
    pub removed: bool,
    /// Whether a write failed, so that the core has stopped.
    pub failed: bool,
}

/// The leader's view of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerStatus {
    /// The peer's log durably equals the leader's up to here.
    pub matched: Index,
    /// The next entry to send.
    pub next: Index,
    /// How entries are sent.
    pub mode: PeerMode,
    /// When it last answered.
    pub heard_at: Tick,
    /// Unanswered appends.
    pub inflight_messages: usize,
    /// Their payload, in bytes.
    pub inflight_bytes: u64,
}

/// How entries are sent to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PeerMode {
    /// One append at a time, to find where the logs agree.
    Probe,
    /// A stream of appends.
    Replicate,
    /// Waiting for the peer to install a snapshot.
    Snapshot,
}
