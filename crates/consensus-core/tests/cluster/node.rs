//! One node: a core, its disk, its state machine and its clock.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use synod_consensus_core::{
    Algorithm, ConfigCommand, Consensus, CoreConfig, Entry, EntryKind, HardState, Install,
    Membership, Message, ReadContext, Restored, SnapshotMeta, Write,
};
use synod_types::{Ballot, Index, LogPosition, NodeId, RequestId, Tick, WriteSeq};

/// A log built from its writes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    pub(crate) algorithm: Algorithm,
    pub(crate) hard_state: HardState,
    pub(crate) start: SnapshotMeta,
    pub(crate) entries: BTreeMap<Index, Entry>,
}

impl Disk {
    pub(crate) fn write(&mut self, write: &Write) {
        match write {
            Write::Put(entry) => {
                if self.algorithm == Algorithm::Raft {
                    assert_eq!(entry.index, self.last().index.next(), "no gaps in the log");
                } else if entry.index <= self.start.last.index {
                    return;
                }
                self.entries.insert(entry.index, entry.clone());
            }
            Write::TruncateFrom(index) => {
                self.entries.split_off(index);
            }
            Write::Reset(meta) => {
                self.entries.clear();
                self.start = meta.clone();
            }
            Write::Advance(meta) => {
                self.entries = self.entries.split_off(&meta.last.index.next());
                self.start = meta.clone();
            }
            Write::HardState(hard_state) => {
                assert!(hard_state.ballot >= self.hard_state.ballot, "ballots grow");
                assert!(hard_state.commit >= self.hard_state.commit, "commits grow");
                if hard_state.ballot == self.hard_state.ballot {
                    let before = self.hard_state.vote;
                    assert!(before.is_none() || before == hard_state.vote, "one vote");
                }
                self.hard_state = *hard_state;
            }
        }
    }

    pub(crate) fn last(&self) -> LogPosition {
        let last = self.entries.values().next_back();
        last.map_or(self.start.last, Entry::position)
    }

    pub(crate) fn ballot_at(&self, index: Index) -> Option<Ballot> {
        if index == self.start.last.index {
            return Some(self.start.last.ballot);
        }
        self.entries.get(&index).map(|entry| entry.ballot)
    }

    /// Whether the entry is here, or in a snapshot that replaced it.
    pub(crate) fn holds(&self, entry: &Entry) -> bool {
        entry.index <= self.start.last.index
            || self
                .entries
                .get(&entry.index)
                .is_some_and(|e| match self.algorithm {
                    Algorithm::Raft => e == entry,
                    Algorithm::MultiPaxos => value(e) == value(entry),
                })
    }

    fn release(&mut self, meta: SnapshotMeta) {
        self.entries = self.entries.split_off(&meta.last.index.next());
        self.start = meta;
    }
}

/// An entry's content without its ballot.
pub(crate) fn value(entry: &Entry) -> (Index, RequestId, EntryKind, &Bytes) {
    (entry.index, entry.id, entry.kind, &entry.data)
}

/// A state machine that records everything it has applied.
#[derive(Clone, Debug, Default)]
pub(crate) struct Machine {
    pub(crate) applied: Vec<Entry>,
    /// Survives a crash.
    pub(crate) durable: usize,
    memberships: Vec<(Index, Membership)>,
}

impl Machine {
    pub(crate) fn new(initial: Membership) -> Self {
        Self {
            memberships: vec![(Index::ZERO, initial)],
            ..Self::default()
        }
    }

    pub(crate) fn apply(&mut self, entry: Entry) {
        assert_eq!(entry.index, Index::new(self.applied.len() as u64 + 1));
        if entry.kind == EntryKind::Config {
            let command = ConfigCommand::decode(entry.data.clone()).unwrap();
            self.memberships.push((entry.index, command.membership));
        }
        self.applied.push(entry);
    }

    pub(crate) fn index(&self) -> Index {
        Index::new(self.applied.len() as u64)
    }

