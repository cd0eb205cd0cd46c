//! What the world remembers of the past, to judge the present by.

use std::{collections::BTreeMap, fmt};

use synod_consensus_core::{Entry, EntryKind};
use synod_types::{Ballot, Index, NodeId};

use crate::node::{Core, Effects, Node};

/// History that properties need and no node has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Ghost {
    /// What any node has ever said to be committed.
    pub(crate) committed: BTreeMap<Index, Committed>,
    /// Who led in each ballot.
    pub(crate) leaders: BTreeMap<Ballot, NodeId>,
    pub(crate) violations: Violations,
    /// A proposal was committed after a node had crashed.
    pub(crate) committed_after_crash: bool,
}

/// An entry and its first commit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Committed {
    pub(crate) entry: Entry,
    /// In which ballot: that of the leader, who knows first.
    ballot: Ballot,
}

/// Rules that a step has broken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Violations(u8);

impl Violations {
    /// Two nodes committed different entries at one index (Paxos: two values were chosen).
    pub const AGREEMENT: Self = Self(1);
    /// Two nodes led in one ballot (Raft §5.2, election safety).
    pub const ELECTION: Self = Self(2);
    /// A new leader lacks a committed entry (Raft §5.4.3).
    pub const COMPLETENESS: Self = Self(4);
    /// A core failed one of its own assertions.
    pub const PANIC: Self = Self(8);
    /// A core asked for what makes no sense here.
    pub const SENSELESS: Self = Self(16);

    pub(crate) fn add(&mut self, other: Self) {
        self.0 |= other.0;
    }

    pub(crate) fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(crate) fn any(self) -> bool {
        self.0 != 0
    }
}

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (Self::AGREEMENT, "agreement"),
            (Self::ELECTION, "election safety"),
            (Self::COMPLETENESS, "leader completeness"),
            (Self::PANIC, "an assertion of the core"),
            (Self::SENSELESS, "a senseless request of the core"),
        ];
        let broken = names.iter().filter(|(rule, _)| self.has(*rule));
        let names: Vec<&str> = broken.map(|(_, name)| *name).collect();
        f.write_str(&names.join(", "))
    }
}

impl Ghost {
    /// Notes what a node let the world know.
    pub(crate) fn observe<C: Core>(&mut self, node: NodeId, effects: &Effects, crashes: u8) {
        for entry in &effects.committed {
            let entry = value::<C>(entry);
            self.committed_after_crash |= crashes > 0 && entry.kind == EntryKind::Normal;
            let index = entry.index;
            let ballot = effects.ballot;
            let first = self.committed.entry(index).or_insert_with(|| Committed {
                entry: entry.clone(),
                ballot,
            });
            if first.entry != entry {
                self.violations.add(Violations::AGREEMENT);
            }
        }
        if let Some((ballot, log)) = &effects.led {
            if *self.leaders.entry(*ballot).or_insert(node) != node {
                self.violations.add(Violations::ELECTION);
            }
            let must_have = |committed: &&Committed| committed.ballot < *ballot;
            let mut committed = self.committed.values().filter(must_have);
            let has = |c: &Committed| log.get(&c.entry.index) == Some(&c.entry);
            if C::LEADER_COMPLETENESS && !committed.all(has) {
                self.violations.add(Violations::COMPLETENESS);
            }
        }
        if effects.senseless {
            self.violations.add(Violations::SENSELESS);
        }
    }

    /// Whether a majority has each committed entry on its disk.
    pub(crate) fn is_durable<C: Core>(&self, nodes: &[&Node<C>]) -> bool {
        self.committed.iter().all(|(index, committed)| {
            let has = |node: &&&Node<C>| {
                let durable = node.durable(*index);
                durable.is_some_and(|durable| value::<C>(durable) == committed.entry)
            };
            nodes.iter().filter(has).count() > nodes.len() / 2
        })
    }
}

/// What must be the same everywhere: in Paxos the value alone, which later ballots accept again.
fn value<C: Core>(entry: &Entry) -> Entry {
    if C::LEADER_COMPLETENESS {
        entry.clone()
    } else {
        entry.with_ballot(Ballot::ZERO)
    }
}
