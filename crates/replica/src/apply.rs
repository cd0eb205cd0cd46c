//! The apply thread: owns the state machine, applies what is committed, answers whoever waits for
//! it.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::vec;

use parking_lot::{Condvar, Mutex};
use synod_consensus_core::{Entry, EntryKind, InitialMembers, SnapshotMeta};
use synod_runtime::clock;
use synod_types::{Index, NodeId};
use tokio::sync::oneshot;

use crate::error::Fault;
use crate::metrics::{Metrics, Stage};
use crate::pending::Waiter;
use crate::persist::PersistSignal;
use crate::shared::GroupRequests;
use crate::state_machine::{ApplyError, SnapshotSource, StateMachine};

/// Entries in one call of [`StateMachine::apply`], hence in one write of the engine. Bounds how
/// long the first of them waits for the last.
const MAX_BATCH_ENTRIES: usize = 1_024;
/// Bytes in one call of [`StateMachine::apply`]; a single larger entry goes alone.
const MAX_BATCH_BYTES: usize = 4 << 20;
/// What an entry costs in memory beyond its payload.
pub(crate) const ENTRY_OVERHEAD_BYTES: usize = 96;

/// A request to the state machine beside the stream of entries. All are rare.
pub(crate) enum Control<S: StateMachine> {
    Snapshot(oneshot::Sender<Result<Arc<dyn SnapshotSource>, ApplyError>>),
    BeginInstall(SnapshotMeta, oneshot::Sender<Result<S::Sink, ApplyError>>),
    Install(SnapshotMeta, S::Sink, oneshot::Sender<InstallOutcome>),
}

/// What became of an install.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum InstallOutcome {
    Installed,
    /// The state machine has caught up by itself and is at least as far as the snapshot.
    Obsolete,
}

struct QueueState<S: StateMachine> {
    batches: VecDeque<Vec<Entry>>,
    entries: usize,
    bytes: usize,
    controls: Vec<Control<S>>,
    idle: bool,
    stop: bool,
}

/// From the driver to the apply thread. Its bound
/// ([`Limits::max_apply_backlog_entries`](crate::Limits) and bytes) is enforced where entries come
/// in, not here: the driver must never wait, and what is committed is in memory anyway.
pub(crate) struct ApplyQueue<S: StateMachine> {
    state: Mutex<QueueState<S>>,
    arrived: Condvar,
}

struct Work<S: StateMachine> {
    batches: VecDeque<Vec<Entry>>,
    controls: Vec<Control<S>>,
    stop: bool,
}

impl<S: StateMachine> ApplyQueue<S> {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(QueueState {
                batches: VecDeque::new(),
                entries: 0,
                bytes: 0,
                controls: Vec::new(),
                idle: false,
                stop: false,
            }),
            arrived: Condvar::new(),
        }
    }

    pub(crate) fn push_entries(&self, entries: Vec<Entry>) {
        let bytes: usize = entries.iter().map(entry_bytes).sum();
        self.put(|state| {
            state.entries += entries.len();
            state.bytes += bytes;
            state.batches.push_back(entries);
        });
    }

    pub(crate) fn push_control(&self, control: Control<S>) {
        self.put(|state| state.controls.push(control));
    }

    pub(crate) fn stop(&self) {
        self.put(|state| state.stop = true);
    }

    /// Entries and bytes that are not applied yet.
    pub(crate) fn backlog(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.entries, state.bytes)
    }

    fn put(&self, put: impl FnOnce(&mut QueueState<S>)) {
        let mut state = self.state.lock();
        put(&mut state);
        let wake = mem::replace(&mut state.idle, false);
        drop(state);
        if wake {
            self.arrived.notify_one();
        }
    }

    /// Waits for work and takes all of it.
    fn take(&self) -> Work<S> {
        let mut state = self.state.lock();
        while state.batches.is_empty() && state.controls.is_empty() && !state.stop {
            state.idle = true;
            self.arrived.wait(&mut state);
        }
        state.idle = false;
        Work {
            batches: mem::take(&mut state.batches),
            controls: mem::take(&mut state.controls),
            stop: state.stop,
        }
    }

    fn done(&self, entries: usize, bytes: usize) {
        let mut state = self.state.lock();
        state.entries -= entries;
        state.bytes -= bytes;
    }
}

pub(crate) fn entry_bytes(entry: &Entry) -> usize {
    entry.data.len() + ENTRY_OVERHEAD_BYTES
}

/// What the apply thread works with.
pub(crate) struct Applier<S: StateMachine> {
    pub(crate) node: NodeId,
    pub(crate) machine: S,
    pub(crate) applied: Index,
    pub(crate) queue: Arc<ApplyQueue<S>>,
    pub(crate) shared: Arc<GroupRequests<S::Output>>,
    pub(crate) persist: Arc<PersistSignal>,
    pub(crate) initial: InitialMembers,
    pub(crate) metrics: Metrics,
}

/// Buffers that are used again and again.
struct Scratch<O> {
    outputs: Vec<O>,
    local: Vec<(usize, u64)>,
    found: Vec<(usize, Waiter<O>)>,
}

impl<S: StateMachine> Applier<S> {
    /// Runs until the queue is stopped or the state machine fails; then nobody is answered any
    /// more.
    pub(crate) fn run(mut self) {
        let mut scratch = Scratch {
            outputs: Vec::new(),
            local: Vec::new(),
            found: Vec::new(),
        };
        loop {
            let work = self.queue.take();
            if work.stop {
                return;
            }
            if let Err(error) = self.work(work, &mut scratch) {
                tracing::error!(%error, "state machine failed, replica stops");
                self.shared.inbox.fail(Fault::state_machine(&error));
                return;
            }
        }
    }

