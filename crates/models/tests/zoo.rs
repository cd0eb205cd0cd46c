//! The models detect those bugs of the zoo that show with three nodes, two ballots and one crash,
//! without clocks.

#![expect(clippy::print_stdout, reason = "tests print the counterexample")]

use synod_consensus_core::{Change, MultiPaxos, Raft, mutants::Mutant};
use synod_models::{Bounds, Core, CoreModel, Disks, Step, Traffic};
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

/// The first node campaigns twice, and any node may crash once.
const AGAIN_AFTER_A_CRASH: Bounds = Bounds {
    ticks: [2, 0, 0],
    ..SLOW_AND_A_CRASH
};

const TWO_VALUES_AGAIN: Bounds = Bounds {
    proposals_before: true,
    before: TWO_VALUES.before,
    ..AGAIN_AFTER_A_CRASH
};

/// All voters except the leader leave at once, and one of them does not learn of it.
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

/// The third node was added, and all entries that it needs are compacted.
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

/// A leader has committed an entry and sent a heartbeat. Its successor may read, too.
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
fn raft_votes_before_the_vote_is_durable() {
    finds::<Raft>(Mutant::HelpBeforeDurable, SLOW_AND_A_CRASH, ELECTION);
}

/// The candidate has votes for a log that it lost. An entry of another leader is committed and on
/// its way to the candidate.
#[test]
fn raft_campaigns_before_its_term_is_durable() {
    let bounds = Bounds {
        start: &[Step::Tick(1), Step::Settle(&[1, 2])],
        ..AGAIN_AFTER_A_CRASH
    };
    finds::<Raft>(Mutant::CampaignBeforeDurable, bounds, COMPLETENESS);
}

#[test]
fn raft_writes_term_and_vote_separately() {
    let bounds = Bounds { crashes: 1, ..TWO };
    finds::<Raft>(Mutant::TermAndVoteApart, bounds, ELECTION);
}

#[test]
fn raft_does_not_sort_acknowledgements() {
    finds::<Raft>(Mutant::QuorumUnsorted, TWO, DURABILITY);
}

#[test]
fn raft_acknowledges_before_the_write_is_durable() {
    finds::<Raft>(Mutant::AckAheadOfDurability, SLOW_AND_A_CRASH, DURABILITY);
}

/// The leader lost entries in a crash that others had acknowledged.
#[test]
fn raft_takes_late_acknowledgements() {
    finds::<Raft>(Mutant::StaleAck, AGAIN_AFTER_A_CRASH, DURABILITY);
}

#[test]
fn raft_changes_members_without_a_joint_configuration() {
    finds::<Raft>(Mutant::NoJointConfiguration, TO_ONE, AGREEMENT);
}

#[test]
fn raft_ignores_the_membership_of_a_snapshot() {
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
fn paxos_leads_with_one_promise_too_few() {
    finds::<MultiPaxos>(Mutant::Phase1OneShort, TWO_VALUES, AGREEMENT);
}

/// With one slot per message. Otherwise the acceptor would get all values of the new ballot at
/// once.
#[test]
fn paxos_counts_accepts_of_earlier_ballots() {
    let bounds = Bounds {
        single_entries: true,
        ..TWO_VALUES
    };
    finds::<MultiPaxos>(Mutant::PriorBallotByCount, bounds, AGREEMENT);
}

#[test]
fn paxos_promises_before_the_promise_is_durable() {
    let bounds = Bounds {
        crashes: 1,
        disks: Disks::Slow,
        ..TWO_VALUES
    };
    finds::<MultiPaxos>(Mutant::HelpBeforeDurable, bounds, DURABILITY);
}

/// The two others are a majority without the candidate. So it leads before its ballot is durable,
/// and after a crash it uses the ballot again with another value.
#[test]
fn paxos_campaigns_before_its_ballot_is_durable() {
    finds::<MultiPaxos>(Mutant::CampaignBeforeDurable, TWO_VALUES_AGAIN, DURABILITY);
}

#[test]
fn paxos_takes_late_acknowledgements() {
    finds::<MultiPaxos>(Mutant::StaleAck, TWO_VALUES_AGAIN, DURABILITY);
}

#[test]
fn paxos_acknowledges_before_the_write_is_durable() {
    let bounds = SLOW_AND_A_CRASH;
    finds::<MultiPaxos>(Mutant::AckAheadOfDurability, bounds, DURABILITY);
}

#[test]
fn paxos_does_not_sort_acknowledgements() {
    finds::<MultiPaxos>(Mutant::QuorumUnsorted, TWO, DURABILITY);
}

#[test]
fn paxos_changes_members_without_the_old_majority() {
    finds::<MultiPaxos>(Mutant::NoJointConfiguration, TO_ONE, AGREEMENT);
}

#[test]
fn paxos_ignores_the_membership_of_a_snapshot() {
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
