//! A leader has at most one uncommitted configuration.

use synod_consensus_core::{ConfigCommand, Entry, EntryKind, Membership, Write};
use synod_types::{Ballot, Index, NodeId};

use super::{Check, Invariant, Known};
use crate::Algorithm;

pub(crate) const RULE: Invariant = Invariant {
    name: "one-config",
    source: "Raft thesis §4.1, §4.3; Reconfiguring a State Machine §3.1, with a window of one; \
             Ongaro, bug in single-server membership changes (2015)",
};

pub(crate) const JOINT: Invariant = Invariant {
    name: "joint-consensus",
    source: "Raft thesis §4.3; Raft §6: the joint configuration needs majorities of both",
};

/// Called when a leader writes a configuration. A new leader may find two of them before it knows
/// that the first is committed, so only its own count. A Paxos leader proposes nothing after its
/// own configuration until that is chosen.
pub(super) fn check(
    algorithm: Algorithm,
    node: NodeId,
    known: &Known,
    write: &Write,
    leads: Option<(Ballot, Index)>,
) -> Check {
    let (Write::Put(entry), Some((ballot, commit))) = (write, leads) else {
        return Ok(());
    };
    let counts = match algorithm {
        Algorithm::Raft => entry.kind == EntryKind::Config,
        Algorithm::MultiPaxos => true,
    };
    if !counts || entry.ballot != ballot || entry.index <= commit {
        return Ok(());
    }
    if algorithm == Algorithm::Raft {
        check_step(node, known, entry)?;
    }
    let open = known.shadow.entries.range(commit.next()..entry.index);
    let open = open.filter(|(_, open)| match algorithm {
        Algorithm::Raft => open.kind == EntryKind::Config,
        Algorithm::MultiPaxos => open.kind == EntryKind::Config && open.ballot == ballot,
    });
    RULE.ensure(open.count() == 0, || {
        format!("n{node} adds {entry:?} in {ballot} while another configuration is not committed")
    })
}

/// The voters change only through a joint configuration, because the majorities of two
/// configurations need not overlap.
fn check_step(node: NodeId, known: &Known, entry: &Entry) -> Check {
    let decode = |entry: &Entry| ConfigCommand::decode(entry.data.clone()).ok();
    let before = known.shadow.entries.range(..entry.index).rev();
    let mut before = before.filter(|(_, entry)| entry.kind == EntryKind::Config);
    let before = before.find_map(|(_, entry)| Some(decode(entry)?.membership));
    let before: Membership = before.unwrap_or_else(|| known.shadow.start.membership.clone());
    let Some(next) = decode(entry).map(|command| command.membership) else {
        return Ok(());
    };
    let joins = before.outgoing.is_empty() && next.outgoing == before.voters;
    JOINT.ensure(next.voters == before.voters || joins, || {
        format!("n{node} changes from {before:?} to {next:?} without a joint configuration")
    })
}
