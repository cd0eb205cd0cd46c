//! Raft, exhaustively within small bounds. `docs/models.md` has the sizes.

#![expect(clippy::print_stdout, reason = "a test says how much it has seen")]

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

/// The first node leads, and the second has its first entry. What else was sent is lost.
const LED: &[Step] = &[Step::Tick(0), Step::Settle(&[0, 1]), Step::Lose];

/// So it is here, and what was sent to the third may still arrive.
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
fn two_terms_with_word_of_commits() {
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

/// Raft §5.4.2, figure 8: (a) and (b) have happened, with two logs that differ at their first
/// index. Then (c), (d), (e) and everything else that two more elections can lead to, one entry in
/// a message.
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

/// Two voters get a third, and one of those two campaigns meanwhile.
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

/// Nodes forget at once what they have applied: who is behind gets a snapshot, from either of two
/// leaders.
#[test]
fn a_snapshot_for_who_is_behind() {
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
fn a_vote_that_a_crash_forgets_is_noticed() {
    let bounds = Bounds {
        crashes: 1,
        shell: Shell::ForgetsVote,
        ..TWO_TERMS
    };
    bites(bounds, "one leader a ballot");
}

#[test]
fn messages_ahead_of_the_disk_are_noticed() {
    let bounds = Bounds {
        disks: Disks::Slow,
        shell: Shell::SendsBeforePersistence,
        ..ONE_TERM
    };
    bites(bounds, "a durable quorum has what is committed");
}

#[test]
fn writes_reported_too_early_are_noticed() {
    let bounds = Bounds {
        disks: Disks::Slow,
        shell: Shell::ReportsTooEarly,
        ..ONE_TERM
    };
    bites(bounds, "a durable quorum has what is committed");
}
