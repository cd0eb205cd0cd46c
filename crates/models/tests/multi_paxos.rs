//! Multi-Paxos, exhaustively within small bounds. `docs/models.md` has the sizes.

#![expect(clippy::print_stdout, reason = "a test says how much it has seen")]

use synod_consensus_core::MultiPaxos;
use synod_models::{Bounds, CoreModel, Disks, Report, Shell, Traffic};

/// Two proposers with a ballot each, three acceptors. A new leader proposes a no-op, so that there is a slot
/// to agree on even without a proposal.
const TWO_BALLOTS: Bounds = Bounds {
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

const ONE_BALLOT: Bounds = Bounds {
    ticks: [1, 0, 0],
    all_ticks: 1,
    ..TWO_BALLOTS
};

fn check(bounds: Bounds) -> Report {
    let report = CoreModel::<MultiPaxos>::new(bounds).check();
    println!("{report}");
    report
}

/// Every state is as it must be, and everything that should be possible is, but for these.
fn holds(bounds: Bounds, never: &[&str]) {
    let report = check(bounds);
    assert!(report.counterexample.is_none());
    assert_eq!(report.never, never);
}

/// The shell's fault is found.
fn bites(bounds: Bounds, property: &str) {
    let report = check(bounds);
    let (found, _) = report.counterexample.expect("a counterexample");
    assert_eq!(found, property);
}

const NO_PROPOSAL: &str = "a proposal is committed";
const NO_SECOND_LEADER: &str = "a leader follows another";
const NO_CRASH: &str = "a proposal is committed after a crash";

#[test]
fn a_ballot_with_all_messages() {
    let bounds = Bounds {
        traffic: Traffic::All,
        ..ONE_BALLOT
    };
    holds(bounds, &[NO_PROPOSAL, NO_SECOND_LEADER, NO_CRASH]);
}

#[test]
fn a_proposal_with_word_of_commits() {
    let bounds = Bounds {
        proposals: 1,
        traffic: Traffic::NoHeartbeats,
        ..ONE_BALLOT
    };
    holds(bounds, &[NO_SECOND_LEADER, NO_CRASH]);
}

/// The synod: one slot that two ballots compete for, in every order of prepare, promise, accept and accepted.
#[test]
fn single_decree() {
    holds(TWO_BALLOTS, &[NO_PROPOSAL, NO_CRASH]);
}

/// Two values for one slot: two leaders have each accepted a proposal of their own, alone, and crashed. Two
/// more ballots find one of them, or both, or none; whichever is chosen stays so.
#[test]
fn two_values_for_a_slot() {
    let bounds = Bounds {
        proposals_before: true,
        before: &[(0, 2), (1, 2)],
        ..TWO_BALLOTS
    };
    holds(bounds, &[NO_CRASH]);
}

#[test]
fn two_ballots_on_slow_disks() {
    let bounds = Bounds {
        disks: Disks::Slow,
        ..TWO_BALLOTS
    };
    holds(bounds, &[NO_PROPOSAL, NO_CRASH]);
}

#[test]
fn a_crash_between_any_two_writes() {
    let bounds = Bounds {
        proposals: 1,
        crashes: 1,
        disks: Disks::Slow,
        ..ONE_BALLOT
    };
    holds(bounds, &[NO_SECOND_LEADER]);
}

#[test]
fn messages_ahead_of_the_disk_are_noticed() {
    let bounds = Bounds {
        disks: Disks::Slow,
        shell: Shell::SendsBeforePersistence,
        ..ONE_BALLOT
    };
    bites(bounds, "a durable quorum has what is committed");
}

#[test]
fn writes_reported_too_early_are_noticed() {
    let bounds = Bounds {
        disks: Disks::Slow,
        shell: Shell::ReportsTooEarly,
        ..ONE_BALLOT
    };
    bites(bounds, "a durable quorum has what is committed");
}
