//! The store: collects transactions and commits them with the log position they stand for.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::Mutex;
use synod_engine::{Batch, Engine, Snapshot, Space};
use synod_types::LogPosition;

use crate::counts::{self, BucketKeysCache, Counts};
use crate::event::Ring;
use crate::large::{self, LargeDelete};
use crate::overlay::Overlay;
use crate::recent::RecentRecords;
use crate::revisions::{RowWriter, rows_from};
use crate::state::{Applied, State, membership_key};
use crate::view::{Caches, Core, Shared, ViewInner};
use crate::{EventBatch, MvccError, MvccReader, Revision, View, WriteTxn};

/// Keys that came or went until the counts are written again: what a restart has to catch up with.
const SAVE_COUNTS_AFTER: usize = 65_536;

/// How often at most a piece of a large deletion waits for room in the engine, some milliseconds
/// each time.
const MAX_PIECE_WAITS: usize = 8;

/// How much of the recent past is kept in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MvccConfig {
    /// Revisions in memory for watchers that lag a little. 16,384.
    pub recent_revisions: usize,
    /// Bytes that these may take. 32 MiB.
    pub recent_bytes: usize,
    /// Bytes for the keys of recently counted buckets. 16 MiB.
    pub count_cache_bytes: usize,
    /// Bytes for the records of keys that were written lately. 16 MiB; mostly shared with the
    /// above.
    pub recent_record_bytes: usize,
    /// Keys that a large deletion deletes in one engine write. 250.
    pub piece_changes: usize,
}

impl Default for MvccConfig {
    fn default() -> Self {
        Self {
            recent_revisions: 16_384,
            recent_bytes: 32 << 20,
            count_cache_bytes: 16 << 20,
            recent_record_bytes: 16 << 20,
            piece_changes: 250,
        }
    }
}

/// The keyspace's only writer.
pub struct MvccStore {
    shared: Arc<Shared>,
    /// What was committed last.
    pub(crate) view: Arc<ViewInner>,
    pub(crate) pending: PendingCommit,
    /// Of the view.
    pub(crate) recent: RecentRecords,
    counts: Counts,
    // Rows in `Counts`, and what happened since they were written.
    count_rows: usize,
    uncounted: usize,
    pub(crate) piece_changes: usize,
    failed: bool,
}

/// What has been changed since the last commit.
pub(crate) struct PendingCommit {
    pub(crate) overlay: Overlay,
    pub(crate) revision: Revision,
    pub(crate) compacted: Revision,
    pub(crate) live_growth: i64,
    pub(crate) events: Vec<Arc<EventBatch>>,
    pub(crate) rows: RowWriter,
    pub(crate) save_counts: bool,
    /// Whether the last revision is a large deletion, which is in the engine already.
    pub(crate) large: bool,
}

impl PendingCommit {
    fn after(state: &State) -> Self {
        Self {
            overlay: Overlay::default(),
            revision: state.revision,
            compacted: state.compacted,
            live_growth: 0,
            events: Vec::new(),
            rows: RowWriter::default(),
            save_counts: false,
            large: false,
        }
    }
}

/// What an engine holds.
struct Loaded {
    state: State,
    counts: Counts,
    count_rows: usize,
    uncounted: usize,
    snapshot: Arc<dyn Snapshot>,
}

impl Loaded {
    fn load(engine: &dyn Engine, first_generation: u64) -> Result<Self, MvccError> {
        large::roll_back(engine)?;
        let snapshot = engine.snapshot();
        let state = State::load(&*snapshot)?;
        let (mut counts, count_rows) = Counts::load(&*snapshot, first_generation)?;
        let mut uncounted = 0;
        for row in rows_from(&*snapshot, state.counted.next())? {
            let row = row?;
            for (_, changes) in row.within(state.counted.next(), state.revision) {
                for change in changes.iter().filter(|change| change.growth() != 0) {
                    counts.add(&change.key, change.growth())?;
                    uncounted += 1;
                }
            }
        }
        for start in counts.oversized() {
            counts::split_bucket(&mut counts, &*snapshot, &start)?;
        }
        Ok(Self {
            state,
            counts,
            count_rows,
            uncounted,
            snapshot,
        })
    }

    fn view(&self, caches: &Arc<Caches>) -> Arc<ViewInner> {
        Arc::new(ViewInner {
            snapshot: Arc::clone(&self.snapshot),
            revision: self.state.revision,
            compacted: self.state.compacted,
            applied: self.state.applied,
            counts: Arc::new(self.counts.clone()),
            caches: Arc::clone(caches),
        })
    }
}

impl fmt::Debug for MvccStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MvccStore")
            .field("revision", &self.view.revision)
            .field("compacted", &self.view.compacted)
            .field("applied", &self.view.applied)
            .field("pending_revision", &self.pending.revision)
            .finish_non_exhaustive()
    }
}

