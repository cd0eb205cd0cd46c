//! A committed entry is on the disks of a quorum, and stays there.

use std::collections::BTreeSet;

use synod_consensus_core::{Entry, Membership, Write};
use synod_types::NodeId;

use super::{Agreement, Check, Invariant, Known};
use crate::Algorithm;
use crate::disk_model::{DurableLog, same_entry};

pub(crate) const RULE: Invariant = Invariant {
    name: "durable-quorum",
    source: "Raft §5.3, §5.4.2; Paxos Made Simple §2.1: chosen by a majority of acceptors",
};

pub(super) const KEPT: Invariant = Invariant {
    name: "committed-kept",
    source: "Raft §5.4.3, Figure 3; Paxos Made Simple §2.2, P2: once chosen, always chosen",
};

/// Called when an entry is handed out for the first time. The quorum is one of these memberships:
/// the leader's current one or the one before this turn. Disks of crashed nodes count.
pub(super) fn check<'a>(
    algorithm: Algorithm,
    memberships: [Option<&Membership>; 2],
    node: NodeId,
    entry: &Entry,
    known: impl Fn(NodeId) -> Option<&'a Known>,
) -> Check {
    let holds = |id| known(id).is_some_and(|known| known.disk.holds(algorithm, entry));
    let mut all = memberships.into_iter().flatten();
    RULE.ensure(all.any(|membership| has_quorum(membership, holds)), || {
        let members = memberships
            .into_iter()
            .flatten()
            .flat_map(Membership::members);
        let holders: BTreeSet<NodeId> = members.filter(|id| holds(*id)).collect();
        format!("n{node} commits {entry:?}, which only {holders:?} of {memberships:?} have on disk")
    })
}

/// Counted here, independently of the code under test.
pub(super) fn has_quorum(membership: &Membership, holds: impl Fn(NodeId) -> bool) -> bool {
    let majority = |voters: &BTreeSet<NodeId>| {
        voters.is_empty() || 2 * voters.iter().filter(|id| holds(**id)).count() > voters.len()
    };
    !membership.voters.is_empty() && majority(&membership.voters) && majority(&membership.outgoing)
}

/// Called before a write becomes durable. It must not replace a committed value with a different
/// one.
pub(super) fn check_kept(
    algorithm: Algorithm,
    node: NodeId,
    disk: &DurableLog,
    write: &Write,
    agreement: &Agreement,
) -> Check {
    let is_committed = |own: &Entry| {
        let committed = agreement.entry(own.index);
        committed.is_some_and(|committed| same_entry(algorithm, committed, own))
    };
    let lost = match write {
        Write::Put(entry) => disk
            .entries
            .get(&entry.index)
            .filter(|own| !same_entry(algorithm, own, entry) && is_committed(own)),
        Write::TruncateFrom(from) => disk
            .entries
            .range(from..)
            .map(|(_, own)| own)
            .find(|own| is_committed(own)),
        // The state machine has these entries.
        Write::Reset(meta) => disk
            .entries
            .range(meta.last.index.next()..)
            .map(|(_, own)| own)
            .find(|own| is_committed(own)),
        // Only entries that a state machine holds durably are removed.
        Write::Advance(_) | Write::HardState(_) => None,
    };
    match lost {
        Some(lost) => Err(KEPT.broken(format!(
            "n{node} writes {write:?} in place of the committed {lost:?}"
        ))),
        None => Ok(()),
    }
}
