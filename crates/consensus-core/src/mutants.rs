//! The bug zoo: mutants that break the algorithms' rules which are easy to get wrong.
//!
//! Each mutant disables one rule. With the feature `mutants`, one of them can be activated per
//! thread, and the simulation must detect it (docs/bug-zoo.md lists by which invariant and in how
//! many runs). Without the feature, as in every release build, [`is_active`] is a constant and the
//! compiler removes the broken branches.

/// A broken rule. The numbers are those of docs/bug-zoo.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mutant {
    /// 1: a refused pre-vote doesn't bring the candidate to the refusing node's ballot.
    PreVoteWithoutCatchUp,
    /// 2: a leader of an earlier ballot isn't told that there is a later one.
    StaleLeaderNotTold,
    /// 3: a leader without a quorum keeps leading, and nodes that hear it refuse all others.
    LeaderWithoutStepDown,
    /// 4: a node that hears no leader raises its ballot without asking whether it could win.
    CampaignWithoutPreVote,
    /// 5: a Paxos pre-vote is granted only to a candidate with the longer log.
    LogCheckInPaxosPreVote,
    /// 6: a node that hears no leader grants a pre-vote regardless of the candidate's log.
    PreVoteOnLivenessOnly,
    /// 7: the election timeout is drawn only once.
    TimeoutDrawnOnce,
    /// 8: the term and its vote are written separately.
    TermAndVoteApart,
    /// 8: votes and promises are sent before they are durable.
    HelpBeforeDurable,
    /// 8: a candidate campaigns before its own vote or ballot is durable.
    CampaignBeforeDurable,
    /// 9: a node adopts a higher ballot while it still leads.
    BallotBeforeRole,
    /// 10: a Raft leader commits an entry of an earlier term because a majority has it.
    PriorTermByCount,
    /// 10: a value accepted in an earlier ballot counts for the current one.
    PriorBallotByCount,
    /// 11: the value that a majority has reached is computed without sorting.
    QuorumUnsorted,
    /// 12: acknowledgements of an earlier ballot count.
    StaleAck,
    /// 13: a leader that steps down falls back to what its own disk has.
    CommitLostOnStepDown,
    /// 14: an entry that is still in flight to the disk is acknowledged at once.
    AckAheadOfDurability,
    /// 15: the completion of a write vouches for entries that have since replaced the written ones.
    CompletionOfReplacedWrite,
    /// 16: the log completes the latest write first.
    CompletionsOutOfOrder,
    /// 17: a write that takes too long is reported as failed.
    LateWriteReportedFailed,
    /// 18: after a failed write the entries are dropped and their indexes are used again.
    FailedWriteIndexReused,
    /// 19: reads are served before an entry of the leader's own ballot is committed.
    ReadBeforeOwnCommit,
    /// 20: answers to any heartbeat confirm the reads of the latest one.
    AnyHeartbeatConfirmsReads,
    /// 21: the lease continues while leadership is transferred.
    LeaseDuringTransfer,
    /// 22: a lease starts when the answers arrive.
    LeaseFromReceipt,
    /// 22: a lease isn't shortened by the clock drift.
    LeaseWithoutDriftBound,
    /// 22: votes and promises are given despite the promise that a lease depends on.
    LeaseIgnoredByVoters,
    /// 23: the voters change without a joint configuration (Raft), or without a majority of the old
    /// voters (Paxos).
    NoJointConfiguration,
    /// 23: a leader changes the membership before it has committed an entry of its own.
    ChangeBeforeOwnCommit,
    /// 24: followers use a configuration only when it is committed.
    ConfigAtApply,
    /// 25: only a node that is a voter by its own configuration votes.
    OwnConfigGovernsVotes,
    /// 26: an installed snapshot does not change the membership.
    MembershipSurvivesSnapshot,
    /// 27: a node that lost its disk returns under its old id.
    WipedNodeSameId,
    /// 28: a failed sync is retried.
    SyncRetried,
    /// 29: any unreadable data is treated as an interrupted write.
    CorruptionTakenForTornTail,
    /// 30: the applied position is written after the data.
    AppliedNotAtomic,
    /// P1: a proposer adopts the value of the lowest ballot.
    LowestBallotAdopted,
    /// P2: slots without a value are omitted.
    GapSkipped,
    /// P3: an acceptor accepts below what it has promised.
    AcceptBelowPromise,
    /// P4: phase 1 is satisfied with one promise less than a majority.
    Phase1OneShort,
    /// P5: slots after a configuration are proposed before it is chosen.
    SlotsPastOpenConfig,
    /// S1: the driver sends messages at once that vouch for writes which aren't durable yet.
    AckNotHeldBack,
    /// S2: a read joins a round that is already in flight.
    ReadJoinsOlderRound,
    /// F1: a leader that seems to be gone releases from the promise on which its lease rests.
    GoneEndsPromise,
    /// F2: a leader has a lease for longer than it asks its followers to promise.
    LeaseLongerThanAsked,
    /// F3: who is gone is taken for the leader, whoever it is.
    AnyPeerGone,
    /// F4: a leader that is heard again is still taken for gone.
    HeardLeaderStaysGone,
    /// F5: a node whose leader seems to be gone raises its ballot without asking whether it could
    /// win.
    GoneWithoutPreVote,
}