impl MvccStore {
    /// Opens the keyspace in an engine; an empty engine is a fresh one at revision 1.
    ///
    /// # Errors
    /// [`MvccError::Corrupt`], or of the engine.
    pub fn open(engine: Arc<dyn Engine>, config: MvccConfig) -> Result<Self, MvccError> {
        let loaded = Loaded::load(&*engine, 0)?;
        let caches = Arc::new(Caches {
            ring: Ring::new(config.recent_revisions, config.recent_bytes),
            bucket_keys: BucketKeysCache::new(config.count_cache_bytes),
        });
        let view = loaded.view(&caches);
        let shared = Arc::new(Shared {
            view: ArcSwap::new(Arc::clone(&view)),
            live_bytes: AtomicU64::new(loaded.state.live_bytes),
            core: Mutex::new(Core {
                engine,
                state: loaded.state,
                sweeping: None,
            }),
            caches,
        });
        Ok(Self {
            shared,
            view,
            pending: PendingCommit::after(&loaded.state),
            recent: RecentRecords::new(config.recent_record_bytes),
            counts: loaded.counts,
            count_rows: loaded.count_rows,
            uncounted: loaded.uncounted,
            piece_changes: config.piece_changes,
            failed: false,
        })
    }

    /// A handle for readers.
    #[must_use]
    pub fn reader(&self) -> MvccReader {
        MvccReader {
            shared: Arc::clone(&self.shared),
        }
    }

    /// What was committed last.
    #[must_use]
    pub fn view(&self) -> View {
        View {
            inner: Arc::clone(&self.view),
        }
    }

