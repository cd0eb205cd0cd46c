//! Exhaustive models of Raft within small bounds. `docs/models.md` has the sizes.

#![expect(clippy::print_stdout, reason = "tests print the number of states")]

use synod_consensus_core::{Change, Raft};
use synod_models::{Bounds, CoreModel, Disks, Report, Shell, Step, Traffic};
use synod_types::NodeId;

/// Two nodes may campaign once each, in the same term or one after the other.
const TWO_TERMS: Bounds = Bounds::TWO_ELECTIONS;

const ONE_TERM: Bounds = Bounds {
    ticks: [1, 0, 0],
    all_ticks: 1,
    ..TWO_TERMS
};

/// The first node leads, and the second has its first entry. All other messages are lost.
const LED: &[Step] = &[Step::Tick(0), Step::Settle(&[0, 1]), Step::Lose];

/// The same, but messages to the third node may still arrive.
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
    ..ONE_TERM
};

const THIRD_JOINS: &[Change] = &[Change::AddVoter(NodeId::new(3))];

const ALL_BUT_ONE_LEAVE: &[Change] = &[
    Change::Remove(NodeId::new(2)),
    Change::Remove(NodeId::new(3)),
];

fn check(bounds: Bounds) -> Report {
    let report = CoreModel::<Raft>::new(bounds).check();
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
fn a_term_with_all_messages() {
    let bounds = Bounds {
        proposals: 1,
        traffic: Traffic::All,
        ..ONE_TERM
    };
    holds(bounds, &[NO_SECOND_LEADER, NO_CRASH]);
}

#[test]
fn two_terms_and_a_proposal() {
    let bounds = Bounds {
        proposals: 1,
        ..TWO_TERMS
    };
    holds(bounds, &[NO_CRASH]);
}

#[test]
fn two_terms_with_commit_messages() {
    let bounds = Bounds {
        traffic: Traffic::NoHeartbeats,
        ..TWO_TERMS
    };
    holds(bounds, &[NO_PROPOSAL, NO_CRASH]);
}

#[test]
fn two_terms_and_a_crash() {
    let bounds = Bounds {
        crashes: 1,
        ..TWO_TERMS
    };
    holds(bounds, &[NO_PROPOSAL, NO_CRASH]);
}

#[test]
fn two_terms_on_slow_disks() {
    let bounds = Bounds {
        disks: Disks::Slow,
        ..TWO_TERMS
    };
    holds(bounds, &[NO_PROPOSAL, NO_CRASH]);
}

#[test]
fn a_crash_between_any_two_writes() {
    let bounds = Bounds {
        proposals: 1,
        crashes: 1,
        disks: Disks::Slow,
        ..ONE_TERM
    };
    holds(bounds, &[NO_SECOND_LEADER]);
}

/// Raft §5.4.2, figure 8. Steps (a) and (b) have happened: two logs differ at their first index.
/// Then (c), (d), (e) and everything else that two more elections can lead to, with one entry per
/// message.
#[test]
fn figure_8() {
    let bounds = Bounds {
        single_entries: true,
        before: &[(0, 2), (1, 2), (0, 0)],
        ..TWO_TERMS
    };
    holds(bounds, &[NO_PROPOSAL, NO_CRASH]);
}

/// A leader has crashed, and two more nodes campaign, with pre-votes and promises not to vote.
#[test]
fn pre_votes_and_promises() {
    let bounds = Bounds {
        ticks: [0, 1, 1],
        proposals: 1,
        promises: true,
        before: &[(0, 2)],
        ..TWO_TERMS
    };
    holds(bounds, &[NO_CRASH]);
}

/// Two voters add a third, and one of the two campaigns meanwhile.
#[test]
fn a_voter_joins() {
    let bounds = Bounds {
        voters: 2,
        start: LED,
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

/// Nodes compact applied entries immediately. A lagging node gets a snapshot, from either of two
/// leaders.
#[test]
fn a_snapshot_for_a_lagging_node() {
    let bounds = Bounds {
        start: ONE_BEHIND,
        proposals: 1,
        compacts: true,
        ..ONE_MORE
    };
    holds(bounds, &[NO_CRASH]);
}

/// A read by read index, at a leader or at its successor, which doesn't know at first what is
/// committed.
#[test]
fn reads_of_two_leaders() {
    let bounds = Bounds {
        ticks: [0, 1, 0],
        start: LED,
        reads: 1,
        traffic: Traffic::NoCommits,
        ..ONE_MORE
    };
    holds(bounds, &[NO_PROPOSAL, NO_CRASH]);
}

#[test]
fn a_vote_lost_in_a_crash_is_detected() {
    let bounds = Bounds {
        crashes: 1,
        shell: Shell::ForgetsVote,
        ..TWO_TERMS
    };
    detects(bounds, "one leader a ballot");
}

#[test]
fn messages_sent_before_their_writes_are_durable_are_detected() {
    let bounds = Bounds {
        disks: Disks::Slow,
        shell: Shell::SendsBeforePersistence,
        ..ONE_TERM
    };
    detects(bounds, "a durable quorum has what is committed");
}

#[test]
fn writes_reported_too_early_are_detected() {
    let bounds = Bounds {
        disks: Disks::Slow,
        shell: Shell::ReportsTooEarly,
        ..ONE_TERM
    };
    detects(bounds, "a durable quorum has what is committed");
}
