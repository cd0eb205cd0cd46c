//! An engine that fails all writes after the first few, as if the process had ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use synod_engine::{Batch, Engine, EngineError, EngineStats, Snapshot};

#[derive(Debug)]
pub(super) struct FailingEngine {
    engine: Arc<dyn Engine>,
    writes_left: AtomicUsize,
}

impl FailingEngine {
    pub(super) fn new(engine: Arc<dyn Engine>, writes: usize) -> Self {
        Self {
            engine,
            writes_left: AtomicUsize::new(writes),
        }
    }
}

impl Engine for FailingEngine {
    fn write(&self, batch: Batch) -> Result<(), EngineError> {
        let take = |left: usize| left.checked_sub(1);
        let (done, failed) = (Ordering::Relaxed, Ordering::Relaxed);
        match self.writes_left.fetch_update(done, failed, take) {
            Ok(_) => self.engine.write(batch),
            Err(_) => Err(EngineError::Failed {
                reason: "injected by the test".to_owned(),
            }),
        }
    }

    fn snapshot(&self) -> Arc<dyn Snapshot> {
        self.engine.snapshot()
    }

    fn has_snapshots(&self) -> bool {
        self.engine.has_snapshots()
    }

    fn persist(&self) -> Result<(), EngineError> {
        self.engine.persist()
    }

    fn disk_bytes(&self) -> u64 {
        self.engine.disk_bytes()
    }

    fn stats(&self) -> EngineStats {
        self.engine.stats()
    }
}
