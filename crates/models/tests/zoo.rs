//! The models find the bugs of the zoo that show in three nodes, two ballots and a crash, without
//! clocks.

#![expect(clippy::print_stdout, reason = "a test says what it has found")]

use synod_consensus_core::{Change, MultiPaxos, Raft, mutants::Mutant};
use synod_models::{Bounds, Core, CoreModel, Disks, Shell, Step, Traffic};
use synod_types::NodeId;

const TWO: Bounds = Bounds::TWO_ELECTIONS;

fn finds<C: Core>(mutant: Mutant, bounds: Bounds, property: &str) {
    let report = CoreModel::<C>::new(bounds).without(mutant).check();
    println!("{mutant:?}: {report}");
    let (found, _) = report.counterexample.expect("a counterexample");
    assert_eq!(found, property, "{mutant:?}");
}

const AGREEMENT: &str = "agreement by slot";
const ELECTION: &str = "one leader a ballot";
const COMPLETENESS: &str = "a leader has what was committed";
const DURABILITY: &str = "a durable quorum has what is committed";
const SNAPSHOT: &str = "a snapshot has what was committed";
const READ: &str = "a read misses nothing";

const SLOW_AND_A_CRASH: Bounds = Bounds {
    crashes: 1,
    disks: Disks::Slow,
    ..TWO
};

const FIGURE_8: Bounds = Bounds {
    single_entries: true,
    before: &[(0, 2), (1, 2), (0, 0)],
    ..TWO
};

const TWO_VALUES: Bounds = Bounds {
    proposals_before: true,
    before: &[(0, 2), (1, 2)],
    ..TWO
};

/// The first node campaigns twice, and anybody may crash once.
const AGAIN_AFTER_A_CRASH: Bounds = Bounds {
    ticks: [2, 0, 0],
    ..SLOW_AND_A_CRASH
};

const TWO_VALUES_AGAIN: Bounds = Bounds {
    proposals_before: true,
    before: TWO_VALUES.before,
    ..AGAIN_AFTER_A_CRASH
};

/// All voters but the leader leave at once, and one of them doesn't hear of it.
const TO_ONE: Bounds = Bounds {
    ticks: [0, 1, 0],
    all_ticks: 1,
    start: &[Step::Tick(0), Step::Settle(&[0, 1]), Step::Lose],
    change: &[
        Change::Remove(NodeId::new(2)),
        Change::Remove(NodeId::new(3)),
    ],
    ..TWO
};

/// The third node was added, and everything that it needs to hear is compacted.
const JOINING: Bounds = Bounds {
    ticks: [0; 3],
    all_ticks: 0,
    voters: 2,
    start: &[
        Step::Tick(0),
        Step::Settle(&[0, 1]),
        Step::Change(0),
        Step::Settle(&[0, 1]),
    ],
    change: &[Change::AddVoter(NodeId::new(3))],
    compacts: true,
    ..TWO
};

/// A leader has committed an entry, and sent a heartbeat; its successor may read, too.
const READ_AT_TWO_LEADERS: Bounds = Bounds {
    ticks: [0, 1, 0],
    all_ticks: 1,
    start: &[
        Step::Tick(0),
        Step::Settle(&[0, 1]),
        Step::Lose,
        Step::Tick(0),
    ],
    reads: 1,
    traffic: Traffic::NoCommits,
    ..TWO
};

#[test]
fn raft_commits_a_prior_term_by_count() {
    finds::<Raft>(Mutant::PriorTermByCount, FIGURE_8, COMPLETENESS);
}

#[test]
fn raft_votes_before_that_is_durable() {
    finds::<Raft>(Mutant::HelpBeforeDurable, SLOW_AND_A_CRASH, ELECTION);
}

/// The candidate has votes for a log that it lost. Another leader's entry is committed, and on its
/// way here.
#[test]
fn raft_campaigns_before_that_is_durable() {
    let bounds = Bounds {
        start: &[Step::Tick(1), Step::Settle(&[1, 2])],
        ..AGAIN_AFTER_A_CRASH
    };
    finds::<Raft>(Mutant::CampaignBeforeDurable, bounds, COMPLETENESS);
}

#[test]
fn raft_writes_term_and_vote_apart() {
    let bounds = Bounds { crashes: 1, ..TWO };
    finds::<Raft>(Mutant::TermAndVoteApart, bounds, ELECTION);
}

