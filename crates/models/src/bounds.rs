//! The bounds of a model and its initial state.

use synod_consensus_core::{Body, Change, CommonBody};

use crate::node::{Disks, Shell};

/// The number of nodes in the group.
pub(crate) const NODES: usize = 3;

/// The bounds of a model's runs.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// How often each node's clock may advance to its next deadline: an election timeout, or a
    /// leader's heartbeat.
    pub ticks: [u8; NODES],
    /// How often all nodes' clocks together may advance.
    pub all_ticks: u8,
    /// The number of initial voters: the nodes with the lowest numbers. The others wait to be
    /// added.
    pub voters: u64,
    /// Steps that happen first, in this order.
    pub start: &'static [Step],
    /// The number of proposals, each at a leader. Includes those in `start`.
    pub proposals: u8,
    /// A membership change, made once, at a leader.
    pub change: &'static [Change],
    /// The number of reads by read index, each at a leader.
    pub reads: u8,
    /// Whether each node compacts everything it has applied immediately, so that a lagging node
    /// needs a snapshot.
    pub compacts: bool,
    /// The number of crashes, each followed by a restart.
    pub crashes: u8,
    /// How disks behave.
    pub disks: Disks,
    /// The messages that the network may deliver.
    pub traffic: Traffic,
    /// Whether a message holds at most one entry instead of as many as fit.
    pub single_entries: bool,
    /// Whether nodes use pre-vote and promises not to vote (and with them leases).
    pub promises: bool,
    /// Elections before the start, as pairs of candidate and voter. Only the votes between these
    /// two arrived; everything else they sent is lost. The new leader wrote its no-op and crashed.
    /// If candidate and voter are the same node, the candidate got no votes.
    pub before: &'static [(usize, usize)],
    /// Whether each of these leaders also wrote a proposal before it crashed.
    pub proposals_before: bool,
    /// The shell.
    pub shell: Shell,
}

/// A step towards the initial state. Messages that no step delivers stay in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Time advances at this node.
    Tick(usize),
    /// This node makes the next proposal.
    Propose(usize),
    /// This node makes the membership change.
    Change(usize),
    /// These nodes exchange messages and write to disk until nothing is left to do.
    Settle(&'static [usize]),
    /// All messages in flight are lost.
    Lose,
}

/// The messages that the network may deliver. A message that is never delivered is lost in every
/// run, which cores must tolerate. So a restriction leaves fewer states and adds none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// All messages.
    All,
    /// All except separate commit messages. Heartbeats carry the commit index, too.
    NoCommits,
    /// All except heartbeats and their responses.
    NoHeartbeats,
    /// Only messages that elect leaders, and that replicate and acknowledge entries. No heartbeats,
    /// and the commit index only in appends.
    Essential,
}

impl Traffic {
    pub(crate) fn delivers(self, body: &Body) -> bool {
        match self {
            Self::All => true,
            Self::NoCommits => !matches!(body, Body::Common(CommonBody::Commit { .. })),
            Self::NoHeartbeats => !is_heartbeat(body),
            Self::Essential => {
                !is_heartbeat(body) && !matches!(body, Body::Common(CommonBody::Commit { .. }))
            }
        }
    }
}

fn is_heartbeat(body: &Body) -> bool {
    matches!(
        body,
        Body::Common(CommonBody::Heartbeat { .. } | CommonBody::HeartbeatReply { .. })
    )
}

impl Bounds {
    /// Three nodes, of which two may campaign once each, in the same ballot or one after the other.
    /// Nothing else happens.
    pub const TWO_ELECTIONS: Self = Self {
        ticks: [1, 1, 0],
        all_ticks: 2,
        voters: 3,
        start: &[],
        proposals: 0,
        change: &[],
        reads: 0,
        compacts: false,
        crashes: 0,
        disks: Disks::Instant,
        traffic: Traffic::Essential,
        single_entries: false,
        promises: false,
        before: &[],
        proposals_before: false,
        shell: Shell::Correct,
    };
}
