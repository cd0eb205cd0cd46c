//! Exhaustive models of Multi-Paxos within small bounds. `docs/models.md` has the sizes.

#![expect(clippy::print_stdout, reason = "tests print the number of states")]

use synod_consensus_core::{Change, MultiPaxos};
use synod_models::{Bounds, CoreModel, Disks, Report, Shell, Step, Traffic};
use synod_types::NodeId;

/// Two proposers with one ballot each, three acceptors. A new leader proposes a no-op, so there is
/// a slot to agree on even without a proposal.
const TWO_BALLOTS: Bounds = Bounds::TWO_ELECTIONS;

const ONE_BALLOT: Bounds = Bounds {
    ticks: [1, 0, 0],
    all_ticks: 1,
    ..TWO_BALLOTS
};

/// The first node leads, and the second has its first entry. All other messages are lost.
const LED: &[Step] = &[Step::Tick(0), Step::Settle(&[0, 1]), Step::Lose];

/// The first node leads, and all nodes know that its first entry is committed.
const ALL_KNOW: &[Step] = &[
    Step::Tick(0),
    Step::Settle(&[0, 1, 2]),
    Step::Tick(0),
    Step::Settle(&[0, 1, 2]),
    Step::Lose,
];

/// The first node leads, and the second has its first entry. Messages to the third may still
/// arrive.
const ONE_BEHIND: &[Step] = &[Step::Tick(0), Step::Settle(&[0, 1])];

/// Two nodes have added the third, which has not learned of it.
const THIRD_ADDED: &[Step] = &[
    Step::Tick(0),
    Step::Settle(&[0, 1]),
    Step::Change(0),
    Step::Settle(&[0, 1]),
];

/// One of the other nodes may campaign, too.
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

/// Checks that every `always` property holds, and that every `sometimes` property except `never`
/// has an example.
fn holds(bounds: Bounds, never: &[&str]) {
    let report = check(bounds);
    assert!(report.counterexample.is_none());
    assert_eq!(report.never, never);
}

/// Checks that the shell's bug is detected.
fn detects(bounds: Bounds, property: &str) {
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
fn a_proposal_with_commit_messages() {
    let bounds = Bounds {
        proposals: 1,
        traffic: Traffic::NoHeartbeats,
        ..ONE_BALLOT
    };
    holds(bounds, &[NO_SECOND_LEADER, NO_CRASH]);
}

/// The synod: two ballots compete for one slot, with every order of prepare, promise, accept and
/// accepted.
#[test]
fn single_decree() {
    holds(TWO_BALLOTS, &[NO_PROPOSAL, NO_CRASH]);
}

/// Two values for one slot: each of two leaders has accepted its own proposal, alone, and crashed.
/// Two more ballots find one of them, both or none. The value that is chosen stays chosen.
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

/// Two voters add a third, which first needs a snapshot, and one of the three campaigns.
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

/// The third voter starts with a snapshot, since the entry that added it is compacted.
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

/// Three voters become one while another one still campaigns.
#[test]
fn voters_leave() {
    let bounds = Bounds {
        start: LED,
        change: ALL_BUT_ONE_LEAVE,
        ..ONE_MORE
    };
    holds(bounds, &[NO_PROPOSAL, NO_CRASH]);
}

/// Nodes compact applied entries immediately. A lagging node gets a snapshot, from its leader or
/// with a promise.
#[test]
fn a_snapshot_for_a_lagging_node() {
    let bounds = Bounds {
        ticks: [0, 0, 1],
        start: ONE_BEHIND,
        proposals: 1,
        compacts: true,
        ..ONE_MORE
    };
    holds(bounds, &[NO_CRASH]);
}

/// A read by read index, at a leader or at its successor. All nodes know that the leader's first
/// entry is committed; otherwise there would be too many states for a test.
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
fn messages_sent_before_their_writes_are_durable_are_detected() {
    let bounds = Bounds {
        disks: Disks::Slow,
        shell: Shell::SendsBeforePersistence,
        ..ONE_BALLOT
    };
    detects(bounds, "a durable quorum has what is committed");
}

#[test]
fn writes_reported_too_early_are_detected() {
    let bounds = Bounds {
        disks: Disks::Slow,
        shell: Shell::ReportsTooEarly,
        ..ONE_BALLOT
    };
    detects(bounds, "a durable quorum has what is committed");
}
