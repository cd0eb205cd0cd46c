use std::collections::BTreeSet;

use bytes::Bytes;
use prost::Message as _;
use synod_consensus_core::{Change, ChangeError, Handover, Membership, Rejected, SnapshotMeta};

use super::*;

fn position(round: u64, index: u64) -> LogPosition {
    LogPosition {
        ballot: Ballot::term(round),
        index: Index::new(index),
    }
}

fn entry(round: u64, index: u64, kind: EntryKind, data: &'static [u8]) -> Entry {
    Entry::from(EntryFields {
        index: Index::new(index),
        ballot: Ballot::term(round),
        id: RequestId {
            node: NodeId::new(7),
            seq: u64::MAX - index,
        },
        kind,
        data: Bytes::from_static(data),
    })
}

fn rejections() -> Vec<Rejected> {
    let node = NodeId::new(9);
    vec![
        Rejected::NoLeader,
        Rejected::NotLeader { leader: None },
        Rejected::NotLeader { leader: Some(node) },
        Rejected::Overloaded,
        Rejected::TooLarge,
        Rejected::ConfigChangeInFlight,
        Rejected::LeaderNotReady,
        Rejected::LearnerNotReady,
        Rejected::UnhealthyQuorum,
        Rejected::InvalidTransfer { to: node },
        Rejected::LeaseExpired,
        Rejected::Transferring,
        Rejected::CannotCampaign,
        Rejected::TimedOut,
        Rejected::Removed,
        Rejected::InvalidMessage,
        Rejected::Failed,
        Rejected::InvalidChange(ChangeError::Empty),
        Rejected::InvalidChange(ChangeError::NoNode),
        Rejected::InvalidChange(ChangeError::Twice(node)),
        Rejected::InvalidChange(ChangeError::AlreadyMember(node)),
        Rejected::InvalidChange(ChangeError::NotMember(node)),
        Rejected::InvalidChange(ChangeError::NotLearner(node)),
        Rejected::InvalidChange(ChangeError::NotVoter(node)),
        Rejected::InvalidChange(ChangeError::NoVoters),
    ]
}

fn meta() -> SnapshotMeta {
    let node = NodeId::new;
    SnapshotMeta {
        last: position(4, 99),
        membership: Membership {
            voters: [node(1), node(2)].into(),
            outgoing: [node(2), node(3)].into(),
            learners: [node(5)].into(),
            learners_next: [node(3)].into(),
        },
    }
}

fn bodies() -> Vec<Body> {
    let token = ForwardToken {
        session: u64::MAX,
        number: 3,
    };
    let id = RequestId {
        node: NodeId::new(2),
        seq: 12,
    };
    let node = NodeId::new(4);
    let change = Box::new(MemberChange {
        id,
        changes: vec![
            Change::AddVoter(node),
            Change::AddLearner(node),
            Change::Promote(node),
            Change::Demote(node),
            Change::Remove(node),
        ],
        context: Bytes::from_static(b"context"),
    });
    let meta = Box::new(meta());
    let mut bodies = vec![
        Body::Common(CommonBody::PreVote {
            last: LogPosition::ZERO,
        }),
        Body::Common(CommonBody::PreVoteReply { granted: true }),
        Body::Common(CommonBody::Commit {
            commit: position(3, 5),
        }),
        Body::Common(CommonBody::Heartbeat {
            round: 7,
            commit: position(3, 5),
            transfers: TransferEpoch(2),
        }),
        Body::Common(CommonBody::HeartbeatReply { round: 7 }),
        Body::Common(CommonBody::Snapshot { meta }),
        Body::Common(CommonBody::TimeoutNow {
            transfers: TransferEpoch(1),
        }),
        Body::Common(CommonBody::Forward {
            token,
            proposals: vec![Proposal {
                id,
                data: Bytes::from_static(b"x"),
            }],
        }),
        Body::Common(CommonBody::ForwardChange { token, change }),
        Body::Common(CommonBody::ReadIndex {
            token: 5,
            mode: ReadMode::Lease,
        }),
        Body::Common(CommonBody::ReadIndex {
            token: 5,
            mode: ReadMode::Index,
        }),
        Body::Common(CommonBody::ReadIndexReply {
            token: 5,
            result: Ok(Index::ZERO),
        }),
        Body::Common(CommonBody::ReadIndexReply {
            token: 5,
            result: Err(Rejected::TimedOut),
        }),
    ];
    bodies.extend(raft_bodies());
    bodies.extend(paxos_bodies());
    let rejected = |reason| {
        Body::Common(CommonBody::ForwardRejected {
            ids: vec![id],
            reason,
        })
    };
    bodies.extend(rejections().into_iter().map(rejected));
    bodies
}