    fn work(&mut self, work: Work<S>, scratch: &mut Scratch<S::Output>) -> Result<(), ApplyError> {
        for control in work.controls {
            self.control(control)?;
        }
        let mut batch: Vec<Entry> = Vec::new();
        let mut bytes = 0;
        for entry in work.batches.into_iter().flatten() {
            let size = entry_bytes(&entry);
            let full = batch.len() >= MAX_BATCH_ENTRIES || bytes + size > MAX_BATCH_BYTES;
            if full && !batch.is_empty() {
                self.apply(mem::take(&mut batch), bytes, scratch)?;
                bytes = 0;
            }
            bytes += size;
            batch.push(entry);
        }
        if batch.is_empty() {
            return Ok(());
        }
        self.apply(batch, bytes, scratch)
    }

    fn apply(
        &mut self,
        mut entries: Vec<Entry>,
        bytes: usize,
        scratch: &mut Scratch<S::Output>,
    ) -> Result<(), ApplyError> {
        let taken = entries.len();
        // After an install the queue may still hold older entries, which the snapshot contains.
        entries.retain(|entry| entry.index > self.applied);
        let expected = self.applied.next();
        if entries.first().is_some_and(|first| first.index != expected) {
            return Err(ApplyError::new(format!(
                "entries after {} are missing, the next one is not {expected}",
                self.applied
            )));
        }
        let mut entries = entries.into_iter();
        while !entries.as_slice().is_empty() {
            self.apply_some(&mut entries, scratch)?;
        }
        self.queue.done(taken, bytes);
        self.persist.applied(bytes);
        Ok(())
    }

    /// Applies as many of `entries` as the state machine takes at once, and answers for them.
    fn apply_some(
        &mut self,
        entries: &mut vec::IntoIter<Entry>,
        scratch: &mut Scratch<S::Output>,
    ) -> Result<(), ApplyError> {
        let offered = entries.as_slice();
        let offered_count = offered.len();
        let is_config = |entry: &Entry| entry.kind == EntryKind::Config;
        let first_config = offered.iter().position(is_config);
        let local = offered
            .iter()
            .enumerate()
            .filter(|(_, entry)| entry.id.node == self.node);
        scratch.local.clear();
        scratch
            .local
            .extend(local.map(|(at, entry)| (at, entry.id.seq)));
        self.machine.apply(entries, &mut scratch.outputs)?;
        let count = offered_count - entries.len();
        if count == 0 || scratch.outputs.len() != count {
            let outputs = scratch.outputs.len();
            return Err(ApplyError::new(format!(
                "{outputs} outputs for {count} of {offered_count} entries"
            )));
        }
        scratch.local.retain(|(at, _)| *at < count);
        let last = self.applied.plus(u64::try_from(count).unwrap_or(u64::MAX));
        self.publish(last, count, first_config.is_some_and(|at| at < count));
        self.answer(scratch);
        Ok(())
    }

    /// Before anyone is answered: who was answered may read here at once.
    fn publish(&mut self, last: Index, count: usize, config: bool) {
        self.applied = last;
        self.shared.published.set_applied(last);
        self.shared.inbox.applied(last, config);
        self.shared.readers.advance(last);
        self.metrics.applied(last, count);
        if let Some(committed) = self.shared.apply_sample.finish(last) {
            let took = clock::now().saturating_duration_since(committed);
            self.metrics.stage(Stage::Applied, took);
        }
    }

    fn answer(&mut self, scratch: &mut Scratch<S::Output>) {
        if scratch.local.is_empty() {
            scratch.outputs.clear();
            return;
        }
        self.shared
            .pending
            .remove_all(scratch.local.drain(..), &mut scratch.found);
        let mut found = scratch.found.drain(..).peekable();
        for (at, output) in scratch.outputs.drain(..).enumerate() {
            if let Some((_, waiter)) = found.next_if(|(wanted, _)| *wanted == at) {
                self.shared.load.release_proposal(waiter.bytes);
                waiter.answer(Ok(output));
            }
        }
    }

    fn control(&mut self, control: Control<S>) -> Result<(), ApplyError> {
        // Whoever asked may be gone: nothing is lost but the work.
        match control {
            Control::Snapshot(reply) => {
                let _gone = reply.send(self.machine.snapshot());
            }
            Control::BeginInstall(meta, reply) => {
                let _gone = reply.send(self.machine.begin_install(meta));
            }
            Control::Install(meta, sink, reply) => {
                let outcome = self.install(meta, sink)?;
                let _gone = reply.send(outcome);
            }
        }
        Ok(())
    }

    fn install(&mut self, meta: SnapshotMeta, sink: S::Sink) -> Result<InstallOutcome, ApplyError> {
        if meta.last.index <= self.applied {
            return Ok(InstallOutcome::Obsolete);
        }
        self.machine.install(sink)?;
        let applied = self.initial.complete(self.machine.applied());
        if applied.last != meta.last {
            return Err(ApplyError::new(format!(
                "installed a snapshot at {} but the state machine is at {}",
                meta.last, applied.last
            )));
        }
        self.publish(meta.last.index, 0, true);
        Ok(InstallOutcome::Installed)
    }
}
