//! The messages between the cores of a group.

use std::fmt;

use synod_types::{Ballot, Index, LogPosition, NodeId, RequestId};

use crate::{Entry, MemberChange, Proposal, ReadMode, Rejected, SnapshotMeta};

/// A message between two members. It may be lost, duplicated, delayed and reordered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Message {
    /// The sender.
    pub from: NodeId,
    /// The receiver.
    pub to: NodeId,
    /// The sender's ballot. For a pre-vote and its grant, the ballot that would come next.
    pub ballot: Ballot,
    /// The content.
    pub body: Body,
}

/// The content of a message.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Body {
    /// Used by both algorithms.
    Common(CommonBody),
    /// Used by Raft.
    Raft(RaftBody),
    /// Used by Multi-Paxos.
    Paxos(PaxosBody),
}

/// The messages that both algorithms use.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CommonBody {
    /// Would you vote for me? Changes nothing at the receiver (Raft thesis §9.6).
    PreVote {
        /// The sender's last entry.
        last: LogPosition,
    },
    /// The answer. A grant bears the ballot asked for, a refusal the receiver's own.
    PreVoteReply {
        /// Whether it would.
        granted: bool,
    },
    /// The leader's commit index has advanced. No answer.
    Commit {
        /// The last committed entry. A receiver without it ignores the message.
        commit: LogPosition,
    },
    /// The leader is alive and asks whether it still leads (Raft thesis §6.4).
    Heartbeat {
        /// Grows by one with each broadcast.
        round: u64,
        /// As in [`Self::Commit`].
        commit: LogPosition,
        /// How many transfers this leader has given up after it told the other node to campaign.
        transfers: TransferEpoch,
        /// For how many ticks the receiver promises to help no other candidate, whatever it learns.
        /// The leader's lease depends on it. The same in all heartbeats of a ballot. `None`, which
        /// earlier releases send, means an election timeout.
        lease_ticks: Option<u64>,
    },
    /// The answer to [`Self::Heartbeat`]. It waits for the disk only in the first ballot of a new
    /// group.
    HeartbeatReply {
        /// The round answered.
        round: u64,
    },
    /// The receiver needs compacted entries: it should fetch a snapshot from the sender.
    Snapshot {
        /// The minimum content of the snapshot.
        meta: Box<SnapshotMeta>,
    },
    /// Campaign at once (Raft thesis §3.10).
    TimeoutNow {
        /// As in [`Self::Heartbeat`].
        transfers: TransferEpoch,
    },
    /// Proposals for the leader.
    Forward {
        /// Identifies duplicates.
        token: ForwardToken,
        /// The proposals, in order.
        proposals: Vec<Proposal>,
    },
    /// A membership change for the leader.
    ForwardChange {
        /// Identifies duplicates.
        token: ForwardToken,
        /// The change.
        change: Box<MemberChange>,
    },
    /// Forwarded proposals or changes were not appended.
    ForwardRejected {
        /// The ids of the requests.
        ids: Vec<RequestId>,
        /// The reason.
        reason: Rejected,
    },
    /// Reads for the leader.
    ReadIndex {
        /// The sender's identifier for this batch of reads.
        token: u64,
        /// A leader without a running lease treats [`ReadMode::Lease`] like [`ReadMode::Index`].
        mode: ReadMode,
    },
    /// The answer to [`Self::ReadIndex`].
    ReadIndexReply {
        /// The request's token.
        token: u64,
        /// The read index.
        result: Result<Index, Rejected>,
    },
}

/// Raft's messages for electing leaders and replicating entries.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RaftBody {
    /// Vote for me (Raft §5.2). Sent when the sender's own vote and log are durable.
    Vote {
        /// The sender's last entry (Raft §5.4.1).
        last: LogPosition,
        /// The [`CommonBody::TimeoutNow`] that caused this, where one did: it overrides the promise
        /// given to that leader.
        transfer: Option<TransferEpoch>,
    },
    /// The answer. A grant is sent when it is durable.
    VoteReply {
        /// Whether the vote was given.
        granted: bool,
    },
    /// Entries from the leader (Raft §5.3).
    Append {
        /// The position before the first of `entries`.
        prev: LogPosition,
        /// Contiguous entries; empty for a probe.
        entries: Vec<Entry>,
        /// The leader's commit index, not clamped to the receiver's log.
        commit: Index,
    },
    /// The answer to [`Self::Append`].
    AppendReply {
        /// The result.
        outcome: AppendOutcome,
    },
}