fn raft_bodies() -> Vec<Body> {
    vec![
        Body::Raft(RaftBody::Vote {
            last: position(2, 8),
            transfer: None,
        }),
        Body::Raft(RaftBody::Vote {
            last: position(2, 8),
            transfer: Some(TransferEpoch(0)),
        }),
        Body::Raft(RaftBody::VoteReply { granted: false }),
        Body::Raft(RaftBody::Append {
            prev: position(3, 8),
            entries: vec![
                entry(3, 9, EntryKind::Normal, b"a"),
                entry(3, 10, EntryKind::Config, b""),
                entry(6, 11, EntryKind::Noop, b""),
                entry(6, 12, EntryKind::Normal, b"value"),
            ],
            commit: Index::new(10),
        }),
        Body::Raft(RaftBody::AppendReply {
            outcome: AppendOutcome::Matched(Index::ZERO),
        }),
        Body::Raft(RaftBody::AppendReply {
            outcome: AppendOutcome::Rejected {
                at: Index::new(5),
                hint: position(1, 4),
            },
        }),
    ]
}

/// Of the ballot that [`every_message_survives_the_wire`] uses.
fn paxos_bodies() -> Vec<Body> {
    let ballot = Ballot { round: 9, node: 3 };
    let accepted = |index| entry(9, index, EntryKind::Normal, b"value").with_ballot(ballot);
    let handover = Handover {
        by: Ballot { round: 8, node: 2 },
        transfers: TransferEpoch(4),
    };
    vec![
        Body::Paxos(PaxosBody::Prepare {
            from: Index::new(5),
            transfer: None,
        }),
        Body::Paxos(PaxosBody::Prepare {
            from: Index::new(5),
            transfer: Some(handover),
        }),
        Body::Paxos(PaxosBody::Promise {
            from: Index::new(5),
            commit: Index::new(6),
            entries: vec![
                entry(3, 5, EntryKind::Normal, b"a"),
                entry(1, 8, EntryKind::Config, b"b"),
            ],
            next: Some(Index::new(9)),
            snapshot: None,
        }),
        Body::Paxos(PaxosBody::Promise {
            from: Index::new(5),
            commit: Index::new(6),
            entries: vec![],
            next: None,
            snapshot: Some(Box::new(meta())),
        }),
        Body::Paxos(PaxosBody::Nack),
        Body::Paxos(PaxosBody::Accept {
            prev: Index::new(7),
            entries: vec![accepted(8), accepted(9)],
            commit: Index::new(12),
        }),
        Body::Paxos(PaxosBody::Accepted {
            upto: Index::new(7),
        }),
        Body::Paxos(PaxosBody::Gap {
            prev: Index::new(7),
            held: Index::new(3),
        }),
    ]
}

#[test]
fn every_message_survives_the_wire() {
    let (from, to) = (NodeId::new(1), NodeId::new(2));
    for body in bodies() {
        let message = Message {
            from,
            to,
            ballot: Ballot { round: 9, node: 3 },
            body,
        };
        let bytes = message_to_wire(GroupId::new(5), message.clone()).encode_to_vec();
        let decoded = wire::Message::decode(bytes.as_slice()).unwrap();
        let back = message_from_wire(from, to, decoded).unwrap();
        assert_eq!(back, (GroupId::new(5), message));
    }
}

/// The bytes of each of [`bodies`], as members of the first release send them.
const GOLDEN: &str = include_str!("messages.txt");

#[test]
fn every_message_has_the_bytes_that_it_always_had() {
    let line = |body| {
        let message = Message {
            from: NodeId::new(1),
            to: NodeId::new(2),
            ballot: Ballot { round: 9, node: 3 },
            body,
        };
        let message = message_to_wire(GroupId::new(5), message);
        let bytes = message.encode_to_vec();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let body = format!("{:?}", message.body.unwrap());
        let name: String = body.chars().take_while(|c| c.is_alphanumeric()).collect();
        format!("{name} {hex}\n")
    };
    let mut lines: Vec<String> = bodies().into_iter().map(line).collect();
    lines.sort();
    assert_eq!(lines.concat(), GOLDEN, "{}", lines.concat());
}

