//! The models find the bugs of the zoo that show in three nodes, two ballots and a crash, without clocks.

#![expect(clippy::print_stdout, reason = "a test says what it has found")]

use synod_consensus_core::{MultiPaxos, Raft, mutants::Mutant};
use synod_models::{Bounds, Core, CoreModel, Disks, Shell, Traffic};

const TWO: Bounds = Bounds {
    ticks: [1, 1, 0],
    all_ticks: 2,
    proposals: 0,
    crashes: 0,
    disks: Disks::Instant,
    traffic: Traffic::Essential,
    single_entries: false,
    promises: false,
    before: &[],
    proposals_before: false,
    shell: Shell::Correct,
};

fn finds<C: Core>(mutant: Mutant, bounds: Bounds) {
    let report = CoreModel::<C>::new(bounds).without(mutant).check();
    println!("{mutant:?}: {report}");
    assert!(report.counterexample.is_some(), "{mutant:?} is not found");
}

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

#[test]
fn raft_commits_a_prior_term_by_count() {
    finds::<Raft>(Mutant::PriorTermByCount, FIGURE_8);
}

#[test]
fn raft_votes_before_that_is_durable() {
    finds::<Raft>(Mutant::HelpBeforeDurable, SLOW_AND_A_CRASH);
}

#[test]
fn raft_writes_term_and_vote_apart() {
    finds::<Raft>(Mutant::TermAndVoteApart, Bounds { crashes: 1, ..TWO });
}

#[test]
fn raft_does_not_sort() {
    finds::<Raft>(Mutant::QuorumUnsorted, TWO);
}

#[test]
fn raft_acknowledges_ahead_of_the_disk() {
    finds::<Raft>(Mutant::AckAheadOfDurability, SLOW_AND_A_CRASH);
}

#[test]
fn paxos_adopts_the_lowest_ballot() {
    let bounds = Bounds {
        proposals_before: true,
        before: &[(0, 2), (1, 2)],
        ..TWO
    };
    finds::<MultiPaxos>(Mutant::LowestBallotAdopted, bounds);
}

#[test]
fn paxos_accepts_below_its_promise() {
    finds::<MultiPaxos>(Mutant::AcceptBelowPromise, TWO);
}

#[test]
fn paxos_acknowledges_ahead_of_the_disk() {
    finds::<MultiPaxos>(Mutant::AckAheadOfDurability, SLOW_AND_A_CRASH);
}

#[test]
fn paxos_does_not_sort() {
    finds::<MultiPaxos>(Mutant::QuorumUnsorted, TWO);
}