    pub(crate) fn meta_at(&self, index: Index) -> SnapshotMeta {
        let last = match usize::try_from(index.get()).unwrap().checked_sub(1) {
            None => LogPosition::ZERO,
            Some(at) => self.applied[at].position(),
        };
        let membership = self.memberships.iter().rev().find(|(i, _)| *i <= index);
        SnapshotMeta {
            last,
            membership: membership.unwrap().1.clone(),
        }
    }

    fn crash(&mut self) {
        self.applied.truncate(self.durable);
        let index = self.index();
        self.memberships.retain(|(i, _)| *i <= index);
    }
}

/// Writes in flight to the disk, and messages that wait for them.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub(crate) seq: WriteSeq,
    pub(crate) writes: Vec<Write>,
    pub(crate) messages: Vec<Message>,
}

pub(crate) struct Node {
    pub(crate) algorithm: Algorithm,
    pub(crate) id: NodeId,
    pub(crate) config: CoreConfig,
    /// `None` while crashed.
    pub(crate) core: Option<Box<dyn Consensus>>,
    pub(crate) disk: Disk,
    /// The disk after all writes.
    pub(crate) shadow: Disk,
    pub(crate) pending: VecDeque<Pending>,
    pub(crate) machine: Machine,
    pub(crate) to_apply: VecDeque<Entry>,
    /// The last index that was handed out.
    pub(crate) handed: Index,
    pub(crate) install: Option<Install>,
    /// The cluster's commit index when each read was requested.
    pub(crate) reads: BTreeMap<ReadContext, Index>,
    pub(crate) slow_disk: bool,
    clock_offset: u64,
    /// Ticks of this clock per hundred ticks of the world's.
    clock_rate: u64,
}

impl Node {
    pub(crate) fn new(
        algorithm: Algorithm,
        config: CoreConfig,
        initial: &Membership,
        clock_rate: u64,
    ) -> Self {
        let initial = if initial.contains(config.id) {
            initial.clone()
        } else {
            Membership::default()
        };
        let start = SnapshotMeta {
            last: LogPosition::ZERO,
            membership: initial.clone(),
        };
        let disk = Disk {
            algorithm,
            start,
            ..Disk::default()
        };
        Self {
            algorithm,
            id: config.id,
            config,
            core: None,
            shadow: disk.clone(),
            disk,
            pending: VecDeque::new(),
            machine: Machine::new(initial),
            to_apply: VecDeque::new(),
            handed: Index::ZERO,
            install: None,
            reads: BTreeMap::new(),
            slow_disk: false,
            clock_offset: 0,
            clock_rate,
        }
    }

    pub(crate) fn now(&self, world: u64) -> Tick {
        Tick::new(self.clock_offset + world * self.clock_rate / 100)
    }

    pub(crate) fn start(&mut self, world: u64, seed: u64) {
        self.clock_offset = seed % 1000;
        self.config.seed = seed;
        let restored = Restored {
            hard_state: self.disk.hard_state,
            start: self.disk.start.clone(),
            entries: self.disk.entries.values().cloned().collect(),
            applied: self.machine.meta_at(self.machine.index()),
        };
        let now = self.now(world);
        self.handed = self.machine.index();
        let core = self.algorithm.start(self.config.clone(), restored, now);
        self.core = Some(core.unwrap());
    }

    /// Loses everything that isn't durable. `torn` writes of the first batch in flight reach the
    /// disk.
    pub(crate) fn crash(&mut self, torn: usize) {
        self.core = None;
        if let Some(pending) = self.pending.pop_front() {
            for write in pending.writes.iter().take(torn) {
                self.disk.write(write);
            }
        }
        self.pending.clear();
        self.shadow = self.disk.clone();
        self.machine.crash();
        self.to_apply.clear();
        self.install = None;
        self.reads.clear();
    }

    /// Compacts log entries that the durable state machine covers.
    pub(crate) fn compact(&mut self, index: Index) {
        let meta = self.machine.meta_at(index);
        for disk in [&mut self.disk, &mut self.shadow] {
            let fits = match self.algorithm {
                Algorithm::Raft => disk.ballot_at(index) == Some(meta.last.ballot),
                Algorithm::MultiPaxos => true,
            };
            if index > disk.start.last.index && fits {
                disk.release(meta.clone());
            }
        }
    }
}
