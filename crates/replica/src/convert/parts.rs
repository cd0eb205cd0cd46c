//! Converts positions, memberships and membership changes.

use std::collections::BTreeSet;

use synod_consensus_core::{Change, Membership, SnapshotMeta};
use synod_proto::replica::v1 as wire;
use synod_types::{Ballot, Index, LogPosition, NodeId};

use super::WireError;

/// Zero, the default, is omitted.
pub(super) fn ballot_to_wire(ballot: Ballot) -> Option<wire::Ballot> {
    (ballot != Ballot::ZERO).then_some(wire::Ballot {
        round: ballot.round,
        node: ballot.node,
    })
}

pub(super) fn ballot_from_wire(ballot: wire::Ballot) -> Ballot {
    Ballot {
        round: ballot.round,
        node: ballot.node,
    }
}

/// Zero, the position before the first entry, is omitted.
pub(crate) fn position_to_wire(position: LogPosition) -> Option<wire::Position> {
    (position != LogPosition::ZERO).then(|| wire::Position {
        ballot: ballot_to_wire(position.ballot),
        index: position.index.get(),
    })
}

pub(crate) fn position_from_wire(position: Option<wire::Position>) -> LogPosition {
    let position = position.unwrap_or_default();
    LogPosition {
        ballot: ballot_from_wire(position.ballot.unwrap_or_default()),
        index: Index::new(position.index),
    }
}

pub(crate) fn meta_to_wire(meta: &SnapshotMeta) -> wire::SnapshotMeta {
    let nodes = |set: &BTreeSet<NodeId>| set.iter().map(|node| node.get()).collect();
    wire::SnapshotMeta {
        last: position_to_wire(meta.last),
        membership: Some(wire::Membership {
            voters: nodes(&meta.membership.voters),
            outgoing: nodes(&meta.membership.outgoing),
            learners: nodes(&meta.membership.learners),
            learners_next: nodes(&meta.membership.learners_next),
        }),
    }
}

pub(crate) fn meta_from_wire(meta: wire::SnapshotMeta) -> Result<SnapshotMeta, WireError> {
    let sets = meta.membership.ok_or(WireError::Missing("membership"))?;
    let nodes = |ids: Vec<u64>| ids.into_iter().map(NodeId::new).collect();
    let membership = Membership {
        voters: nodes(sets.voters),
        outgoing: nodes(sets.outgoing),
        learners: nodes(sets.learners),
        learners_next: nodes(sets.learners_next),
    };
    membership.validate().map_err(|_| WireError::Membership)?;
    Ok(SnapshotMeta {
        last: position_from_wire(meta.last),
        membership,
    })
}

pub(super) fn change_to_wire(change: Change) -> wire::Change {
    use wire::change::Kind;
    let kind = match change {
        Change::AddVoter(_) => Kind::AddVoter,
        Change::AddLearner(_) => Kind::AddLearner,
        Change::Promote(_) => Kind::Promote,
        Change::Demote(_) => Kind::Demote,
        Change::Remove(_) => Kind::Remove,
    };
    wire::Change {
        kind: kind.into(),
        node: change.node().get(),
    }
}

pub(super) fn change_from_wire(change: &wire::Change) -> Result<Change, WireError> {
    use wire::change::Kind;
    let node = NodeId::new(change.node);
    match Kind::try_from(change.kind) {
        Ok(Kind::AddVoter) => Ok(Change::AddVoter(node)),
        Ok(Kind::AddLearner) => Ok(Change::AddLearner(node)),
        Ok(Kind::Promote) => Ok(Change::Promote(node)),
        Ok(Kind::Demote) => Ok(Change::Demote(node)),
        Ok(Kind::Remove) => Ok(Change::Remove(node)),
        Ok(Kind::Unspecified) | Err(_) => Err(WireError::Unknown {
            field: "change.kind",
            value: change.kind,
        }),
    }
}
