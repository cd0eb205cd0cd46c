//! How far a model goes, and where it begins.

use synod_consensus_core::{Body, Change, CommonBody};

use crate::node::{Disks, Shell};

/// Nodes of the group.
pub(crate) const NODES: usize = 3;

/// How far a run may go.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// How often each node's next deadline may come: election timeouts, or heartbeats of a leader.
    pub ticks: [u8; NODES],
    /// How often any of them may come.
    pub all_ticks: u8,
    /// The first so many nodes are the group's voters at the start. The others wait to be added.
    pub voters: u64,
    /// What happens before anything else, in this order.
    pub start: &'static [Step],
    /// Proposals, each at a node that leads. Those of `start` count.
    pub proposals: u8,
    /// A change of the membership, once, at a node that leads.
    pub change: &'static [Change],
    /// Reads by read index, each at a node that leads.
    pub reads: u8,
    /// Whether each node forgets at once what it has applied, so that who is behind needs a
    /// snapshot.
    pub compacts: bool,
    /// Crashes, each with a restart.
    pub crashes: u8,
    /// The disks.
    pub disks: Disks,
    /// What the network ever delivers.
    pub traffic: Traffic,
    /// Entries in a message, at most one instead of all that fit.
    pub single_entries: bool,
    /// Pre-vote, and promises not to vote (with them, leases).
    pub promises: bool,
    /// Elections that came before, as candidate and voter: of each only the votes between these two
    /// arrived, and nothing else that was sent ever will. The new leader wrote its no-op and
    /// crashed. A candidate that is its own voter got no vote at all.
    pub before: &'static [(usize, usize)],
    /// Whether each of these leaders also wrote a proposal before it crashed.
    pub proposals_before: bool,
    /// The shell.
    pub shell: Shell,
}

/// One step of the way to where a model begins. What none of them delivers stays under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Time passes at this node.
    Tick(usize),
    /// The next proposal is made at this node.
    Propose(usize),
    /// The membership change is made at this node.
    Change(usize),
    /// These nodes talk to each other, and write, until there is nothing left to say or to write.
    Settle(&'static [usize]),
    /// Everything under way is lost.
    Lose,
}

/// What the network delivers at all. What it never does is lost in every run, which cores must
/// bear: the states get fewer, and none is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// Everything.
    All,
    /// All but word of commits of its own: heartbeats have it, too.
    NoCommits,
    /// All but heartbeats and their answers.
    NoHeartbeats,
    /// Only what elects leaders, and replicates and acknowledges entries: no heartbeats, and no
    /// word about commits but that in appends.
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
    /// Three nodes, of which two may campaign once each, in the same ballot or one after the other;
    /// nothing else happens.
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
