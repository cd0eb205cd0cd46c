//! Property tests: every message survives encoding, and no input from a peer makes the conversion
//! panic.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_assert_eq, prop_oneof, proptest};
use prost::Message as _;
use synod_consensus_core::Handover;

use super::*;

fn ballot() -> impl Strategy<Value = Ballot> {
    (any::<u64>(), any::<u64>()).prop_map(|(round, node)| Ballot { round, node })
}

fn index() -> impl Strategy<Value = Index> {
    // Includes the extremes, where steps wrap around.
    prop_oneof![0..4_u64, any::<u64>(), Just(u64::MAX)].prop_map(Index::new)
}

fn entry() -> impl Strategy<Value = Entry> {
    let kind = prop_oneof![
        Just(EntryKind::Normal),
        Just(EntryKind::Noop),
        Just(EntryKind::Config)
    ];
    let id = (any::<u64>(), any::<u64>());
    let data = vec(any::<u8>(), 0..40);
    (index(), ballot(), id, kind, data).prop_map(|(index, ballot, (node, seq), kind, data)| {
        let node = NodeId::new(node);
        Entry::from(EntryFields {
            index,
            ballot,
            id: RequestId { node, seq },
            kind,
            data: Bytes::from(data),
        })
    })
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    vec(entry(), 0..6)
}

/// All messages that carry entries, and all of Multi-Paxos.
fn body() -> impl Strategy<Value = Body> {
    let position = (ballot(), index()).prop_map(|(ballot, index)| LogPosition { ballot, index });
    let handover = (ballot(), any::<u64>()).prop_map(|(by, count)| Handover {
        by,
        transfers: TransferEpoch(count),
    });
    let option = |one: bool, index: Index| one.then_some(index);
    prop_oneof![
        (position, entries(), index()).prop_map(|(prev, entries, commit)| Body::Raft(
            RaftBody::Append {
                prev,
                entries,
                commit
            }
        )),
        (index(), entries(), index()).prop_map(|(prev, entries, commit)| Body::Paxos(
            PaxosBody::Accept {
                prev,
                entries,
                commit
            }
        )),
        (index(), index(), entries(), any::<bool>(), index()).prop_map(
            move |(from, commit, entries, more, next)| Body::Paxos(PaxosBody::Promise {
                from,
                commit,
                entries,
                next: option(more, next),
                snapshot: None,
            })
        ),
        (index(), handover, any::<bool>()).prop_map(|(from, handover, has)| Body::Paxos(
            PaxosBody::Prepare {
                from,
                transfer: has.then_some(handover),
            }
        )),
        Just(Body::Paxos(PaxosBody::Nack)),
        index().prop_map(|upto| Body::Paxos(PaxosBody::Accepted { upto })),
        (index(), index()).prop_map(|(prev, held)| Body::Paxos(PaxosBody::Gap { prev, held })),
    ]
}

proptest! {
    #[test]
    fn messages_survive_the_round_trip(ballot in ballot(), mut body in body()) {
        // In an Accept every entry has the message's ballot, which is sent only once.
        if let Body::Paxos(PaxosBody::Accept { entries, .. }) = &mut body {
            entries.iter_mut().for_each(|entry| *entry = entry.with_ballot(ballot));
        }
        let (from, to) = (NodeId::new(1), NodeId::new(2));
        let message = Message { from, to, ballot, body };
        let bytes = Bytes::from(message_to_wire(GroupId::new(5), message.clone()).encode_to_vec());
        let back = message_from_wire(from, to, wire::Message::decode(bytes.clone()).unwrap());
        let (group, back) = back.unwrap();
        prop_assert_eq!((group, &back), (GroupId::new(5), &message));
        // Entries are slices of the received buffer, not copies.
        let entries = match back.body {
            Body::Raft(RaftBody::Append { entries, .. })
            | Body::Paxos(PaxosBody::Accept { entries, .. } | PaxosBody::Promise { entries, .. }) => entries,
            Body::Common(_) | Body::Raft(_) | Body::Paxos(_) => return Ok(()),
        };
        for entry in entries.iter().filter(|entry| !entry.data.is_empty()) {
            assert!(bytes.as_ptr_range().contains(&entry.data.as_ptr()));
        }
    }

    #[test]
    fn random_bytes_are_refused_or_decoded(bytes in vec(any::<u8>(), 0..200)) {
        if let Ok(message) = wire::Message::decode(bytes.as_slice()) {
            let _either = message_from_wire(NodeId::new(1), NodeId::new(2), message);
        }
    }

    /// Changing some bytes of valid messages reaches deeper than random bytes do.
    #[test]
    fn damaged_messages_are_refused_or_decoded(
        body in body(),
        damage in vec((any::<usize>(), any::<u8>()), 1..4),
    ) {
        let message = Message {
            from: NodeId::new(1),
            to: NodeId::new(2),
            ballot: Ballot::term(3),
            body,
        };
        let mut bytes = message_to_wire(GroupId::new(5), message).encode_to_vec();
        for (at, byte) in damage {
            let length = bytes.len();
            bytes[at % length] = byte;
        }
        if let Ok(message) = wire::Message::decode(bytes.as_slice()) {
            let _either = message_from_wire(NodeId::new(1), NodeId::new(2), message);
        }
    }
}
