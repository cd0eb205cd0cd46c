//! One node: a core and the shell around it.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt::Debug,
    hash::{DefaultHasher, Hash, Hasher as _},
};

use synod_consensus_core::{
    Consensus, CoreConfig, Entry, HardState, Input, Membership, Message, MultiPaxos, Raft, Ready,
    Restored, Role, SnapshotMeta, Write,
};
use synod_types::{Ballot, Index, LogPosition, NodeId, Tick, WriteSeq};

/// A core that can be modelled.
pub trait Core: Consensus + Clone + Eq + Hash + Debug + Send + Sync + 'static {
    /// Whether a leader has every committed entry in its log from the start, and entries keep their ballot
    /// (Raft §5.4.3). Multi-Paxos collects them in phase 1.
    const LEADER_COMPLETENESS: bool;

    /// Starts it.
    fn start(config: CoreConfig, restored: Restored) -> Self;
}

impl Core for Raft {
    const LEADER_COMPLETENESS: bool = true;

    fn start(config: CoreConfig, restored: Restored) -> Self {
        Self::new(config, restored, Tick::ZERO).expect("what was written can be restored")
    }
}

impl Core for MultiPaxos {
    const LEADER_COMPLETENESS: bool = false;

    fn start(config: CoreConfig, restored: Restored) -> Self {
        Self::new(config, restored, Tick::ZERO).expect("what was written can be restored")
    }
}

/// When writes become durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disks {
    /// At once.
    Instant,
    /// When the model says so, batch by batch.
    Slow,
}

/// What the shell does wrong, to see that somebody notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shell {
    /// Nothing.
    Correct,
    /// Sends before the disk has what the message claims.
    SendsBeforePersistence,
    /// Forgets the vote in a crash.
    ForgetsVote,
    /// Reports writes as durable that are not.
    ReportsTooEarly,
}

/// A node's whole state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Node<C> {
    core: C,
    disk: Disk,
    /// Writes on their way to the disk.
    pending: VecDeque<Batch>,
    /// Messages that wait for them.
    waiting: VecDeque<(WriteSeq, Message)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Batch {
    seq: WriteSeq,
    writes: VecDeque<Write>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Disk {
    hard_state: HardState,
    entries: BTreeMap<Index, Entry>,
}

/// What a node let the world know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Effects {
    pub(crate) sent: Vec<Message>,
    pub(crate) committed: Vec<Entry>,
    /// The node's ballot then.
    pub(crate) ballot: Ballot,
    /// The ballot in which it began to lead, and its log then.
    pub(crate) led: Option<(Ballot, BTreeMap<Index, Entry>)>,
    /// Writes of the core that no shell could carry out.
    pub(crate) senseless: bool,
}

impl Disk {
    fn write(&mut self, write: Write) {
        match write {
            Write::Put(entry) => {
                self.entries.insert(entry.index, entry);
            }
            Write::TruncateFrom(index) => {
                self.entries.split_off(&index);
            }
            Write::Reset(_) | Write::Advance(_) => unreachable!("nothing is compacted here"),
            Write::HardState(state) => self.hard_state = state,
        }
    }
}

impl<C: Core> Node<C> {
    pub(crate) fn new(config: CoreConfig, nodes: u64) -> Self {
        Self::restart(config, Disk::default(), nodes)
    }

    fn restart(config: CoreConfig, disk: Disk, nodes: u64) -> Self {
        let start = SnapshotMeta {
            last: LogPosition::ZERO,
            membership: Membership::of((1..=nodes).map(NodeId::new)),
        };
        let restored = Restored {
            hard_state: disk.hard_state,
            start: start.clone(),
            entries: disk.entries.values().cloned().collect(),
            applied: start,
        };
        Self {
            core: C::start(config, restored),
            disk,
            pending: VecDeque::new(),
            waiting: VecDeque::new(),
        }
    }

    /// The entry that is durable at `index`.
    pub(crate) fn durable(&self, index: Index) -> Option<&Entry> {
        self.disk.entries.get(&index)
    }

    pub(crate) fn leads(&self) -> bool {
        self.core.status().role == Role::Leader
    }

    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// In how many places a crash can tear the oldest batch: after none of its writes, after one, ...
    pub(crate) fn tears(&self) -> usize {
        self.pending
            .front()
            .map_or(1, |batch| batch.writes.len() + 1)
    }

