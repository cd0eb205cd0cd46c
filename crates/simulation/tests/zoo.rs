//! The bug zoo: checks that each mutant is detected, by which invariant, and in how many seeds
//! (docs/bug-zoo.md).

#![cfg(feature = "mutants")]
#![expect(clippy::print_stdout, reason = "tests print their results")]

#[path = "zoo/table.rs"]
mod table;

use std::sync::atomic::{AtomicUsize, Ordering};

use synod_consensus_core::mutants::{Mutant, activate};
use synod_simulation::{Algorithm, Flavour, Topology, measure, run};

use Algorithm::{MultiPaxos, Raft};
use Flavour::{Churn, Disk, Everything, Fixed, Gaps, Laggards, Leases, Partitions, Stragglers};
use Hunt::{Cut, Storm};

/// Where to look for a mutant.
#[derive(Clone, Copy, Debug)]
enum Hunt {
    /// In seeds of a flavour.
    Storm(Flavour),
    /// In a named cut, after which something must be committed within this many ticks.
    Cut(Topology, u64),
}

/// A mutant, where to look for it, the invariants that detect it, and the maximum number of seeds.
type Exhibit = (Mutant, Algorithm, Hunt, &'static [&'static str], u64);

const QUIET: &[&str] = &["liveness"];
const ACK: &[&str] = &["ack-durability"];
/// The promise is broken, by what is counted or by what is done.
const GONE: &[&str] = &["lease-promises", "lease-exclusivity", "kept-promises"];
const LEASE: &[&str] = &["lease-promises", "lease-exclusivity"];

