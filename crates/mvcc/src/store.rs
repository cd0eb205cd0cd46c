//! The store. It collects transactions and commits them together with their log position.

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

/// The number of added and removed keys after which the counts are written again. A restart has to
/// catch up with at most this many.
const SAVE_COUNTS_AFTER: usize = 65_536;

/// The maximum number of times a piece of a large deletion waits for room in the engine, some
/// milliseconds each.
const MAX_PIECE_WAITS: usize = 8;

/// Sizes of the in-memory caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MvccConfig {
    /// Recent revisions kept in memory, for watchers that lag a little. Default: 16,384.
    pub recent_revisions: usize,
    /// The maximum size of these revisions, in bytes. Default: 32 MiB.
    pub recent_bytes: usize,
    /// Memory for the keys of recently counted buckets, in bytes. Default: 16 MiB.
    pub count_cache_bytes: usize,
    /// Memory for recently written records, in bytes. Default: 16 MiB. Mostly shared with
    /// `recent_bytes`.
    pub recent_record_bytes: usize,
    /// The number of keys that a large deletion deletes per engine write. Default: 250.
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
    /// The last committed state.
    pub(crate) view: Arc<ViewInner>,
    pub(crate) pending: PendingCommit,
    /// Records as of the view.
    pub(crate) recent: RecentRecords,
    counts: Counts,
    // The number of rows in `Counts`, and of changes since they were written.
    count_rows: usize,
    uncounted: usize,
    pub(crate) piece_changes: usize,
    failed: bool,
}

/// Changes since the last commit.
pub(crate) struct PendingCommit {
    pub(crate) overlay: Overlay,
    pub(crate) revision: Revision,
    pub(crate) compacted: Revision,
    pub(crate) live_growth: i64,
    pub(crate) events: Vec<Arc<EventBatch>>,
    pub(crate) rows: RowWriter,
    pub(crate) save_counts: bool,
    /// Whether the last revision is a large deletion, which is already in the engine.
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

/// The state loaded from an engine.
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
    /// Opens the keyspace in an engine. An empty engine becomes a fresh keyspace at revision 1.
    ///
    /// # Errors
    /// [`MvccError::Corrupt`], [`MvccError::Engine`].
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

    /// The last committed state.
    #[must_use]
    pub fn view(&self) -> View {
        View {
            inner: Arc::clone(&self.view),
        }
    }

    /// The revision after all finished transactions, including uncommitted ones.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.pending.revision
    }

    /// The number of rows that wait for the next commit.
    #[must_use]
    pub fn pending_rows(&self) -> usize {
        self.pending.overlay.rows()
    }

    /// An upper bound for the size of the rows that wait for the next commit, in bytes.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.pending.overlay.bytes()
    }

    /// Whether a large deletion waits for its commit. Nothing else may start before that.
    #[must_use]
    pub fn must_commit(&self) -> bool {
        self.pending.large
    }

    /// Starts a transaction on top of all finished ones.
    #[must_use]
    pub fn begin(&mut self) -> WriteTxn<'_> {
        debug_assert!(
            !self.pending.large,
            "commit the large deletion before starting a transaction"
        );
        WriteTxn::new(self)
    }

    /// Starts a deletion that may be too large for a transaction. `None` if transactions wait for a
    /// commit, since the deletion would not see them.
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
        // A piece is larger than most writes, so it waits until there is room for it.
        for _ in 0..MAX_PIECE_WAITS {
            if engine.wait_for_room() {
                break;
            }
        }
        let core = self.shared.core.lock();
        core.engine.write(batch)?;
        Ok(())
    }

    /// Updates counts and caches for a key that a large deletion deletes. Nothing reads them before
    /// the commit.
    pub(crate) fn deleted(&mut self, key: &Bytes) -> Result<(), MvccError> {
        self.recent.set(key, None);
        self.counts.add(key, -1)?;
        self.uncounted += 1;
        Ok(())
    }

    /// Makes the store refuse all further work.
    pub(crate) fn fail(&mut self) {
        self.failed = true;
        self.recent.clear();
    }

    /// Commits all finished transactions together with the position of the last entry, and makes
    /// them visible to readers. Returns the changes of each revision, except those of a large
    /// deletion, whose events are read with [`View::large_events`].
    ///
    /// # Errors
    /// [`MvccError::Engine`]. The store then refuses all further work.
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

    /// Updates the counts and recent records with the pending changes. Returns the largest new key
    /// of each bucket that became too large.
    fn count_changes(&mut self) -> Result<Vec<Bytes>, MvccError> {
        let mut grown: Vec<Bytes> = Vec::new();
        for (key, pending) in self.pending.overlay.space(Space::Latest) {
            // It is safe to do this before the write: nothing reads the cache before the commit,
            // and a failed commit drops it.
            self.recent.set(key, pending.value.as_ref());
            let growth = i64::from(pending.value.is_some()) - i64::from(pending.existed);
            if growth == 0 {
                continue;
            }
            self.uncounted += 1;
            if self.counts.add(key, growth)? > counts::MAX_BUCKET_KEYS && growth > 0 {
                // Keys come in order, so keys of the same bucket are adjacent.
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

    /// Makes written changes visible to readers.
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
        // Watchers may ask for anything that a view shows, so the ring gets it first.
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

    /// Makes all commits so far durable against power loss. Returns the position up to which the
    /// log is no longer needed.
    ///
    /// # Errors
    /// [`MvccError::Engine`].
    pub fn persist(&self) -> Result<LogPosition, MvccError> {
        self.reader().compactor().persist()
    }

    /// Switches to another engine after a snapshot was installed there. Readers follow; pending
    /// transactions are dropped. Returns the previous engine, which stays open as long as views use
    /// it.
    ///
    /// # Errors
    /// As [`MvccStore::open`]. On an error nothing changes.
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