#[test]
fn an_entry_costs_few_bytes_beyond_its_data() {
    let append = Body::Raft(RaftBody::Append {
        prev: position(3, 1 << 40),
        entries: vec![entry(3, (1 << 40) + 1, EntryKind::Normal, &[1; 100])],
        commit: Index::ZERO,
    });
    let WireBody::Append(append) = body_to_wire(append) else {
        panic!("another body")
    };
    assert_eq!(append.entries[0].encoded_len(), 100 + 22);
}

#[test]
fn what_makes_no_sense_is_an_error() {
    let from_wire = |body: Option<WireBody>| {
        let message = wire::Message {
            group: 1,
            ballot: None,
            body,
        };
        message_from_wire(NodeId::new(1), NodeId::new(2), message).unwrap_err()
    };
    assert_eq!(from_wire(None), WireError::Missing("body"));
    let entry = wire::Entry {
        kind: 17,
        ..wire::Entry::default()
    };
    let append = wire::Append {
        entries: vec![entry],
        ..wire::Append::default()
    };
    let unknown = WireError::Unknown {
        field: "entry.kind",
        value: 17,
    };
    assert_eq!(from_wire(Some(WireBody::Append(append))), unknown);
    for (body, missing) in [
        (
            WireBody::AppendReply(wire::AppendReply::default()),
            "outcome",
        ),
        (WireBody::Snapshot(wire::SnapshotOffer::default()), "meta"),
        (WireBody::Forward(wire::Forward::default()), "token"),
        (
            WireBody::ReadIndexReply(wire::ReadIndexReply::default()),
            "result",
        ),
        (
            WireBody::ForwardRejected(wire::ForwardRejected::default()),
            "rejection",
        ),
    ] {
        assert_eq!(from_wire(Some(body)), WireError::Missing(missing));
    }
    let entries = vec![wire::Entry {
        kind: 17,
        ..wire::Entry::default()
    }];
    let accept = wire::Accept {
        entries: entries.clone(),
        ..wire::Accept::default()
    };
    assert_eq!(from_wire(Some(WireBody::Accept(accept))), unknown);
    let promise = wire::Promise {
        entries,
        ..wire::Promise::default()
    };
    assert_eq!(from_wire(Some(WireBody::Promise(promise))), unknown);
    let promise = wire::Promise {
        snapshot: Some(wire::SnapshotMeta {
            membership: Some(wire::Membership {
                voters: vec![1],
                learners: vec![1],
                ..wire::Membership::default()
            }),
            ..wire::SnapshotMeta::default()
        }),
        ..wire::Promise::default()
    };
    assert_eq!(
        from_wire(Some(WireBody::Promise(promise))),
        WireError::Membership
    );
    let unspecified = wire::ForwardRejected {
        reason: Some(wire::Rejection::default()),
        ids: vec![],
    };
    let unknown = WireError::Unknown {
        field: "rejection.code",
        value: 0,
    };
    assert_eq!(
        from_wire(Some(WireBody::ForwardRejected(unspecified))),
        unknown
    );
    let mut bad = meta_to_wire(&meta());
    bad.membership.as_mut().unwrap().learners = vec![1];
    let offer = wire::SnapshotOffer { meta: Some(bad) };
    assert_eq!(
        from_wire(Some(WireBody::Snapshot(offer))),
        WireError::Membership
    );
}

/// What carries entries or proposals, and what makes no sense before those that were sent first.
#[test]
fn bulk_messages_are_those_whose_order_matters() {
    let name = |body: &Body| {
        let text = format!("{:?}", body_to_wire(body.clone()));
        text.split('(').next().unwrap().to_owned()
    };
    let all = bodies();
    let (bulk, urgent): (Vec<_>, Vec<_>) = all.iter().partition(|body| lane(body) == Lane::Bulk);
    let names = |bodies: Vec<&Body>| bodies.into_iter().map(name).collect::<BTreeSet<_>>();
    let expected = [
        "Accept",
        "Append",
        "Commit",
        "Forward",
        "ForwardChange",
        "Promise",
        "TimeoutNow",
    ];
    assert_eq!(names(bulk), expected.map(str::to_owned).into());
    // An election or a heartbeat never waits behind them.
    let urgent = names(urgent);
    for name in [
        "PreVote",
        "Vote",
        "Prepare",
        "Heartbeat",
        "AppendReply",
        "Accepted",
    ] {
        assert!(urgent.contains(name), "{name}");
    }
}
