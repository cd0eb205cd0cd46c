//! History that a model needs to check the present.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use synod_consensus_core::{ConfigCommand, Entry, EntryKind, Membership, SnapshotMeta};
use synod_types::{Ballot, Index, NodeId};

use crate::node::{Core, Effects, Node};

/// History that properties need and no node has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Ghost {
    /// Everything that any node ever reported as committed.
    pub(crate) committed: BTreeMap<Index, Committed>,
    /// The leader of each ballot.
    pub(crate) leaders: BTreeMap<Ballot, NodeId>,
    pub(crate) violations: Violations,
    /// Whether a proposal was committed after a node had crashed.
    pub(crate) committed_after_crash: bool,
    /// The commit index when each read was requested.
    pub(crate) asked: BTreeMap<u8, Index>,
    /// Whether a read was answered.
    pub(crate) read: bool,
    /// Whether a snapshot was installed.
    pub(crate) installed: bool,
}

/// A committed entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Committed {
    pub(crate) entry: Entry,
    /// The ballot in which it was first committed: the leader's, which learns of it first.
    ballot: Ballot,
}

/// The rules that a step violated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Violations(u8);

impl Violations {
    /// Two nodes committed different entries at one index; in Paxos, two values were chosen.
    pub const AGREEMENT: Self = Self(1);
    /// One ballot had two leaders (Raft §5.2, election safety).
    pub const ELECTION: Self = Self(2);
    /// A new leader lacks a committed entry (Raft §5.4.3).
    pub const COMPLETENESS: Self = Self(4);
    /// One of the core's assertions failed.
    pub const PANIC: Self = Self(8);
    /// A read may miss entries that were committed when it was requested.
    pub const READ: Self = Self(16);
    /// A snapshot has uncommitted entries, or not the membership of its last entry.
    pub const SNAPSHOT: Self = Self(32);
    /// A core made an invalid request.
    pub const INVALID: Self = Self(64);

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
            (Self::PANIC, "the core's assertions"),
            (Self::READ, "linearizable reads"),
            (Self::SNAPSHOT, "snapshots"),
            (Self::INVALID, "an invalid request of the core"),
        ];
        let broken = names.iter().filter(|(rule, _)| self.has(*rule));
        let names: Vec<&str> = broken.map(|(_, name)| *name).collect();
        f.write_str(&names.join(", "))
    }
}

impl Ghost {
    /// Records what a node revealed.
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
        if let Some(led) = &effects.led {
            if *self.leaders.entry(led.ballot).or_insert(node) != node {
                self.violations.add(Violations::ELECTION);
            }
            let must_have = |c: &&Committed| c.ballot < led.ballot && c.entry.index > led.start;
            let mut committed = self.committed.values().filter(must_have);
            let has = |c: &Committed| led.log.get(&c.entry.index) == Some(&c.entry);
            if C::LEADER_COMPLETENESS && !committed.all(has) {
                self.violations.add(Violations::COMPLETENESS);
            }
        }
        if let Some((meta, goes_by)) = &effects.installed {
            self.installed = true;
            let is_right = *goes_by == meta.membership && self.knows::<C>(meta);
            if !is_right {
                self.violations.add(Violations::SNAPSHOT);
            }
        }
        for read in &effects.reads {
            self.read = true;
            let number = u8::try_from(read.ctx.0).expect("few reads");
            if self
                .asked
                .get(&number)
                .is_none_or(|asked| read.index < *asked)
            {
                self.violations.add(Violations::READ);
            }
        }
        if effects.is_invalid {
            self.violations.add(Violations::INVALID);
        }
    }

    /// Records a read request. The read must not miss anything that is committed now.
    pub(crate) fn ask(&mut self, number: u8) {
        let last = self.committed.keys().next_back().copied();
        self.asked.insert(number, last.unwrap_or_default());
    }

    /// Whether a snapshot matches the committed entries. The initial membership is in no entry.
    fn knows<C: Core>(&self, meta: &SnapshotMeta) -> bool {
        let last = self.committed.get(&meta.last.index);
        last.is_some_and(|last| !C::LEADER_COMPLETENESS || last.entry.position() == meta.last)
            && self
                .membership_at(meta.last.index)
                .is_none_or(|(_, is)| is == meta.membership)
    }

    /// The latest committed membership at `index`, and the index of its entry.
    fn membership_at(&self, index: Index) -> Option<(Index, Membership)> {
        let entries = self.committed.range(..=index).rev().map(|(_, c)| &c.entry);
        let mut configs = entries.filter(|entry| entry.kind == EntryKind::Config);
        let entry = configs.next()?;
        let command = ConfigCommand::decode(entry.data.clone());
        Some((entry.index, command.expect("a configuration").membership))
    }

    /// Whether a quorum has each committed entry durably, in the log or applied. The quorum is that
    /// of the last committed membership. Entries before it are in the same logs. Entries after a
    /// joint configuration may be committed by its successor, which is then in the leader's log.
    pub(crate) fn is_durable<C: Core>(&self, nodes: &[&Node<C>], first: &Membership) -> bool {
        let latest = self.membership_at(Index::MAX);
        let (since, membership) = latest
            .as_ref()
            .map_or((Index::MAX, first), |(since, latest)| (*since, latest));
        self.committed.iter().all(|(index, committed)| {
            let has = |voter: &&NodeId| {
                let at = usize::try_from(voter.get() - 1).expect("one of three");
                let durable = nodes[at].durable(*index);
                *index <= nodes[at].durably_applied()
                    || durable.is_some_and(|durable| value::<C>(durable) == committed.entry)
            };
            // Counted here, independently of the code under test.
            let is_majority = |voters: &BTreeSet<NodeId>| {
                let holders = voters.iter().filter(has).count();
                voters.is_empty() || holders > voters.len() / 2
            };
            is_majority(&membership.voters) && (*index > since || is_majority(&membership.outgoing))
        })
    }
}

/// The part of an entry that must be the same on all nodes. In Paxos it is only the value, since
/// later ballots accept it again.
fn value<C: Core>(entry: &Entry) -> Entry {
    if C::LEADER_COMPLETENESS {
        entry.clone()
    } else {
        entry.with_ballot(Ballot::ZERO)
    }
}
