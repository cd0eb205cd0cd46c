//! Multi-Paxos, exhaustively within small bounds. `docs/models.md` has the sizes.

#![expect(clippy::print_stdout, reason = "a test says how much it has seen")]

use synod_consensus_core::{Change, MultiPaxos};
use synod_models::{Bounds, CoreModel, Disks, Report, Shell, Step, Traffic};
use synod_types::NodeId;

/// Two proposers with a ballot each, three acceptors. A new leader proposes a no-op, so that there
/// is a slot to agree on even without a proposal.
const TWO_BALLOTS: Bounds = Bounds::TWO_ELECTIONS;

const ONE_BALLOT: Bounds = Bounds {
    ticks: [1, 0, 0],
    all_ticks: 1,
    ..TWO_BALLOTS
};

/// The first node leads, and the second has its first entry. What else was sent is lost.
const LED: &[Step] = &[Step::Tick(0), Step::Settle(&[0, 1]), Step::Lose];

/// The first node leads, and all have its first entry, and know it to be committed.
const ALL_KNOW: &[Step] = &[
    Step::Tick(0),
    Step::Settle(&[0, 1, 2]),
    Step::Tick(0),
    Step::Settle(&[0, 1, 2]),
    Step::Lose,
];

/// So does it here, and the second has its first entry; what was sent to the third may still
/// arrive.
const ONE_BEHIND: &[Step] = &[Step::Tick(0), Step::Settle(&[0, 1])];

/// Two nodes have added the third, which hasn't heard of it.
const THIRD_ADDED: &[Step] = &[
    Step::Tick(0),
    Step::Settle(&[0, 1]),
    Step::Change(0),
    Step::Settle(&[0, 1]),
];

/// One of the others may campaign, too.
const ONE_MORE: Bounds = Bounds {
    ticks: [0, 1, 1],
    ..ONE_BALLOT
};

const THIRD_JOINS: &[Change] = &[Change::AddVoter(NodeId::new(3))];

const ALL_BUT_ONE_LEAVE: &[Change] = &[
    Change::Remove(NodeId::new(2)),
    Change::Remove(NodeId::new(3)),
];

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

/// The synod: one slot that two ballots compete for, in every order of prepare, promise, accept and
/// accepted.
#[test]
fn single_decree() {
    holds(TWO_BALLOTS, &[NO_PROPOSAL, NO_CRASH]);
}

/// Two values for one slot: two leaders have each accepted a proposal of their own, alone, and
/// crashed. Two more ballots find one of them, or both, or none; whichever is chosen stays so.
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
fn two_ballots_and_a_crash() {
    let bounds = Bounds {
        crashes: 1,
        ..TWO_BALLOTS
    };
    holds(bounds, &[NO_PROPOSAL, NO_CRASH]);
}

/// A leader has crashed, and two more nodes campaign, with pre-votes and promises not to vote.
#[test]
fn pre_votes_and_promises() {
    let bounds = Bounds {
        ticks: [0, 1, 1],
        promises: true,
        before: &[(0, 2)],
        ..TWO_BALLOTS
    };
    holds(bounds, &[NO_PROPOSAL, NO_CRASH]);
}

/// Two voters have a third, which needs a snapshot to begin with, and one of the three campaigns.
#[test]
fn a_voter_joins() {
    let bounds = Bounds {
        voters: 2,
        start: THIRD_ADDED,
        change: THIRD_JOINS,
        ..ONE_MORE
    };
    holds(bounds, &[NO_PROPOSAL, NO_CRASH]);
}

/// The third voter begins with a snapshot, since the entry that added it is compacted.
#[test]
fn a_voter_joins_by_snapshot() {
    let bounds = Bounds {
        voters: 2,
        start: THIRD_ADDED,
        change: THIRD_JOINS,
        compacts: true,
        ..ONE_MORE
    };
    holds(bounds, &[NO_PROPOSAL, NO_CRASH]);
}

/// Three voters become one, while another still campaigns.
#[test]
fn voters_leave() {
    let bounds = Bounds {
        start: LED,
        change: ALL_BUT_ONE_LEAVE,
        ..ONE_MORE
    };
    holds(bounds, &[NO_PROPOSAL, NO_CRASH]);
}

/// Nodes forget at once what they have applied: who is behind gets a snapshot, from its leader or
/// with a promise.
#[test]
fn a_snapshot_for_who_is_behind() {
    let bounds = Bounds {
        ticks: [0, 0, 1],
        start: ONE_BEHIND,
        proposals: 1,
        compacts: true,
        ..ONE_MORE
    };
    holds(bounds, &[NO_CRASH]);
}

/// A read by read index, at a leader or at its successor. All know the leader's first entry to be
/// committed, or the states would be beyond what a test can wait for.
#[test]
fn reads_of_two_leaders() {
    let bounds = Bounds {
        ticks: [0, 1, 0],
        start: ALL_KNOW,
        reads: 1,
        traffic: Traffic::NoCommits,
        ..ONE_MORE
    };
    holds(bounds, &[NO_PROPOSAL, NO_CRASH]);
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
