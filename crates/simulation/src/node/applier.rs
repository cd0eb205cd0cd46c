//! The apply thread. It applies committed entries in batches, answers waiting callers, and flushes
//! the engine.

use std::sync::Arc;

use synod_types::NodeId;

use super::{Node, Process, ShellEvent};
use crate::choices::Stream;
use crate::engine::SimEngine;
use crate::env::Env;
use crate::event::{Answer, Event};
use crate::invariants::{Check, SHELL_CONTRACT};
use crate::time::MS;
use crate::words;

/// States are compared completely at multiples of this index, so each node's batches end there.
const HASH_EVERY: u64 = 64;

impl Process {
    pub(super) fn start_applying(&mut self, env: &mut Env, slot: usize, epoch: u64) {
        if !self.applying && !self.queue.is_empty() {
            self.applying = true;
            let took = env.choices.between(Stream::Node, 5, env.plan.apply_us);
            env.after(took, Event::Apply { slot, epoch });
        }
    }
}

impl Node {
    pub(crate) fn apply(&mut self, env: &mut Env) -> Check {
        let (slot, epoch, id) = (self.slot, self.epoch, self.id);
        let Some(process) = self.process_mut() else {
            return Ok(());
        };
        process.applying = false;
        process.apply_batch(env, id)?;
        process.start_applying(env, slot, epoch);
        if !process.flushing && process.machine.engine().unflushed() >= env.plan.flush_batches {
            process.flushing = true;
            let begun = Box::new(Flush::of(process));
            let took = env.choices.between(Stream::Disk, 2 * MS, 40 * MS);
            env.after(took, Event::Flushed { slot, epoch, begun });
        }
        self.wake(env);
        Ok(())
    }

    /// A flush of the engine has completed.
    pub(crate) fn flushed(&mut self, env: &mut Env, begun: Flush) {
        begun.engine.flushed(begun.written);
        if let Some(process) = self.process_mut() {
            process.flushing = false;
            process.inbox.events.push(ShellEvent::Flushed(begun.meta));
            self.wake(env);
        }
    }
}

impl Process {
    fn apply_batch(&mut self, env: &mut Env, id: NodeId) -> Check {
        let wanted = 1 + env.choices.index(Stream::Node, env.plan.max_apply_batch);
        // After an installation the queue may still hold older entries, which the snapshot
        // contains.
        while self
            .queue
            .front()
            .is_some_and(|entry| entry.index <= self.machine.index())
        {
            self.queue.pop_front();
        }
        let mut batch = Vec::new();
        while batch.len() < wanted
            && let Some(entry) = self.queue.pop_front()
        {
            let ends = entry.index.get().is_multiple_of(HASH_EVERY);
            batch.push(entry);
            if ends {
                break;
            }
        }
        let (Some(first), Some(last)) = (batch.first(), batch.last()) else {
            return Ok(());
        };
        let (first, last) = (first.index, last.index);
        let outcomes = self
            .machine
            .apply(&batch)
            .map_err(|error| SHELL_CONTRACT.broken(format!("n{id} can't apply: {error}")))?;
        env.counts.applied += outcomes.len() as u64;
        env.checks
            .on_applied(id, first, &outcomes, self.machine.digest())?;
        if last.get().is_multiple_of(HASH_EVERY) {
            self.check_hash(env, id)?;
        }
        words::applied(env, id, last, self.machine.revision());
        // Before any caller is answered: an answered caller may read here at once.
        self.inbox.applied = Some(last);
        self.advance_readers(env, last)?;
        for (entry, outcome) in batch.iter().zip(outcomes) {
            if entry.id.node == id
                && let Some(waiter) = self.pending.remove(&entry.id.seq)
                && let Some(op) = waiter.op()
            {
                env.answer(
                    op,
                    Answer::Wrote {
                        index: entry.index,
                        applied: outcome,
                    },
                );
            }
        }
        Ok(())
    }

    /// The state was replaced by a peer's.
    pub(crate) fn installed(&mut self, env: &mut Env) -> Check {
        let index = self.machine.index();
        self.inbox.applied = Some(index);
        self.advance_readers(env, index)
    }

    pub(crate) fn check_hash(&self, env: &mut Env, id: NodeId) -> Check {
        let hash = self
            .machine
            .hash()
            .map_err(|error| SHELL_CONTRACT.broken(format!("n{id} can't hash: {error}")))?;
        env.counts.states_compared += 1;
        env.checks.states.check(id, self.machine.index(), hash)
    }
}

/// A flush of the engine in flight. The position is read before the flush begins, because the flush
/// covers nothing later.
#[derive(Debug)]
pub(crate) struct Flush {
    engine: Arc<SimEngine>,
    written: u64,
    meta: synod_consensus_core::SnapshotMeta,
}

impl Flush {
    fn of(process: &Process) -> Self {
        let engine = Arc::clone(process.machine.engine());
        Self {
            written: engine.written(),
            meta: process.machine.applied().clone(),
            engine,
        }
    }
}
