//! A node: a core and its shell.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt::Debug,
    hash::{DefaultHasher, Hash, Hasher as _},
};

use synod_consensus_core::{
    ConfigCommand, Consensus, CoreConfig, Entry, EntryKind, HardState, Input, Membership, Message,
    MultiPaxos, Raft, ReadState, Ready, Restored, Role, SnapshotMeta, Write,
};
use synod_types::{Ballot, Index, Tick, WriteSeq};

/// A core that can be modelled.
pub trait Core: Consensus + Clone + Eq + Hash + Debug + Send + Sync + 'static {
    /// Whether a leader's log has every committed entry from the start and entries keep their
    /// ballot (Raft §5.4.3). In Multi-Paxos a leader collects them in phase 1.
    const LEADER_COMPLETENESS: bool;

    /// Starts the core.
    fn start(config: CoreConfig, restored: Restored) -> Self;
}

impl Core for Raft {
    const LEADER_COMPLETENESS: bool = true;

    fn start(config: CoreConfig, restored: Restored) -> Self {
        Self::new(config, restored, Tick::ZERO).expect("written state can be restored")
    }
}

impl Core for MultiPaxos {
    const LEADER_COMPLETENESS: bool = false;

    fn start(config: CoreConfig, restored: Restored) -> Self {
        Self::new(config, restored, Tick::ZERO).expect("written state can be restored")
    }
}

/// When writes become durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disks {
    /// Immediately.
    Instant,
    /// When the model chooses, batch by batch.
    Slow,
}

/// A bug in the shell, to check that the models detect it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shell {
    /// No bug.
    Correct,
    /// Sends messages before the writes that they vouch for are durable.
    SendsBeforePersistence,
    /// Loses the vote in a crash.
    ForgetsVote,
    /// Reports writes as durable before they are.
    ReportsTooEarly,
}

/// The settings of nodes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    pub(crate) disks: Disks,
    /// Whether applied entries are compacted immediately.
    pub(crate) compacts: bool,
    /// Whether any node may need a snapshot.
    pub(crate) installs: bool,
    /// Whether there are reads.
    pub(crate) reads: bool,
    pub(crate) shell: Shell,
}

/// A node's complete state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Node<C> {
    core: C,
    disk: Disk,
    /// Writes in flight to the disk.
    pending: VecDeque<Batch>,
    /// Messages that wait for these writes.
    waiting: VecDeque<(WriteSeq, Message)>,
    /// The state machine's position. It becomes durable when the log is compacted, and when a
    /// snapshot is installed.
    applied: SnapshotMeta,
    /// A snapshot in flight from a peer.
    installing: Option<SnapshotMeta>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Batch {
    seq: WriteSeq,
    writes: VecDeque<Write>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Disk {
    hard_state: HardState,
    /// The position before the first entry.
    start: SnapshotMeta,
    entries: BTreeMap<Index, Entry>,
    /// The state machine's durable position.
    applied: SnapshotMeta,
}

/// What a node revealed in a step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Effects {
    pub(crate) sent: Vec<Message>,
    pub(crate) committed: Vec<Entry>,
    /// The node's ballot after the step.
    pub(crate) ballot: Ballot,
    /// Set if the node became leader: the ballot, and its log at that time.
    pub(crate) led: Option<Led>,
    /// A snapshot that was installed, and the core's membership after it.
    pub(crate) installed: Option<(SnapshotMeta, Membership)>,
    /// Reads that may be served.
    pub(crate) reads: Vec<ReadState>,
    /// The core made an invalid request.
    pub(crate) is_invalid: bool,
}

/// The start of a leadership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Led {
    pub(crate) ballot: Ballot,
    /// The log is compacted up to this index.
    pub(crate) start: Index,
    pub(crate) log: BTreeMap<Index, Entry>,
}

impl Effects {
    /// Whether the ghost needs to see them.
    pub(crate) fn is_news(&self) -> bool {
        !self.committed.is_empty()
            || self.led.is_some()
            || self.installed.is_some()
            || !self.reads.is_empty()
            || self.is_invalid
    }
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
            Write::Reset(start) => {
                self.entries.clear();
                self.start = start;
            }
            Write::Advance(start) => self.forget(start),
            Write::HardState(state) => self.hard_state = state,
        }
    }

    /// Compacts the log: it now begins after `start`.
    fn forget(&mut self, start: SnapshotMeta) {
        self.entries = self.entries.split_off(&start.last.index.next());
        self.start = start;
    }
}

impl<C: Core> Node<C> {
    /// Creates a node of a new group with this membership. A node outside the membership waits to
    /// be added.
    pub(crate) fn new(config: CoreConfig, membership: Membership) -> Self {
        let mut start = SnapshotMeta::default();
        if membership.contains(config.id) {
            start.membership = membership;
        }
        let disk = Disk {
            start: start.clone(),
            applied: start,
            ..Disk::default()
        };
        Self::restart(config, disk)
    }

    fn restart(config: CoreConfig, disk: Disk) -> Self {
        let restored = Restored {
            hard_state: disk.hard_state,
            start: disk.start.clone(),
            entries: disk.entries.values().cloned().collect(),
            applied: disk.applied.clone(),
        };
        Self {
            core: C::start(config, restored),
            applied: disk.applied.clone(),
            disk,
            pending: VecDeque::new(),
            waiting: VecDeque::new(),
            installing: None,
        }
    }

    /// The durable entry at `index` in the log.
    pub(crate) fn durable(&self, index: Index) -> Option<&Entry> {
        self.disk.entries.get(&index)
    }