    /// Takes an input and does what follows from it; a refusal changes nothing that matters.
    pub(crate) fn step(&mut self, input: Input, disks: Disks, shell: Shell) -> Effects {
        // A time in the past counts as the latest one seen: the clock stands still.
        self.step_at(Tick::ZERO, input, disks, shell)
    }

    /// Time passes until something is due.
    pub(crate) fn tick(&mut self, disks: Disks, shell: Shell) -> Effects {
        self.step_at(self.core.deadline(), Input::Tick, disks, shell)
    }

    fn step_at(&mut self, now: Tick, input: Input, disks: Disks, shell: Shell) -> Effects {
        let mut effects = Effects::default();
        let _ = self.core.step(now, input);
        self.drain(disks, shell, &mut effects);
        effects
    }

    /// The oldest batch has reached the disk.
    pub(crate) fn persist(&mut self, disks: Disks, shell: Shell) -> Effects {
        let mut effects = Effects::default();
        self.persist_batch(&mut effects);
        self.drain(disks, shell, &mut effects);
        effects
    }

    fn persist_batch(&mut self, effects: &mut Effects) {
        let Some(batch) = self.pending.pop_front() else {
            return;
        };
        for write in batch.writes {
            self.disk.write(write);
        }
        self.report(batch.seq, effects);
    }

    fn report(&mut self, seq: WriteSeq, effects: &mut Effects) {
        // Failing can only a core that has stopped, which none here does.
        let _ = self.core.step(Tick::ZERO, Input::Persisted(seq));
        while let Some((waits_for, _)) = self.waiting.front()
            && *waits_for <= seq
        {
            let message = self.waiting.pop_front();
            effects.sent.extend(message.map(|(_, message)| message));
        }
    }

    /// Only the disk survives, with the first `torn` writes of the oldest batch.
    pub(crate) fn crash(&self, config: CoreConfig, nodes: u64, torn: usize, shell: Shell) -> Self {
        let mut disk = self.disk.clone();
        let writes = self.pending.front().into_iter().flat_map(|b| &b.writes);
        for write in writes.take(torn) {
            disk.write(write.clone());
        }
        if shell == Shell::ForgetsVote {
            disk.hard_state.vote = None;
        }
        Self::restart(config, disk, nodes)
    }

    /// Everything that there is to do, in the order that the core's documentation asks for.
    fn drain(&mut self, disks: Disks, shell: Shell, effects: &mut Effects) {
        while let Some(ready) = self.core.ready() {
            self.act(ready, shell, effects);
            if disks == Disks::Instant {
                while self.has_pending() {
                    self.persist_batch(effects);
                }
            }
        }
    }

    fn act(&mut self, ready: Ready, shell: Shell, effects: &mut Effects) {
        effects.sent.extend(ready.messages);
        let leads_since = ready.role.filter(|role| role.role == Role::Leader);
        if !ready.writes.is_empty() {
            self.pending.push_back(Batch {
                seq: ready.seq,
                writes: ready.writes.into(),
            });
        }
        if let Some(role) = leads_since {
            effects.led = Some((role.ballot, self.written()));
        }
        if shell == Shell::SendsBeforePersistence {
            effects.sent.extend(ready.messages_after_persist);
        } else {
            for message in ready.messages_after_persist {
                self.hold(ready.seq, message);
            }
        }
        if shell == Shell::ReportsTooEarly && self.has_pending() {
            self.report(ready.seq, effects);
        }
        let last = ready.committed.last().map(|entry| entry.index);
        if last.is_some() {
            effects.ballot = self.core.status().ballot;
        }
        effects.committed.extend(ready.committed);
        if let Some(last) = last {
            let _ = self.core.step(Tick::ZERO, Input::Applied(last));
        }
        effects.senseless |= ready.install.is_some() || !ready.failed_reads.is_empty();
    }

    /// Keeps a message until `seq` is durable. The network is a set, so are the messages for it.
    fn hold(&mut self, seq: WriteSeq, message: Message) {
        let key = |message: &Message| {
            let mut hasher = DefaultHasher::new();
            message.hash(&mut hasher);
            hasher.finish()
        };
        let place = (seq, key(&message));
        let found = self
            .waiting
            .binary_search_by_key(&place, |(seq, message)| (*seq, key(message)));
        if let Err(at) = found {
            self.waiting.insert(at, (seq, message));
        }
    }

    /// The log with all that is under way.
    fn written(&self) -> BTreeMap<Index, Entry> {
        let mut disk = self.disk.clone();
        for write in self.pending.iter().flat_map(|batch| &batch.writes) {
            disk.write(write.clone());
        }
        disk.entries
    }
}