/// Multi-Paxos's messages for electing leaders and replicating entries ("Paxos Made Simple" §2.2,
/// §3).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PaxosBody {
    /// Phase 1a: promise to accept nothing below this message's ballot, and say what
    /// you have accepted from a slot on ("Paxos Made Simple" §2.2, for all slots at once as in §3).
    /// Sent when the sender's own promise is durable. Sent again for the next chunk of the answer.
    Prepare {
        /// The first slot asked for.
        from: Index,
        /// The [`CommonBody::TimeoutNow`] that caused this, where one did: it overrides the promise
        /// given to that leader.
        transfer: Option<Handover>,
    },
    /// Phase 1b, in chunks. Sent when the promise is durable.
    Promise {
        /// As asked.
        from: Index,
        /// Slots up to here are chosen; the entries say with which value.
        commit: Index,
        /// What was accepted, by ascending slot, each with the ballot in which it was. Gaps mean
        /// nothing accepted there.
        entries: Vec<Entry>,
        /// The slot to ask for next; none where this is all.
        next: Option<Index>,
        /// The snapshot that replaces the slots from `from` on that the sender has compacted, if
        /// any.
        snapshot: Option<Box<SnapshotMeta>>,
    },
    /// The sender has promised this message's ballot, so it rejects an earlier one.
    Nack,
    /// Phase 2a for a run of slots: accept these values under this message's ballot. Each entry has
    /// that ballot, even if it was chosen under an earlier one.
    Accept {
        /// The slot before the first of `entries`, which the leader believes the receiver to have.
        prev: Index,
        /// Contiguous entries; empty to ask how far the receiver is.
        entries: Vec<Entry>,
        /// Slots up to here are chosen. Not clamped to the receiver's log.
        commit: Index,
    },
    /// Phase 2b: everything up to here is durable on the sender, accepted under this message's
    /// ballot or chosen.
    Accepted {
        /// The last slot of that prefix.
        upto: Index,
    },
    /// The answer to an empty [`Self::Accept`] whose `prev` the sender has not reached. Claims
    /// nothing durable.
    Gap {
        /// The `prev` of the request.
        prev: Index,
        /// The sender has everything up to here.
        held: Index,
    },
}

/// The result of a [`RaftBody::Append`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AppendOutcome {
    /// The sender's log durably equals the leader's up to here.
    Matched(Index),
    /// The sender lacks the entry before the first one.
    Rejected {
        /// The index of that entry.
        at: Index,
        /// The sender's last entry at or before `at` with a ballot of at most the leader's. The
        /// logs can't agree beyond it (a hint by term; Raft §5.3, last paragraph).
        hint: LogPosition,
    },
}

/// How many leadership transfers a leader has given up in its ballot after it had told the other
/// node to campaign. A [`CommonBody::TimeoutNow`] that is older than a heartbeat which the receiver
/// has answered is void: that heartbeat may have renewed a lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransferEpoch(pub u64);

/// By which leader a Multi-Paxos node was told to campaign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handover {
    /// The leader's ballot.
    pub by: Ballot,
    /// As in its [`CommonBody::TimeoutNow`].
    pub transfers: TransferEpoch,
}

/// Identifies a forwarded message, so that a duplicate isn't proposed twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ForwardToken {
    /// Drawn at each start of the sender.
    pub session: u64,
    /// Incremented with each message of the session.
    pub number: u64,
}

impl CommonBody {
    /// Whether only who leads in the message's ballot says this.
    pub(crate) fn is_from_leader(&self) -> bool {
        match self {
            Self::Commit { .. }
            | Self::Heartbeat { .. }
            | Self::Snapshot { .. }
            | Self::TimeoutNow { .. } => true,
            Self::PreVote { .. }
            | Self::PreVoteReply { .. }
            | Self::HeartbeatReply { .. }
            | Self::Forward { .. }
            | Self::ForwardChange { .. }
            | Self::ForwardRejected { .. }
            | Self::ReadIndex { .. }
            | Self::ReadIndexReply { .. } => false,
        }
    }
}

/// Omits the outer variant: the inner one's name is unique.
impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Common(body) => body.fmt(f),
            Self::Raft(body) => body.fmt(f),
            Self::Paxos(body) => body.fmt(f),
        }
    }
}

impl From<CommonBody> for Body {
    fn from(body: CommonBody) -> Self {
        Self::Common(body)
    }
}

impl From<RaftBody> for Body {
    fn from(body: RaftBody) -> Self {
        Self::Raft(body)
    }
}

impl From<PaxosBody> for Body {
    fn from(body: PaxosBody) -> Self {
        Self::Paxos(body)
    }
}
