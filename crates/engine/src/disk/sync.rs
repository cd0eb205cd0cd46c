//! Syncs the journal in the background, through its own file handles.
//!
//! fjall syncs the active journal before each flush and on persist, while it holds the journal's
//! lock. With tens of megabytes in the page cache, that would stop all writes for as long as the
//! sync takes. Data that this module has already synced costs nothing there. It does the same for
//! tables that are being flushed ([`tables`]).
//!
//! Removing a journal frees all its blocks at once, and meanwhile every other sync on the file
//! system waits. This module keeps the file open to delay that, then truncates it step by step.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use fjall::AbstractTree;
use parking_lot::{Condvar, Mutex};

use super::tables::{self, TableSync};
use super::{DATABASE_FOLDER, OpenDatabase, format, journal};
use crate::{EngineError, Space};

/// The journal is synced at this many unsynced bytes.
const SYNC_BYTES: u64 = 2 << 20;
/// How often growing tables are synced and removed journals are truncated.
const BUSY_PERIOD: Duration = Duration::from_millis(5);
/// Bytes truncated from a removed journal per step.
const SHORTEN_BYTES: u64 = 4 << 20;

/// Owns the sync thread: dropping it stops and joins the thread.
pub(super) struct JournalSync {
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    unsynced: AtomicU64,
    stopped: AtomicBool,
    turn: Mutex<()>,
    wake: Condvar,
}

impl JournalSync {
    pub(super) fn start(shared: Arc<OpenDatabase>) -> Result<Self, EngineError> {
        let state = Arc::new(State::default());
        let dir = shared.dir.clone();
        let thread = {
            let state = Arc::clone(&state);
            std::thread::Builder::new()
                .name("synod-jsync".to_owned())
                .spawn(move || state.run(&shared))
        };
        Ok(Self {
            state,
            thread: Some(thread.map_err(|error| format::io_error(&dir, error))?),
        })
    }

    /// Notes that `bytes` more were written to the journal.
    pub(super) fn written(&self, bytes: u64) {
        let before = self.state.unsynced.fetch_add(bytes, Ordering::Relaxed);
        if before < SYNC_BYTES && before + bytes >= SYNC_BYTES {
            let _turn = self.state.turn.lock();
            self.state.wake.notify_one();
        }
    }
}

impl Drop for JournalSync {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::Relaxed);
        {
            let _turn = self.state.turn.lock();
            self.state.wake.notify_one();
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the journal's sync thread panicked");
        }
    }
}

impl State {
    fn run(&self, shared: &OpenDatabase) {
        let mut journals = Journals::new(&shared.dir);
        let mut tables = <[TableSync; Space::COUNT]>::default();
        let mut is_busy = false;
        loop {
            let mut turn = self.turn.lock();
            let mut is_due = self.is_due();
            if !is_due && !self.stopped.load(Ordering::Relaxed) {
                if is_busy {
                    self.wake.wait_for(&mut turn, BUSY_PERIOD);
                } else {
                    self.wake.wait(&mut turn);
                }
                is_due = self.is_due();
            }
            drop(turn);
            if self.stopped.load(Ordering::Relaxed) {
                return;
            }
            if is_due {
                self.unsynced.store(0, Ordering::Relaxed);
            }
            shared.drop_unused_versions();
            // This error may be ignored: fjall syncs again and reports its own error.
            is_busy = journals
                .work(is_due)
                .and_then(|is_busy| Ok(sync_flushed(shared, &mut tables)? || is_busy))
                .unwrap_or_else(|error| {
                    tracing::warn!(%error, "could not sync the engine's files early");
                    // The count is no longer refreshed, so don't delay writes for an old one.
                    shared.pacing.publish_sealed(0);
                    false
                });
        }
    }

    fn is_due(&self) -> bool {
        self.unsynced.load(Ordering::Relaxed) >= SYNC_BYTES
    }
}

/// Syncs the tables of spaces that are being flushed. Returns whether there are any.
fn sync_flushed(shared: &OpenDatabase, tables: &mut [TableSync; Space::COUNT]) -> io::Result<bool> {
    let most = shared.most_sealed();
    shared.pacing.publish_sealed(most);
    for (keyspace, tables) in shared.spaces.iter().zip(tables) {
        if keyspace.tree.sealed_memtable_count() > 0 {
            tables.sync(keyspace, tables::SYNC_BYTES as u64)?;
        }
    }
    Ok(most > 0)
}

/// Open handles of all journals.
struct Journals {
    folder: PathBuf,
    open: BTreeMap<PathBuf, File>,
    // Removed journals, truncated from the end.
    removed: Vec<File>,
}

impl Journals {
    fn new(dir: &Path) -> Self {
        Self {
            folder: dir.join(DATABASE_FOLDER),
            open: BTreeMap::new(),
            removed: Vec::new(),
        }
    }

    /// Syncs the active journal if due, and truncates a removed one by a step. Returns whether
    /// there is more to truncate.
    fn work(&mut self, is_due: bool) -> io::Result<bool> {
        if is_due {
            let paths = journal::journals(&self.folder)?;
            let is_gone = |path: &PathBuf| !paths.contains(path);
            let gone: Vec<PathBuf> = self.open.keys().filter(|p| is_gone(p)).cloned().collect();
            self.removed
                .extend(gone.iter().filter_map(|path| self.open.remove(path)));
            for path in &paths {
                if !self.open.contains_key(path)
                    && let Some(file) = open(path)?
                {
                    self.open.insert(path.clone(), file);
                }
            }
            if let Some(active) = paths.last().and_then(|path| self.open.get(path)) {
                active.sync_data()?;
            }
        }
        if let Some(file) = self.removed.last() {
            let length = file.metadata()?.len().saturating_sub(SHORTEN_BYTES);
            file.set_len(length)?;
            if length == 0 {
                self.removed.pop();
            }
        }
        Ok(!self.removed.is_empty())
    }
}

/// Opens a journal. Returns `None` if it was removed meanwhile.
fn open(path: &Path) -> io::Result<Option<File>> {
    match OpenOptions::new().write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        file => file.map(Some),
    }
}

/// Syncs the active journal without blocking writers.
pub(super) fn sync_active(dir: &Path) -> io::Result<()> {
    match journal::journals(&dir.join(DATABASE_FOLDER))?.pop() {
        Some(active) => open(&active)?.map_or(Ok(()), |file| file.sync_data()),
        None => Ok(()),
    }
}