#[test]
fn raft_does_not_sort() {
    finds::<Raft>(Mutant::QuorumUnsorted, TWO, DURABILITY);
}

#[test]
fn raft_acknowledges_ahead_of_the_disk() {
    finds::<Raft>(Mutant::AckAheadOfDurability, SLOW_AND_A_CRASH, DURABILITY);
}

/// The leader lost in a crash what others had acknowledged.
#[test]
fn raft_takes_late_acknowledgements() {
    finds::<Raft>(Mutant::StaleAck, AGAIN_AFTER_A_CRASH, DURABILITY);
}

#[test]
fn raft_changes_members_without_a_joint_configuration() {
    finds::<Raft>(Mutant::NoJointConfiguration, TO_ONE, AGREEMENT);
}

#[test]
fn raft_keeps_its_membership_over_a_snapshot() {
    finds::<Raft>(Mutant::MembershipSurvivesSnapshot, JOINING, SNAPSHOT);
}

#[test]
fn raft_reads_before_its_own_commit() {
    finds::<Raft>(Mutant::ReadBeforeOwnCommit, READ_AT_TWO_LEADERS, READ);
}

#[test]
fn raft_takes_any_heartbeat_for_the_latest() {
    finds::<Raft>(Mutant::AnyHeartbeatConfirmsReads, READ_AT_TWO_LEADERS, READ);
}

#[test]
fn paxos_adopts_the_lowest_ballot() {
    finds::<MultiPaxos>(Mutant::LowestBallotAdopted, TWO_VALUES, DURABILITY);
}

#[test]
fn paxos_accepts_below_its_promise() {
    finds::<MultiPaxos>(Mutant::AcceptBelowPromise, TWO, ELECTION);
}

#[test]
fn paxos_leads_with_a_promise_too_few() {
    finds::<MultiPaxos>(Mutant::Phase1OneShort, TWO_VALUES, AGREEMENT);
}

/// One slot a message, or the acceptor gets the values of the new ballot all at once.
#[test]
fn paxos_counts_what_was_accepted_before() {
    let bounds = Bounds {
        single_entries: true,
        ..TWO_VALUES
    };
    finds::<MultiPaxos>(Mutant::PriorBallotByCount, bounds, AGREEMENT);
}

#[test]
fn paxos_promises_before_that_is_durable() {
    let bounds = Bounds {
        crashes: 1,
        disks: Disks::Slow,
        ..TWO_VALUES
    };
    finds::<MultiPaxos>(Mutant::HelpBeforeDurable, bounds, DURABILITY);
}

/// The two others are a majority without the candidate, so that it leads before its ballot is
/// durable, and after a crash uses the ballot again, with another value.
#[test]
fn paxos_campaigns_before_that_is_durable() {
    finds::<MultiPaxos>(Mutant::CampaignBeforeDurable, TWO_VALUES_AGAIN, DURABILITY);
}

#[test]
fn paxos_takes_late_acknowledgements() {
    finds::<MultiPaxos>(Mutant::StaleAck, TWO_VALUES_AGAIN, DURABILITY);
}

#[test]
fn paxos_acknowledges_ahead_of_the_disk() {
    let bounds = SLOW_AND_A_CRASH;
    finds::<MultiPaxos>(Mutant::AckAheadOfDurability, bounds, DURABILITY);
}

#[test]
fn paxos_does_not_sort() {
    finds::<MultiPaxos>(Mutant::QuorumUnsorted, TWO, DURABILITY);
}

#[test]
fn paxos_changes_members_without_the_old_majority() {
    finds::<MultiPaxos>(Mutant::NoJointConfiguration, TO_ONE, AGREEMENT);
}

#[test]
fn paxos_keeps_its_membership_over_a_snapshot() {
    finds::<MultiPaxos>(Mutant::MembershipSurvivesSnapshot, JOINING, SNAPSHOT);
}

#[test]
fn paxos_reads_before_its_own_commit() {
    finds::<MultiPaxos>(Mutant::ReadBeforeOwnCommit, READ_AT_TWO_LEADERS, READ);
}

#[test]
fn paxos_takes_any_heartbeat_for_the_latest() {
    let mutant = Mutant::AnyHeartbeatConfirmsReads;
    finds::<MultiPaxos>(mutant, READ_AT_TWO_LEADERS, READ);
}