const EXHIBITS: &[Exhibit] = &[
    (
        Mutant::PreVoteWithoutCatchUp,
        Raft,
        Cut(Topology::EarlierHub, 600),
        QUIET,
        2,
    ),
    (
        Mutant::PreVoteWithoutCatchUp,
        MultiPaxos,
        Cut(Topology::EarlierHub, 600),
        QUIET,
        5,
    ),
    (
        Mutant::StaleLeaderNotTold,
        Raft,
        Storm(Stragglers),
        &["convergence"],
        80,
    ),
    (
        Mutant::StaleLeaderNotTold,
        MultiPaxos,
        Storm(Churn),
        &["convergence"],
        40,
    ),
    (
        Mutant::LeaderWithoutStepDown,
        Raft,
        Cut(Topology::DeafLeader, 600),
        QUIET,
        2,
    ),
    (
        Mutant::LeaderWithoutStepDown,
        MultiPaxos,
        Cut(Topology::LeaseBridge, 600),
        QUIET,
        2,
    ),
    (
        Mutant::CampaignWithoutPreVote,
        Raft,
        Cut(Topology::DeafLeader, 600),
        QUIET,
        2,
    ),
    (
        Mutant::CampaignWithoutPreVote,
        MultiPaxos,
        Cut(Topology::DeafLeader, 600),
        QUIET,
        2,
    ),
    (
        Mutant::LogCheckInPaxosPreVote,
        MultiPaxos,
        Cut(Topology::StaleHub, 600),
        QUIET,
        2,
    ),
    (
        Mutant::PreVoteOnLivenessOnly,
        Raft,
        Storm(Fixed),
        &["pre-vote"],
        20,
    ),
    (
        Mutant::TimeoutDrawnOnce,
        Raft,
        Cut(Topology::DeafLeader, 600),
        &["timeouts"],
        10,
    ),
    (
        Mutant::TimeoutDrawnOnce,
        MultiPaxos,
        Cut(Topology::DeafLeader, 600),
        &["timeouts"],
        10,
    ),
    (Mutant::TermAndVoteApart, Raft, Storm(Fixed), ACK, 5),
    (Mutant::HelpBeforeDurable, Raft, Storm(Fixed), ACK, 5),
    (Mutant::HelpBeforeDurable, MultiPaxos, Storm(Fixed), ACK, 5),
    (Mutant::CampaignBeforeDurable, Raft, Storm(Fixed), ACK, 5),
    (
        Mutant::CampaignBeforeDurable,
        MultiPaxos,
        Storm(Fixed),
        ACK,
        5,
    ),
    (
        Mutant::BallotBeforeRole,
        Raft,
        Storm(Everything),
        &[
            "election-safety",
            "shell-contract",
            "own-commit-first",
            "own-acks",
        ],
        120,
    ),
    (
        Mutant::BallotBeforeRole,
        MultiPaxos,
        Storm(Fixed),
        &["election-safety", "shell-contract"],
        60,
    ),
    (
        Mutant::PriorTermByCount,
        Raft,
        Storm(Partitions),
        &["own-term"],
        40,
    ),
    (
        Mutant::PriorBallotByCount,
        MultiPaxos,
        Storm(Fixed),
        &["agreement", "peer-progress"],
        60,
    ),
    (
        Mutant::QuorumUnsorted,
        Raft,
        Storm(Fixed),
        &["durable-quorum"],
        5,
    ),
    (
        Mutant::QuorumUnsorted,
        MultiPaxos,
        Storm(Fixed),
        &["durable-quorum"],
        5,
    ),
    (
        Mutant::StaleAck,
        Raft,
        Storm(Stragglers),
        &["own-acks", "peer-progress"],
        150,
    ),
    (
        Mutant::StaleAck,
        MultiPaxos,
        Storm(Stragglers),
        &["own-acks", "peer-progress"],
        150,
    ),
    (
        Mutant::CommitLostOnStepDown,
        Raft,
        Storm(Laggards),
        &["positions", "monotonic", "peer-progress"],
        20,
    ),
    (
        Mutant::CommitLostOnStepDown,
        MultiPaxos,
        Storm(Laggards),
        &["positions", "monotonic", "peer-progress"],
        20,
    ),
    (Mutant::AckAheadOfDurability, Raft, Storm(Fixed), ACK, 5),
    (
        Mutant::AckAheadOfDurability,
        MultiPaxos,
        Storm(Fixed),
        ACK,
        5,
    ),
    (
        Mutant::CompletionOfReplacedWrite,
        Raft,
        Storm(Partitions),
        &["positions", "durable-claims"],
        40,
    ),
    (
        Mutant::CompletionOfReplacedWrite,
        MultiPaxos,
        Storm(Fixed),
        &["durable-claims"],
        20,
    ),
    (
        Mutant::CompletionsOutOfOrder,
        Raft,
        Storm(Fixed),
        &["durable-quorum", "ack-durability", "durable-claims"],
        5,
    ),
    (
        Mutant::CompletionsOutOfOrder,
        MultiPaxos,
        Storm(Fixed),
        &["durable-quorum", "ack-durability"],
        5,
    ),
    (
        Mutant::LateWriteReportedFailed,
        Raft,
        Storm(Fixed),
        &["exactly-once"],
        60,
    ),
    (
        Mutant::LateWriteReportedFailed,
        MultiPaxos,
        Storm(Fixed),
        &["exactly-once"],
        60,
    ),
    (Mutant::FailedWriteIndexReused, Raft, Storm(Fixed), ACK, 20),
    (
        Mutant::FailedWriteIndexReused,
        MultiPaxos,
        Storm(Fixed),
        ACK,
        20,
    ),
    (
        Mutant::ReadBeforeOwnCommit,
        Raft,
        Storm(Fixed),
        &["read-index"],
        40,
    ),
    (
        Mutant::ReadBeforeOwnCommit,
        MultiPaxos,
        Storm(Fixed),
        &["read-index"],
        60,
    ),
    (
        Mutant::AnyHeartbeatConfirmsReads,
        Raft,
        Storm(Stragglers),
        LEASE,
        40,
    ),
    (
        Mutant::AnyHeartbeatConfirmsReads,
        MultiPaxos,
        Storm(Stragglers),
        LEASE,
        40,
    ),
    (
        Mutant::LeaseDuringTransfer,
        Raft,
        Storm(Leases),
        &["transfer-ends-lease"],
        20,
    ),
    (
        Mutant::LeaseDuringTransfer,
        MultiPaxos,
        Storm(Leases),
        &["transfer-ends-lease"],
        20,
    ),
    (Mutant::LeaseFromReceipt, Raft, Storm(Stragglers), LEASE, 40),
    (
        Mutant::LeaseFromReceipt,
        MultiPaxos,
        Storm(Leases),
        LEASE,
        40,
    ),
    (
        Mutant::LeaseWithoutDriftBound,
        Raft,
        Storm(Leases),
        LEASE,
        20,
    ),
    (
        Mutant::LeaseWithoutDriftBound,
        MultiPaxos,
        Storm(Leases),
        LEASE,
        20,
    ),
    (
        Mutant::LeaseIgnoredByVoters,
        Raft,
        Storm(Leases),
        &["kept-promises"],
        60,
    ),
    (
        Mutant::LeaseIgnoredByVoters,
        MultiPaxos,
        Storm(Leases),
        &["kept-promises"],
        60,
    ),
    (
        Mutant::NoJointConfiguration,
        Raft,
        Storm(Churn),
        &["joint-consensus"],
        20,
    ),
    (
        Mutant::NoJointConfiguration,
        MultiPaxos,
        Storm(Churn),
        &["durable-quorum", "lease-promises"],
        80,
    ),
    (
        Mutant::ChangeBeforeOwnCommit,
        Raft,
        Storm(Churn),
        &["own-commit-first"],
        40,
    ),
    (
        Mutant::ChangeBeforeOwnCommit,
        MultiPaxos,
        Storm(Churn),
        &["own-commit-first"],
        40,
    ),
    (
        Mutant::ConfigAtApply,
        Raft,
        Storm(Churn),
        &["config-in-log"],
        20,
    ),
    (
        Mutant::OwnConfigGovernsVotes,
        Raft,
        Storm(Churn),
        QUIET,
        160,
    ),
    (
        Mutant::OwnConfigGovernsVotes,
        MultiPaxos,
        Storm(Churn),
        QUIET,
        280,
    ),
    (
        Mutant::MembershipSurvivesSnapshot,
        Raft,
        Storm(Churn),
        &["config-agreement"],
        20,
    ),
    (
        Mutant::MembershipSurvivesSnapshot,
        MultiPaxos,
        Storm(Churn),
        &["config-agreement"],
        20,
    ),
    (
        Mutant::WipedNodeSameId,
        Raft,
        Storm(Churn),
        &["monotonic"],
        20,
    ),
    (
        Mutant::WipedNodeSameId,
        MultiPaxos,
        Storm(Churn),
        &["monotonic"],
        20,
    ),
    (
        Mutant::SyncRetried,
        Raft,
        Storm(Disk),
        &["log-recovery"],
        20,
    ),
    (
        Mutant::SyncRetried,
        MultiPaxos,
        Storm(Disk),
        &["log-recovery"],
        20,
    ),
    (
        Mutant::CorruptionTakenForTornTail,
        Raft,
        Storm(Everything),
        &["log-recovery"],
        20,
    ),
    (
        Mutant::CorruptionTakenForTornTail,
        MultiPaxos,
        Storm(Everything),
        &["log-recovery"],
        20,
    ),
    (
        Mutant::AppliedNotAtomic,
        Raft,
        Storm(Disk),
        &["state-equality"],
        20,
    ),
    (
        Mutant::AppliedNotAtomic,
        MultiPaxos,
        Storm(Disk),
        &["state-equality"],
        20,
    ),
    (
        Mutant::LowestBallotAdopted,
        MultiPaxos,
        Storm(Gaps),
        &["adoption"],
        120,
    ),
    (
        Mutant::GapSkipped,
        MultiPaxos,
        Storm(Gaps),
        &["adoption"],
        120,
    ),
    (
        Mutant::AcceptBelowPromise,
        MultiPaxos,
        Storm(Churn),
        &["monotonic"],
        60,
    ),
    (
        Mutant::Phase1OneShort,
        MultiPaxos,
        Storm(Fixed),
        &["agreement", "peer-progress"],
        20,
    ),
    (
        Mutant::SlotsPastOpenConfig,
        MultiPaxos,
        Storm(Churn),
        &["one-config"],
        20,
    ),
    (Mutant::AckNotHeldBack, Raft, Storm(Fixed), ACK, 5),
    (Mutant::AckNotHeldBack, MultiPaxos, Storm(Fixed), ACK, 5),
    (
        Mutant::ReadJoinsOlderRound,
        Raft,
        Storm(Fixed),
        &["read-index"],
        60,
    ),
    (
        Mutant::ReadJoinsOlderRound,
        MultiPaxos,
        Storm(Fixed),
        &["read-index"],
        60,
    ),
    (Mutant::GoneEndsPromise, Raft, Storm(Leases), GONE, 40),
    (Mutant::GoneEndsPromise, MultiPaxos, Storm(Leases), GONE, 40),
    (Mutant::LeaseLongerThanAsked, Raft, Storm(Leases), LEASE, 20),
    (
        Mutant::LeaseLongerThanAsked,
        MultiPaxos,
        Storm(Leases),
        LEASE,
        20,
    ),
    (
        Mutant::AnyPeerGone,
        Raft,
        Storm(Partitions),
        &["kept-promises"],
        60,
    ),
    (
        Mutant::AnyPeerGone,
        MultiPaxos,
        Storm(Partitions),
        &["kept-promises"],
        60,
    ),
    (
        Mutant::HeardLeaderStaysGone,
        Raft,
        Storm(Leases),
        &["kept-promises"],
        60,
    ),
    (
        Mutant::HeardLeaderStaysGone,
        MultiPaxos,
        Storm(Leases),
        &["kept-promises"],
        60,
    ),
    (
        Mutant::GoneWithoutPreVote,
        Raft,
        Cut(Topology::Slander, 600),
        QUIET,
        2,
    ),
    (
        Mutant::GoneWithoutPreVote,
        MultiPaxos,
        Cut(Topology::Slander, 600),
        QUIET,
        2,
    ),
];

