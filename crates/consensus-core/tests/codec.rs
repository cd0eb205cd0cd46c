//! Configuration commands and memberships: round trips, damage, golden bytes, quorum arithmetic.

use std::collections::BTreeSet;

use bytes::Bytes;
use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, proptest};
use synod_consensus_core::{Change, ConfigCommand, DecodeError, Membership, MembershipError};
use synod_types::NodeId;

fn nodes(ids: &[u64]) -> BTreeSet<NodeId> {
    ids.iter().copied().map(NodeId::new).collect()
}

fn sample() -> ConfigCommand {
    ConfigCommand {
        membership: Membership {
            voters: nodes(&[1, 2]),
            outgoing: nodes(&[2, 3]),
            learners: nodes(&[4]),
            learners_next: nodes(&[3]),
        },
        context: Bytes::from_static(b"hi"),
    }
}

#[test]
fn golden_bytes() {
    let mut expected = vec![1];
    for set in [&[1_u64, 2][..], &[2, 3], &[4], &[3]] {
        expected.extend(u32::try_from(set.len()).unwrap().to_le_bytes());
        expected.extend(set.iter().flat_map(|id| id.to_le_bytes()));
    }
    expected.extend([2, 0, 0, 0, b'h', b'i']);
    assert_eq!(sample().encode(), expected);
}

#[test]
fn damage_is_detected() {
    let good = sample().encode();
    for length in 0..good.len() {
        assert_eq!(
            ConfigCommand::decode(good.slice(..length)),
            Err(DecodeError::Truncated)
        );
    }
    let mut long = good.to_vec();
    long.push(0);
    assert_eq!(
        ConfigCommand::decode(long.into()),
        Err(DecodeError::Trailing(1))
    );
    let with = |at: usize, byte: u8| {
        let mut bytes = good.to_vec();
        bytes[at] = byte;
        ConfigCommand::decode(bytes.into())
    };
    assert_eq!(with(0, 2), Err(DecodeError::Version(2)));
    assert_eq!(with(13, 1), Err(DecodeError::Order));
    assert_eq!(with(4, 255), Err(DecodeError::Truncated));
    let both = MembershipError::VoterAndLearner(NodeId::new(4));
    assert_eq!(with(13, 4), Err(DecodeError::Membership(both)));
    assert_eq!(
        with(5, 0),
        Err(DecodeError::Membership(MembershipError::NoNode))
    );
}

/// A majority by counting, for comparison.
fn counted(members: &BTreeSet<NodeId>, yes: &BTreeSet<NodeId>) -> bool {
    members.intersection(yes).count() * 2 > members.len()
}

fn ids() -> impl Strategy<Value = BTreeSet<NodeId>> {
    proptest::collection::btree_set((1_u64..16).prop_map(NodeId::new), 1..13)
}

proptest! {
    #[test]
    fn any_bytes_decode_to_what_encodes_to_them(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
        let bytes = Bytes::from(bytes);
        if let Ok(command) = ConfigCommand::decode(bytes.clone()) {
            prop_assert_eq!(command.encode(), bytes);
        }
    }

    #[test]
    fn quorums_are_majorities_of_both_sets(voters in ids(), outgoing in ids(), joint: bool, yes in ids()) {
        let membership = Membership {
            outgoing: if joint { outgoing.clone() } else { BTreeSet::new() },
            voters: voters.clone(),
            ..Membership::default()
        };
        let expected = counted(&voters, &yes) && (!joint || counted(&outgoing, &yes));
        prop_assert_eq!(membership.is_quorum(|node| yes.contains(&node)), expected);
        // Two quorums intersect: the nodes that don't say yes contain none.
        if expected {
            prop_assert!(!membership.is_quorum(|node| !yes.contains(&node)));
            prop_assert!(membership.is_blocked_by(|node| yes.contains(&node)));
        }
    }

    #[test]
    fn changes_have_the_described_effect(before in ids(), learners in ids(), picks in proptest::collection::vec((0_u8..5, 1_u64..16), 1..5)) {
        let before = Membership {
            learners: learners.difference(&before).copied().collect(),
            voters: before,
            ..Membership::default()
        };
        let changes: Vec<Change> = picks.iter().map(|(kind, id)| {
            let id = NodeId::new(*id);
            match kind {
                0 => Change::AddVoter(id),
                1 => Change::AddLearner(id),
                2 => Change::Promote(id),
                3 => Change::Demote(id),
                _ => Change::Remove(id),
            }
        }).collect();
        if let Ok(joint) = before.change(&changes) {
            prop_assert_eq!(joint.validate(), Ok(()));
            prop_assert_eq!(joint.is_joint(), joint.voters != before.voters);
            let after = joint.leave();
            prop_assert_eq!(after.validate(), Ok(()));
            prop_assert!(!after.is_joint());
            for change in changes {
                let node = change.node();
                let (voter, learner) = match change {
                    Change::AddVoter(_) | Change::Promote(_) => (true, false),
                    Change::AddLearner(_) | Change::Demote(_) => (false, true),
                    Change::Remove(_) => (false, false),
                };
                prop_assert_eq!((after.is_voter(node), after.is_learner(node)), (voter, learner));
            }
            let command = ConfigCommand { membership: joint, context: Bytes::new() };
            prop_assert_eq!(ConfigCommand::decode(command.encode()), Ok(command));
        }
    }
}