    /// The revision after all finished transactions, committed or not.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.pending.revision
    }

    /// Rows that wait for the next commit.
    #[must_use]
    pub fn pending_rows(&self) -> usize {
        self.pending.overlay.rows()
    }

    /// An upper bound of the bytes of the rows that wait for the next commit.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.pending.overlay.bytes()
    }

    /// Whether a large deletion waits for its commit: nothing else may begin before that.
    #[must_use]
    pub fn must_commit(&self) -> bool {
        self.pending.large
    }

    /// Starts a transaction on top of all finished ones.
    #[must_use]
    pub fn begin(&mut self) -> WriteTxn<'_> {
        debug_assert!(
            !self.pending.large,
            "a transaction doesn't see the deletion"
        );
        WriteTxn::new(self)
    }

    /// Starts a deletion that may be too large for a transaction. `None` if transactions wait for a
    /// commit: the deletion would not see them.
    #[must_use]
    pub fn begin_large(&mut self) -> Option<LargeDelete<'_>> {
        let pending = &self.pending;
        let clean = pending.overlay.rows() == 0
            && pending.revision == self.view.revision
            && pending.compacted == self.view.compacted;
        clean.then(|| LargeDelete::new(self))
    }

    /// Writes a piece of a large deletion.
    pub(crate) fn write_piece(&self, batch: Batch) -> Result<(), MvccError> {
        if self.failed {
            return Err(MvccError::Failed);
        }
        let engine = Arc::clone(&self.shared.core.lock().engine);
        // A piece is larger than most writes, so it waits rather than take their room.
        for _ in 0..MAX_PIECE_WAITS {
            if engine.wait_for_room() {
                break;
            }
        }
        let core = self.shared.core.lock();
        core.engine.write(batch)?;
        Ok(())
    }

    /// Notes in counts and caches that a large deletion deletes `key`. Nothing reads them before
    /// the commit.
    pub(crate) fn deleted(&mut self, key: &Bytes) -> Result<(), MvccError> {
        self.recent.set(key, None);
        self.counts.add(key, -1)?;
        self.uncounted += 1;
        Ok(())
    }

    /// Accepts nothing more.
    pub(crate) fn fail(&mut self) {
        self.failed = true;
        self.recent.clear();
    }

    /// Commits all finished transactions together with the position of the last entry among them,
    /// and shows them to readers. Returns what each revision changed, except for a large deletion:
    /// its events are read with [`View::large_events`].
    ///
    /// # Errors
    /// Of the engine. The store accepts nothing more then.
    pub fn commit(&mut self, applied: Applied) -> Result<Vec<Arc<EventBatch>>, MvccError> {
        if self.failed {
            return Err(MvccError::Failed);
        }
        let committed = self.try_commit(applied);
        if committed.is_err() {
            self.fail();
        }
        committed
    }

    fn try_commit(&mut self, applied: Applied) -> Result<Vec<Arc<EventBatch>>, MvccError> {
        let grown = self.count_changes()?;
        let pending = &mut self.pending;
        let mut batch = Batch::with_capacity(pending.overlay.rows() + 4);
        pending.overlay.drain_into(&mut batch);
        for (key, row) in pending.rows.take() {
            pending.live_growth += i64::try_from(key.len() + row.len()).unwrap_or(i64::MAX);
            batch.put(Space::Revisions, key, row);
        }
        if let Some(membership) = applied.membership {
            batch.put(Space::Meta, membership_key(), membership);
        }
        let save_counts = pending.save_counts || self.uncounted >= SAVE_COUNTS_AFTER;
        if save_counts {
            self.save_counts(&mut batch);
        }
        let shared = Arc::clone(&self.shared);
        let mut core = shared.core.lock();
        let mut state = core.state;
        state.revision = self.pending.revision;
        state.compacted = self.pending.compacted;
        state.applied = applied.position;
        state.live_bytes = state
            .live_bytes
            .saturating_add_signed(self.pending.live_growth);
        if save_counts {
            state.counted = state.revision;
        }
        let (key, row) = state.row();
        batch.put(Space::Meta, key, row);
        core.engine.write(batch)?;
        core.state = state;
        self.publish(&core, &state, &grown)?;
        Ok(std::mem::take(&mut self.pending.events))
    }

    /// Brings the counts and recent records up to date with the pending changes. Answers the
    /// largest new key of each bucket that became too large.
    fn count_changes(&mut self) -> Result<Vec<Bytes>, MvccError> {
        let mut grown: Vec<Bytes> = Vec::new();
        for (key, pending) in self.pending.overlay.space(Space::Latest) {
            // Early, but nothing reads it before the commit; a failed one drops all of them.
            self.recent.set(key, pending.value.as_ref());
            let growth = i64::from(pending.value.is_some()) - i64::from(pending.existed);
            if growth == 0 {
                continue;
            }
            self.uncounted += 1;
            if self.counts.add(key, growth)? > counts::MAX_BUCKET_KEYS && growth > 0 {
                // Keys come in order, so those of a bucket follow each other.
                if let Some(last) = grown.last_mut()
                    && self.counts.same_bucket(last, key)
                {
                    *last = key.clone();
                } else {
                    grown.push(key.clone());
                }
            }
        }
        Ok(grown)
    }

    fn save_counts(&mut self, batch: &mut Batch) {
        for (key, row) in self.counts.rows() {
            batch.put(Space::Counts, key, row);
        }
        for at in self.counts.row_count()..self.count_rows {
            batch.delete(Space::Counts, counts::row_key(at));
        }
        self.count_rows = self.counts.row_count();
        self.uncounted = 0;
    }

    /// Shows what was written to readers.
    fn publish(&mut self, core: &Core, state: &State, grown: &[Bytes]) -> Result<(), MvccError> {
        let snapshot = core.engine.snapshot();
        let counts_changed = self.counts.next_generation() != self.view.counts.next_generation();
        for newest in grown {
            counts::split_bucket(&mut self.counts, &*snapshot, newest)?;
        }
        let counts = if counts_changed {
            Arc::new(self.counts.clone())
        } else {
            Arc::clone(&self.view.counts)
        };
        // Watchers may ask for what a view shows, so the ring has it first.
        let ring = &self.shared.caches.ring;
        if self.pending.large {
            ring.clear();
        }
        ring.extend(&self.pending.events);
        self.view = Arc::new(ViewInner {
            snapshot,
            revision: state.revision,
            compacted: state.compacted,
            applied: state.applied,
            counts,
            caches: Arc::clone(&self.shared.caches),
        });
        self.shared.view.store(Arc::clone(&self.view));
        let live_bytes = state.live_bytes;
        self.shared.live_bytes.store(live_bytes, Ordering::Relaxed);
        let events = std::mem::take(&mut self.pending.events);
        self.pending = PendingCommit::after(state);
        self.pending.events = events;
        Ok(())
    }

    /// Makes all commits so far safe against power loss. Answers the position up to which the log
    /// isn't needed.
    ///
    /// # Errors
    /// Of the engine.
    pub fn persist(&self) -> Result<LogPosition, MvccError> {
        self.reader().compactor().persist()
    }

    /// Continues on another engine, after a snapshot was installed there. Readers follow; pending
    /// transactions are dropped. Answers the engine that was used before; it stays open while old
    /// views of it are.
    ///
    /// # Errors
    /// As [`MvccStore::open`]; nothing is changed then.
    pub fn replace_engine(
        &mut self,
        engine: Arc<dyn Engine>,
    ) -> Result<Arc<dyn Engine>, MvccError> {
        let loaded = Loaded::load(&*engine, self.counts.next_generation())?;
        let shared = Arc::clone(&self.shared);
        let mut core = shared.core.lock();
        shared.caches.ring.clear();
        shared.caches.bucket_keys.clear();
        self.view = loaded.view(&shared.caches);
        shared.view.store(Arc::clone(&self.view));
        shared
            .live_bytes
            .store(loaded.state.live_bytes, Ordering::Relaxed);
        self.pending = PendingCommit::after(&loaded.state);
        self.recent.clear();
        self.counts = loaded.counts;
        self.count_rows = loaded.count_rows;
        self.uncounted = loaded.uncounted;
        self.failed = false;
        core.state = loaded.state;
        core.sweeping = None;
        Ok(std::mem::replace(&mut core.engine, engine))
    }
}
