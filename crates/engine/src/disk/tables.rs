//! Writes tables to disk while they grow.
//!
//! lsm-tree writes a table into the page cache and syncs it when it is complete. For the last table
//! of a merge, reads and writes of the space wait for that sync. Syncing a whole table at once also
//! delays every other sync, including those that all writes wait for. So a merge syncs each piece
//! and then pauses briefly, and has nothing left to sync when it commits. The journal's thread
//! syncs the tables of flushes.

use std::fs::File;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use fjall::compaction::filter::{
    CompactionFilter, CompactionFilterResult, Context, Factory, ItemAccessor, Verdict,
};
use fjall::{AbstractTree, Keyspace};
use parking_lot::{Condvar, Mutex};

/// A merge syncs its output after this many bytes.
pub(super) const SYNC_BYTES: usize = 2 << 20;
/// The pause after each sync, unless there is a backlog.
const REST: Duration = Duration::from_millis(4);
/// Level-0 runs that count as a backlog.
const BACKLOG_RUNS: usize = 5;
/// Tables of a space that may be growing: one from a flush, one from a merge.
const GROWING_TABLES: u64 = 2;
const TABLES_FOLDER: &str = "tables";

/// Syncs the growing tables of one space.
#[derive(Default)]
pub(super) struct TableSync {
    // Table ids and the lengths at their last sync.
    synced: Vec<(u64, u64)>,
}

impl TableSync {
    /// Syncs the tables that grew by at least `least` bytes since their last sync.
    pub(super) fn sync(&mut self, keyspace: &Keyspace, least: u64) -> io::Result<()> {
        let folder = keyspace.path().join(TABLES_FOLDER);
        let next = keyspace.tree.next_table_id();
        let oldest = next.saturating_sub(GROWING_TABLES);
        self.synced.retain(|(id, _)| *id >= oldest);
        for id in oldest..next {
            let file = match File::open(folder.join(id.to_string())) {
                // Not created yet, or already merged and removed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                file => file?,
            };
            let length = file.metadata()?.len();
            let known = self.synced.iter().position(|(known, _)| *known == id);
            let synced = known.map_or(0, |at| self.synced[at].1);
            if length.saturating_sub(synced) < least {
                continue;
            }
            file.sync_data()?;
            match known {
                Some(at) => self.synced[at].1 = length,
                None => self.synced.push((id, length)),
            }
        }
        Ok(())
    }
}

/// State shared by the compaction thread and its merges.
#[derive(Default)]
pub(super) struct Merging {
    // The space that is being merged. Cleared after the merge: the keyspace owns the database,
    // which owns this struct.
    keyspace: Mutex<Option<Keyspace>>,
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl Merging {
    /// Runs a merge of `keyspace` and syncs its tables as they grow.
    pub(super) fn run<T>(&self, keyspace: &Keyspace, merge: impl FnOnce() -> T) -> T {
        *self.keyspace.lock() = Some(keyspace.clone());
        let result = merge();
        *self.keyspace.lock() = None;
        result
    }

    pub(super) fn stop(&self) {
        *self.stopped.lock() = true;
        self.changed.notify_all();
    }

    /// Waits for `period` or until stopped. Returns whether to stop.
    pub(super) fn rest(&self, period: Duration) -> bool {
        let mut stopped = self.stopped.lock();
        if !*stopped && !period.is_zero() {
            self.changed.wait_for(&mut stopped, period);
        }
        *stopped
    }

    pub(super) fn is_stopped(&self) -> bool {
        *self.stopped.lock()
    }
}

/// Reports the progress of a merge: a compaction filter that keeps every row.
pub(super) struct Progress(pub(super) AssertUnwindSafe<Arc<Merging>>);

impl Factory for Progress {
    fn name(&self) -> &'static str {
        "synod-progress"
    }

    fn make_filter(&self, _: &Context) -> Box<dyn CompactionFilter> {
        Box::new(Merge {
            keyspace: self.0.keyspace.lock().clone(),
            merging: Arc::clone(&self.0),
            bytes: 0,
            tables: TableSync::default(),
        })
    }
}

struct Merge {
    keyspace: Option<Keyspace>,
    merging: Arc<Merging>,
    // Merged since the last sync.
    bytes: usize,
    tables: TableSync,
}

impl Merge {
    fn sync(&mut self) {
        self.bytes = 0;
        let Some(keyspace) = &self.keyspace else {
            return;
        };
        // This error may be ignored: lsm-tree syncs again and reports its own error.
        if let Err(error) = self.tables.sync(keyspace, 1) {
            tracing::warn!(%error, "could not sync a growing table early");
        }
    }
}

impl CompactionFilter for Merge {
    fn filter_item(&mut self, item: ItemAccessor<'_>, _: &Context) -> CompactionFilterResult {
        self.bytes += item.key().len() + item.value()?.len();
        if self.bytes >= SYNC_BYTES {
            self.sync();
            let has_backlog = |k: &Keyspace| k.tree.l0_run_count() >= BACKLOG_RUNS;
            if !self.keyspace.as_ref().is_some_and(has_backlog) {
                self.merging.rest(REST);
            }
        }
        Ok(Verdict::Keep)
    }

    /// lsm-tree calls this right before it blocks reads and writes.
    fn finish(mut self: Box<Self>) {
        self.sync();
    }
}
