//! Compacts tables in the background, on one thread.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use fjall::compaction::Leveled;
use fjall::{AbstractTree, Keyspace};

use super::tables::Merging;
use super::{DiskConfig, OpenDatabase, convert, format};
use crate::{Batch, EngineError, MAX_KEY_BYTES, Space};

/// How often the thread checks for work while the engine is idle, and while it is being written.
const IDLE_PERIOD: Duration = Duration::from_secs(1);
const BUSY_PERIOD: Duration = Duration::from_millis(20);
/// Compactions of one space in a row before the other spaces get a turn.
const MAX_TURN: usize = 4;
/// With more journals than this, spaces without recent writes get a row; see [`Worker::touch`].
const MAX_JOURNALS: usize = 6;
/// Bytes that must be written between two calls that touch idle spaces.
const TOUCH_BYTES: u64 = 64 << 20;
/// The thread's niceness. Requests have priority over compaction.
const NICENESS: i32 = 5;

/// Owns the compaction thread: dropping it stops and joins the thread.
pub(super) struct Compaction {
    merging: Arc<Merging>,
    thread: Option<JoinHandle<()>>,
}

impl Compaction {
    pub(super) fn start(
        shared: Arc<OpenDatabase>,
        merging: Arc<Merging>,
        config: &DiskConfig,
    ) -> Result<Self, EngineError> {
        let dir = config.dir.clone();
        let worker = Worker {
            shared,
            strategy: config.strategy(),
            merging: Arc::clone(&merging),
            touched: 0,
        };
        let thread = std::thread::Builder::new()
            .name("synod-compact".to_owned())
            .spawn(move || worker.run())
            .map_err(|error| format::io_error(&dir, error))?;
        Ok(Self {
            merging,
            thread: Some(thread),
        })
    }
}

impl Drop for Compaction {
    fn drop(&mut self) {
        self.merging.stop();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the compaction thread panicked");
        }
    }
}

struct Worker {
    shared: Arc<OpenDatabase>,
    strategy: Arc<Leveled>,
    merging: Arc<Merging>,
    // The value of `written` when idle spaces were last touched.
    touched: u64,
}

impl Worker {
    fn run(mut self) {
        // Best effort: without the privilege, the thread keeps the normal priority.
        let _ = rustix::process::setpriority_process(None, NICENESS);
        let mut seen = 0;
        loop {
            let progress = match self
                .round()
                .and_then(|progress| self.touch().map(|()| progress))
            {
                Ok(progress) => progress,
                Err(error) => {
                    self.shared.fail(&error);
                    return;
                }
            };
            let written = self.shared.written.load(Ordering::Relaxed);
            let period = match (progress, written == seen) {
                (true, _) => Duration::ZERO,
                (false, false) => BUSY_PERIOD,
                (false, true) => IDLE_PERIOD,
            };
            seen = written;
            if self.merging.rest(period) {
                return;
            }
        }
    }

    /// Gives each space a turn, the one with most level-0 runs first. Returns whether anything was
    /// compacted.
    fn round(&self) -> Result<bool, EngineError> {
        let keyspaces = || {
            self.shared
                .spaces
                .iter()
                .chain(std::iter::once(&self.shared.engine_keyspace))
        };
        let mut by_runs: Vec<(usize, &Keyspace)> =
            keyspaces().map(|k| (k.tree.l0_run_count(), k)).collect();
        by_runs.sort_by_key(|(runs, _)| std::cmp::Reverse(*runs));
        let mut progress = false;
        for (_, keyspace) in by_runs {
            for _ in 0..MAX_TURN {
                if self.merging.is_stopped() || !self.compact(keyspace)? {
                    break;
                }
                progress = true;
                self.publish();
            }
        }
        self.publish();
        Ok(progress)
    }

    fn publish(&self) {
        let runs = self
            .shared
            .spaces
            .iter()
            .map(|k| k.tree.l0_run_count())
            .max();
        self.shared.pacing.publish_level0(runs.unwrap_or(0) as u64);
    }

    fn compact(&self, keyspace: &Keyspace) -> Result<bool, EngineError> {
        let dir = &self.shared.dir;
        let before = keyspace.tree.current_version().id();
        let watermark = self.watermark();
        let strategy = Arc::<Leveled>::clone(&self.strategy);
        self.merging
            .run(keyspace, || keyspace.tree.compact(strategy, watermark))
            .map_err(|error| convert(dir, fjall::Error::from(error)))?;
        // Old versions of the table list keep flushed memtables in memory.
        let watermark = self.watermark();
        keyspace
            .tree
            .get_version_history_lock()
            .maintenance(keyspace.path(), watermark)
            .map_err(|error| convert(dir, fjall::Error::from(error)))?;
        Ok(keyspace.tree.current_version().id() != before)
    }

    fn watermark(&self) -> u64 {
        let shared = &self.shared;
        shared
            .snapshots
            .watermark(|| shared.database.visible_seqno())
    }

    /// fjall deletes a journal once every space has flushed something newer. If the newest rows of
    /// a space were deleted and merged away, no table shows that they were flushed. So each idle
    /// space gets a tombstone for a key that can't exist.
    fn touch(&mut self) -> Result<(), EngineError> {
        let shared = &self.shared;
        let written = shared.written.load(Ordering::Relaxed);
        if shared.database.journal_count() <= MAX_JOURNALS || written < self.touched + TOUCH_BYTES {
            return Ok(());
        }
        self.touched = written;
        let idle: Vec<Space> = Space::ALL
            .into_iter()
            .filter(|space| {
                shared.spaces[space.index()]
                    .tree
                    .active_memtable()
                    .is_empty()
            })
            .collect();
        let key = Bytes::from(vec![0xff; MAX_KEY_BYTES + 1]);
        let mut batch = Batch::with_capacity(idle.len());
        for space in &idle {
            batch.delete(*space, key.clone());
        }
        let mut writer = shared.writer.lock();
        let commits = writer.commits + 1;
        shared.commit(batch, commits)?;
        writer.commits = commits;
        drop(writer);
        for space in idle {
            shared.spaces[space.index()]
                .rotate_memtable()
                .map_err(|error| convert(&shared.dir, error))?;
        }
        Ok(())
    }
}
