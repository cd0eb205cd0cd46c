//! The engine of a simulated node: the real memory engine, with a model of what survives a crash.
//!
//! A batch survives as a whole or not at all, and the surviving batches are a prefix. This is what
//! an engine with a journal guarantees ([`Engine::write`]). The end of the process loses nothing; a
//! power loss may lose what was not flushed.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use synod_engine::{Batch, Engine, EngineError, EngineStats, MemoryEngine, Snapshot, Space};

/// Data in memory, with a journal of unflushed batches.
#[derive(Debug, Default)]
pub(crate) struct SimEngine {
    live: MemoryEngine,
    journal: Mutex<Journal>,
}

#[derive(Clone, Debug, Default)]
struct Journal {
    /// The flushed rows.
    flushed: BTreeMap<(Space, Bytes), Bytes>,
    unflushed: Vec<Batch>,
    /// The number of batches before the first of `unflushed`.
    before: u64,
}

impl Journal {
    fn flush(&mut self, batches: usize) {
        for batch in self.unflushed.drain(..batches) {
            self.before += 1;
            for op in batch.into_ops() {
                let place = (op.space, op.key);
                match op.value {
                    Some(value) => self.flushed.insert(place, value),
                    None => self.flushed.remove(&place),
                };
            }
        }
    }
}

impl SimEngine {
    /// The number of batches written so far. A flush that starts now makes these durable.
    pub(crate) fn written(&self) -> u64 {
        let journal = self.journal.lock();
        journal.before + journal.unflushed.len() as u64
    }

    /// A flush has ended that started when [`SimEngine::written`] returned this number.
    pub(crate) fn flushed(&self, written: u64) {
        let mut journal = self.journal.lock();
        let count = usize::try_from(written.saturating_sub(journal.before)).unwrap_or(usize::MAX);
        let count = count.min(journal.unflushed.len());
        journal.flush(count);
    }

    /// The number of batches that a power loss may lose.
    pub(crate) fn unflushed(&self) -> usize {
        self.journal.lock().unflushed.len()
    }

    /// The engine after a restart, if the first `kept` unflushed batches survive.
    pub(crate) fn reopen(&self, kept: usize) -> Result<Arc<Self>, EngineError> {
        let mut journal = self.journal.lock().clone();
        journal.unflushed.truncate(kept);
        let live = MemoryEngine::new();
        let mut rows = Batch::new();
        for ((space, key), value) in &journal.flushed {
            rows.put(*space, key.clone(), value.clone());
        }
        live.write(rows)?;
        for batch in &journal.unflushed {
            live.write(batch.clone())?;
        }
        Ok(Arc::new(Self {
            live,
            journal: Mutex::new(journal),
        }))
    }
}

impl Engine for SimEngine {
    fn write(&self, batch: Batch) -> Result<(), EngineError> {
        self.live.write(batch.clone())?;
        self.journal.lock().unflushed.push(batch);
        Ok(())
    }

    fn snapshot(&self) -> Arc<dyn Snapshot> {
        self.live.snapshot()
    }

    fn has_snapshots(&self) -> bool {
        self.live.has_snapshots()
    }

    fn persist(&self) -> Result<(), EngineError> {
        let written = self.written();
        self.flushed(written);
        Ok(())
    }

    fn disk_bytes(&self) -> u64 {
        self.live.disk_bytes()
    }

    fn stats(&self) -> EngineStats {
        self.live.stats()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(key: &'static str) -> Batch {
        let mut batch = Batch::new();
        let key = Bytes::from_static(key.as_bytes());
        batch.put(Space::Meta, key.clone(), key);
        batch
    }

    fn has(engine: &SimEngine, key: &str) -> bool {
        let row = engine.snapshot().get(Space::Meta, key.as_bytes());
        row.unwrap().is_some()
    }

    #[test]
    fn a_power_loss_keeps_flushed_batches_and_a_prefix_of_the_others() {
        let engine = SimEngine::default();
        engine.write(batch("a")).unwrap();
        let begun = engine.written();
        engine.write(batch("b")).unwrap();
        engine.flushed(begun);
        engine.write(batch("c")).unwrap();
        assert_eq!(engine.unflushed(), 2);
        let kept = |count| {
            let again = engine.reopen(count).unwrap();
            ["a", "b", "c"].map(|key| has(&again, key))
        };
        assert_eq!(kept(0), [true, false, false]);
        assert_eq!(kept(1), [true, true, false]);
        assert_eq!(kept(9), [true, true, true]);
    }
}
