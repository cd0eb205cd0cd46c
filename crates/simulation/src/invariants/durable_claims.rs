//! Everything that a core considers durable is on its disk, as its log has it now.

use synod_consensus_core::Status;
use synod_types::{Index, NodeId};

use super::{Check, Invariant, Known};

pub(crate) const RULE: Invariant = Invariant {
    name: "durable-claims",
    source: "Paxos Made Simple §2.5: an acceptor records what it accepts before it says so, and a leader counts itself \
             as any other; raft-rs, asynchronous appends: a completion only counts for its own write",
};

/// Called after a turn, when everything was handed out. Entries up to `commit`, the commit index of
/// the previous turn, are no longer counted. Ballots are compared in Multi-Paxos, too: an acceptor
/// accepted a value in the ballot in which it wrote it.
pub(super) fn check(node: NodeId, known: &Known, commit: Index, status: &Status) -> Check {
    let (disk, log) = (&known.disk, &known.shadow);
    let start = commit.max(disk.start.last.index).max(disk.installed);
    let claimed = log.entries.range(start.next()..);
    for (index, entry) in claimed.take_while(|(index, _)| **index <= status.durable) {
        let found = disk.entries.get(index);
        RULE.ensure(found == Some(entry), || {
            let durable = status.durable;
            format!("n{node} considers its log durable up to {durable}; it holds {entry:?}, but the disk holds {found:?}")
        })?;
    }
    Ok(())
}