#[cfg(feature = "mutants")]
impl Mutant {
    /// All mutants.
    pub const ALL: [Self; 48] = [
        Self::PreVoteWithoutCatchUp,
        Self::StaleLeaderNotTold,
        Self::LeaderWithoutStepDown,
        Self::CampaignWithoutPreVote,
        Self::LogCheckInPaxosPreVote,
        Self::PreVoteOnLivenessOnly,
        Self::TimeoutDrawnOnce,
        Self::TermAndVoteApart,
        Self::HelpBeforeDurable,
        Self::CampaignBeforeDurable,
        Self::BallotBeforeRole,
        Self::PriorTermByCount,
        Self::PriorBallotByCount,
        Self::QuorumUnsorted,
        Self::StaleAck,
        Self::CommitLostOnStepDown,
        Self::AckAheadOfDurability,
        Self::CompletionOfReplacedWrite,
        Self::CompletionsOutOfOrder,
        Self::LateWriteReportedFailed,
        Self::FailedWriteIndexReused,
        Self::ReadBeforeOwnCommit,
        Self::AnyHeartbeatConfirmsReads,
        Self::LeaseDuringTransfer,
        Self::LeaseFromReceipt,
        Self::LeaseWithoutDriftBound,
        Self::LeaseIgnoredByVoters,
        Self::NoJointConfiguration,
        Self::ChangeBeforeOwnCommit,
        Self::ConfigAtApply,
        Self::OwnConfigGovernsVotes,
        Self::MembershipSurvivesSnapshot,
        Self::WipedNodeSameId,
        Self::SyncRetried,
        Self::CorruptionTakenForTornTail,
        Self::AppliedNotAtomic,
        Self::LowestBallotAdopted,
        Self::GapSkipped,
        Self::AcceptBelowPromise,
        Self::Phase1OneShort,
        Self::SlotsPastOpenConfig,
        Self::AckNotHeldBack,
        Self::ReadJoinsOlderRound,
        Self::GoneEndsPromise,
        Self::LeaseLongerThanAsked,
        Self::AnyPeerGone,
        Self::HeardLeaderStaysGone,
        Self::GoneWithoutPreVote,
    ];
}

#[cfg(feature = "mutants")]
thread_local! {
    static ACTIVE: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}

/// Activates a mutant in this thread, or none.
#[cfg(feature = "mutants")]
pub fn activate(mutant: Option<Mutant>) {
    ACTIVE.set(mutant);
}

/// Whether this mutant is active in this thread.
#[cfg(feature = "mutants")]
#[must_use]
pub fn is_active(mutant: Mutant) -> bool {
    ACTIVE.get() == Some(mutant)
}

/// Without the feature, no mutant is active.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
#[must_use]
pub const fn is_active(_mutant: Mutant) -> bool {
    false
}
