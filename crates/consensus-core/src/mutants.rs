//! The bug zoo: each rule of the algorithms that is easily got wrong, and what is left when it is.
//!
//! A mutant takes one rule away. With the feature `mutants` one of them can be made active in a
//! thread, and the simulation must find it (docs/bug-zoo.md says by which invariant and in how many
//! runs). Without the feature, as in every build that anybody uses, [`is_active`] is a constant and
//! the compiler drops the broken branches.

/// A rule that is broken. The numbers are those of docs/bug-zoo.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mutant {
    /// 1: a refused pre-vote doesn't bring the candidate to the ballot of who refused.
    PreVoteWithoutCatchUp,
    /// 2: a leader of an earlier ballot isn't told that there is a later one.
    StaleLeaderNotTold,
    /// 3: a leader without a quorum leads on, and who hears it refuses all others.
    LeaderWithoutStepDown,
    /// 4: a node that hears no leader raises its ballot without asking whether it could win.
    CampaignWithoutPreVote,
    /// 5: who asks for a Paxos pre-vote must have the longer log.
    LogCheckInPaxosPreVote,
    /// 6: a pre-vote is granted by who hears no leader, whatever the candidate's log.
    PreVoteOnLivenessOnly,
    /// 7: the election timeout is drawn once.
    TimeoutDrawnOnce,
    /// 8: the term and the vote in it are written one after the other.
    TermAndVoteApart,
    /// 8: votes and promises leave before they are durable.
    HelpBeforeDurable,
    /// 8: a candidate asks the others before its own vote, or ballot, is durable.
    CampaignBeforeDurable,
    /// 9: a higher ballot is taken up while the node still leads.
    BallotBeforeRole,
    /// 10: a Raft leader commits an entry of an earlier term because a majority has it.
    PriorTermByCount,
    /// 10: what was accepted in an earlier ballot counts for the present one.
    PriorBallotByCount,
    /// 11: the value that a majority has reached is looked up without sorting.
    QuorumUnsorted,
    /// 12: acknowledgements of an earlier ballot count.
    StaleAck,
    /// 13: a leader that steps down falls back to what its own disk has.
    CommitLostOnStepDown,
    /// 14: what was handed to the disk before is acknowledged at once.
    AckAheadOfDurability,
    /// 15: the completion of a write vouches for entries that have replaced those it wrote.
    CompletionOfReplacedWrite,
    /// 16: the log does what came last first.
    CompletionsOutOfOrder,
    /// 17: a write that takes too long is reported as failed.
    LateWriteReportedFailed,
    /// 18: after a failed write the entries are dropped, and their indexes used again.
    FailedWriteIndexReused,
    /// 19: reads are served before an entry of the leader's own ballot is committed.
    ReadBeforeOwnCommit,
    /// 20: answers to any heartbeat confirm the reads of the latest.
    AnyHeartbeatConfirmsReads,
    /// 21: the lease goes on while the leadership is handed over.
    LeaseDuringTransfer,
    /// 22: a lease counts from when the answers come in.
    LeaseFromReceipt,
    /// 22: a lease isn't shorter by what clocks may differ.
    LeaseWithoutDriftBound,
    /// 22: votes and promises are given in spite of the promise on which a lease rests.
    LeaseIgnoredByVoters,
    /// 23: the voters change without a joint configuration (Raft), or a majority of the old ones
    /// (Paxos).
    NoJointConfiguration,
    /// 23: a leader changes the membership before it has committed an entry of its own.
    ChangeBeforeOwnCommit,
    /// 24: followers go by a configuration when it is committed.
    ConfigAtApply,
    /// 25: only who is a voter by its own configuration votes.
    OwnConfigGovernsVotes,
    /// 26: an installed snapshot leaves the membership as it was.
    MembershipSurvivesSnapshot,
    /// 27: a node that lost its disk comes back under its name.
    WipedNodeSameId,
    /// 28: a failed sync is asked for again.
    SyncRetried,
    /// 29: whatever can't be read is taken for an interrupted write.
    CorruptionTakenForTornTail,
    /// 30: the applied position is written after the data.
    AppliedNotAtomic,
    /// P1: a proposer adopts the value of the lowest ballot.
    LowestBallotAdopted,
    /// P2: slots without a value are left out.
    GapSkipped,
    /// P3: an acceptor accepts below what it has promised.
    AcceptBelowPromise,
    /// P4: phase 1 does with one promise less than a majority.
    Phase1OneShort,
    /// P5: slots after a configuration are proposed before it is chosen.
    SlotsPastOpenConfig,
    /// S1: the driver sends at once what vouches for writes that aren't durable yet.
    AckNotHeldBack,
    /// S2: a read joins a round that is under way.
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
    /// All of them.
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

/// Breaks a rule in this thread, or none.
#[cfg(feature = "mutants")]
pub fn activate(mutant: Option<Mutant>) {
    ACTIVE.set(mutant);
}

/// Whether this rule is broken in this thread.
#[cfg(feature = "mutants")]
#[must_use]
pub fn is_active(mutant: Mutant) -> bool {
    ACTIVE.get() == Some(mutant)
}

/// Whether this rule is broken: never, without the feature.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
#[must_use]
pub const fn is_active(_mutant: Mutant) -> bool {
    false
}
