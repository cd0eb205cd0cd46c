//! A message never vouches for anything that is not durable.

use synod_consensus_core::{AppendOutcome, Body, Entry, Message, PaxosBody, RaftBody};
use synod_types::Index;

use super::{Check, Invariant};
use crate::disk_model::DurableLog;

pub(crate) const RULE: Invariant = Invariant {
    name: "ack-durability",
    source: "Raft Figure 2: updated on stable storage before responding to RPCs; Paxos Made Simple §2.5",
};

/// Called when a message leaves its node.
pub(super) fn check(disk: &DurableLog, message: &Message) -> Check {
    let (from, to, ballot) = (message.from, message.to, message.ballot);
    let hard_state = disk.hard_state;
    // An answer to an older ballot was true when it was created.
    if ballot < hard_state.ballot {
        return Ok(());
    }
    let holds = match &message.body {
        Body::Raft(RaftBody::AppendReply {
            outcome: AppendOutcome::Matched(matched),
        }) => {
            let last = disk.last().index.max(disk.installed);
            hard_state.ballot == ballot && last >= *matched
        }
        Body::Raft(RaftBody::VoteReply { granted: true }) => {
            (ballot, Some(to)) == (hard_state.ballot, hard_state.vote)
        }
        Body::Raft(RaftBody::Vote { last, .. }) => {
            (ballot, Some(from)) == (hard_state.ballot, hard_state.vote) && disk.last() >= *last
        }
        Body::Paxos(PaxosBody::Prepare { .. }) => ballot == hard_state.ballot,
        Body::Paxos(PaxosBody::Promise {
            entries, snapshot, ..
        }) => {
            let covered = snapshot
                .as_ref()
                .map_or(Index::ZERO, |meta| meta.last.index);
            // An accepted entry may have been overwritten since, under a higher ballot.
            let newer = |own: &Entry, entry: &Entry| own.ballot >= entry.ballot;
            let kept = |entry: &Entry| {
                let own = disk.entries.get(&entry.index);
                let has = own.is_some_and(|own| newer(own, entry));
                has || entry.index <= covered.max(disk.start.last.index).max(disk.installed)
            };
            ballot == hard_state.ballot && entries.iter().all(kept)
        }
        Body::Paxos(PaxosBody::Accepted { upto }) => {
            ballot == hard_state.ballot && has_all(disk, *upto)
        }
        // The other messages vouch for nothing on the disk.
        Body::Common(_) | Body::Raft(_) | Body::Paxos(_) => true,
    };
    RULE.ensure(holds, || {
        format!(
            "{message:?} leaves with {hard_state:?} and the log up to {} on disk",
            disk.last()
        )
    })
}

/// Whether no slot up to this one is missing.
fn has_all(disk: &DurableLog, upto: Index) -> bool {
    let start = disk.start.last.index.max(disk.installed);
    upto <= start || disk.entries.range(start.next()..=upto).count() as u64 == upto.since(start)
}