    /// The index up to which the state machine is durable.
    pub(crate) fn durably_applied(&self) -> Index {
        self.disk.applied.last.index
    }

    pub(crate) fn is_installing(&self) -> bool {
        self.installing.is_some()
    }

    pub(crate) fn leads(&self) -> bool {
        self.core.status().role == Role::Leader
    }

    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// The number of ways a crash can tear the oldest batch: after none of its writes, after one,
    /// and so on.
    pub(crate) fn tears(&self) -> usize {
        self.pending
            .front()
            .map_or(1, |batch| batch.writes.len() + 1)
    }

    /// Steps the core with an input and carries out the result. A rejected input has no relevant
    /// effect.
    pub(crate) fn step(&mut self, input: Input, setting: Setting) -> Effects {
        // An earlier time counts as the latest one seen, so the clock does not advance.
        self.step_at(Tick::ZERO, input, setting)
    }

    /// Advances the time to the next deadline.
    pub(crate) fn tick(&mut self, setting: Setting) -> Effects {
        self.step_at(self.core.deadline(), Input::Tick, setting)
    }

    fn step_at(&mut self, now: Tick, input: Input, setting: Setting) -> Effects {
        let mut effects = Effects::default();
        let _ = self.core.step(now, input);
        self.drain(setting, &mut effects);
        effects
    }

    /// Makes the oldest batch durable.
    pub(crate) fn persist(&mut self, setting: Setting) -> Effects {
        let mut effects = Effects::default();
        self.persist_batch(&mut effects);
        self.drain(setting, &mut effects);
        effects
    }

    /// Installs the snapshot in flight. It becomes the state machine's durable state.
    pub(crate) fn install(&mut self, setting: Setting) -> Effects {
        let mut effects = Effects::default();
        if let Some(meta) = self.installing.take() {
            let input = Input::SnapshotInstalled(meta.clone());
            if self.core.step(Tick::ZERO, input).is_ok() {
                self.applied = meta.clone();
                self.disk.applied = meta.clone();
                effects.installed = Some((meta, self.core.status().membership));
            }
            self.drain(setting, &mut effects);
        }
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
        // Only a stopped core can fail here, and none of these is.
        let _ = self.core.step(Tick::ZERO, Input::Persisted(seq));
        while let Some((waits_for, _)) = self.waiting.front()
            && *waits_for <= seq
        {
            let message = self.waiting.pop_front();
            effects.sent.extend(message.map(|(_, message)| message));
        }
    }

    /// Keeps only the disk, with the first `torn` writes of the oldest batch.
    pub(crate) fn crash(&self, config: CoreConfig, torn: usize, shell: Shell) -> Self {
        let mut disk = self.disk.clone();
        let writes = self.pending.front().into_iter().flat_map(|b| &b.writes);
        for write in writes.take(torn) {
            disk.write(write.clone());
        }
        if shell == Shell::ForgetsVote {
            disk.hard_state.vote = None;
        }
        Self::restart(config, disk)
    }

    /// Carries out everything that the core asks for, in the documented order.
    fn drain(&mut self, setting: Setting, effects: &mut Effects) {
        loop {
            while let Some(ready) = self.core.ready() {
                self.act(ready, setting, effects);
                if setting.disks == Disks::Instant {
                    while self.has_pending() {
                        self.persist_batch(effects);
                    }
                }
            }
            if !setting.compacts || !self.compact() {
                break;
            }
        }
    }

    /// Compacts applied entries once none of their writes is in flight. Returns whether there were
    /// any.
    fn compact(&mut self) -> bool {
        let last = self.applied.last.index;
        if self.has_pending() || last <= self.disk.start.last.index {
            return false;
        }
        self.disk.applied = self.applied.clone();
        self.disk.forget(self.applied.clone());
        let _ = self.core.step(Tick::ZERO, Input::Compact(last));
        true
    }

    fn act(&mut self, ready: Ready, setting: Setting, effects: &mut Effects) {
        let shell = setting.shell;
        effects.is_invalid |= (ready.install.is_some() && !setting.installs)
            || (!ready.failed_reads.is_empty() && !setting.reads);
        effects.sent.extend(ready.messages);
        let leads_since = ready.role.filter(|role| role.role == Role::Leader);
        if !ready.writes.is_empty() {
            self.pending.push_back(Batch {
                seq: ready.seq,
                writes: ready.writes.into(),
            });
        }
        if let Some(role) = leads_since {
            let log = self.written();
            effects.led = Some(Led {
                ballot: role.ballot,
                start: log.start.last.index,
                log: log.entries,
            });
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
        if let Some(install) = ready.install {
            self.installing = Some(install.meta.clone());
        }
        self.apply(&ready.committed);
        if !ready.committed.is_empty() {
            effects.ballot = self.core.status().ballot;
            let last = self.applied.last.index;
            let _ = self.core.step(Tick::ZERO, Input::Applied(last));
        }
        effects.committed.extend(ready.committed);
        effects.reads.extend(ready.reads);
    }

    fn apply(&mut self, committed: &[Entry]) {
        for entry in committed {
            self.applied.last = entry.position();
            if entry.kind == EntryKind::Config {
                let command = ConfigCommand::decode(entry.data.clone());
                self.applied.membership = command.expect("a configuration").membership;
            }
        }
    }

    /// Holds a message until `seq` is durable. The network is a set, so the held messages are one
    /// too.
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

    /// The log including all writes in flight.
    fn written(&self) -> Disk {
        let mut disk = self.disk.clone();
        for write in self.pending.iter().flat_map(|batch| &batch.writes) {
            disk.write(write.clone());
        }
        disk
    }
}