/// The invariant that detects a mutant, and in which seed, counted from one.
fn hunt(
    mutant: Option<Mutant>,
    algorithm: Algorithm,
    hunt: Hunt,
    seeds: u64,
) -> Option<(u64, &'static str)> {
    activate(mutant);
    let found = (0..seeds).find_map(|seed| {
        let by = match hunt {
            Storm(flavour) => run(algorithm, flavour, seed).err()?.invariant,
            Cut(topology, ticks) => match measure(algorithm, topology, seed) {
                Ok(recovery) if recovery.ticks.is_some_and(|took| took <= ticks) => return None,
                Ok(_) => "liveness",
                Err(failure) => failure.invariant,
            },
        };
        Some((seed + 1, by))
    });
    activate(None);
    found
}

#[test]
fn every_mutant_is_detected_and_nothing_else() {
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let mut shown: Vec<(usize, Result<Found, String>)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut shown = Vec::new();
                    loop {
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        let Some(exhibit) = EXHIBITS.get(at) else {
                            return shown;
                        };
                        shown.push((at, show(exhibit)));
                    }
                })
            })
            .collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap())
            .collect()
    });
    shown.sort_by_key(|(at, _)| *at);
    let escaped: Vec<&str> = shown
        .iter()
        .filter_map(|(_, shown)| shown.as_ref().err().map(String::as_str))
        .collect();
    assert!(escaped.is_empty(), "{}", escaped.join("\n"));
    let found: Vec<Found> = shown
        .into_iter()
        .filter_map(|(_, shown)| shown.ok())
        .collect();
    table::check(EXHIBITS, &found);
}

/// The invariant that detected a mutant, and the number of seeds.
#[derive(Clone, Copy, Debug)]
struct Found {
    seeds: u64,
    by: &'static str,
}

/// Looks for one mutant, and runs the same seeds without it.
fn show(exhibit: &Exhibit) -> Result<Found, String> {
    let (mutant, algorithm, place, expected, within) = *exhibit;
    let found = hunt(Some(mutant), algorithm, place, within);
    println!("{mutant:?} {algorithm} {place:?}: {found:?} of {within}");
    let (seeds, by) = found.ok_or_else(|| format!("{mutant:?} {algorithm} escaped"))?;
    if !expected.contains(&by) {
        return Err(format!(
            "{mutant:?} {algorithm} was found by {by}, not {expected:?}"
        ));
    }
    match hunt(None, algorithm, place, seeds) {
        None => Ok(Found { seeds, by }),
        Some((seed, by)) => Err(format!(
            "{by} fails in {place:?} {algorithm}, seed {}",
            seed - 1
        )),
    }
}
