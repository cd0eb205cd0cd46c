//! Consistent views for readers.

use std::fmt;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::Mutex;
use synod_engine::{Direction, Engine, EngineStats, Snapshot, Space};
use synod_types::{LogPosition, NodeId};

use crate::compaction::Sweeping;
use crate::counts::{BucketKeysCache, Counts};
use crate::event::Ring;
use crate::range::{Reading, Time};
use crate::revisions::{Change, rows_after_piece, rows_from};
use crate::source::Source;
use crate::state::{
    State, lease_of_row, lease_row, member_of_row, member_row, membership_key, meta_key,
};
use crate::{
    Compactor, Compare, Event, EventBatch, EventKind, EventsPage, KeyRange, KeyValueView,
    LargePage, LeaseId, LeaseRecord, MvccError, RangeQuery, RangeResult, RangeStream, Revision,
    history,
};

/// The maximum number of changes examined for one page of events. A filter may drop nearly all of
/// them.
const MAX_PAGE_CHANGES: usize = 50_000;

/// State shared by all handles of a store.
pub(crate) struct Shared {
    pub(crate) view: ArcSwap<ViewInner>,
    /// Serialises engine writes with the publication of their views.
    pub(crate) core: Mutex<Core>,
    pub(crate) caches: Arc<Caches>,
    pub(crate) live_bytes: AtomicU64,
}

/// The engine and the last state written to it.
pub(crate) struct Core {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) state: State,
    /// The progress of sweeping a large revision.
    pub(crate) sweeping: Option<Sweeping>,
}

/// Caches that outlive a view.
pub(crate) struct Caches {
    pub(crate) ring: Ring,
    pub(crate) bucket_keys: BucketKeysCache,
}

/// The state at one revision.
pub(crate) struct ViewInner {
    pub(crate) snapshot: Arc<dyn Snapshot>,
    pub(crate) revision: Revision,
    pub(crate) compacted: Revision,
    pub(crate) applied: LogPosition,
    pub(crate) counts: Arc<Counts>,
    pub(crate) caches: Arc<Caches>,
}

impl ViewInner {
    /// The number of keys within `range` at the view's revision.
    pub(crate) fn count(&self, range: &KeyRange) -> Result<u64, MvccError> {
        self.caches
            .bucket_keys
            .count(&*self.snapshot, &self.counts, range)
    }
}

/// Reads a store from any thread. It is cheap to clone, and keeps working when the store's engine
/// is replaced.
#[derive(Clone)]
pub struct MvccReader {
    pub(crate) shared: Arc<Shared>,
}

impl fmt::Debug for MvccReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MvccReader")
            .field("view", &self.view())
            .finish_non_exhaustive()
    }
}

impl MvccReader {
    /// The last committed state.
    #[must_use]
    pub fn view(&self) -> View {
        View {
            inner: self.shared.view.load_full(),
        }
    }

    /// The current revision.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.shared.view.load().revision
    }

    /// Executes a query in chunks of about `chunk_bytes`. The stream stays at the revision at which
    /// it started. It holds no view between chunks, so a compaction can end it.
    ///
    /// # Errors
    /// As [`View::range`].
    pub fn range_stream(
        &self,
        query: RangeQuery,
        chunk_bytes: usize,
    ) -> Result<RangeStream, MvccError> {
        RangeStream::new(self.clone(), query, chunk_bytes)
    }

    /// The handle for a thread that removes compacted rows.
    #[must_use]
    pub fn compactor(&self) -> Compactor {
        Compactor::new(Arc::clone(&self.shared))
    }

    /// The size of the keys, records and history in use, in bytes. Quotas use this number.
    #[must_use]
    pub fn live_bytes(&self) -> u64 {
        self.shared.live_bytes.load(Ordering::Relaxed)
    }

    /// Bytes that the engine uses on disk. Accesses the file system.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        let engine = Arc::clone(&self.shared.core.lock().engine);
        engine.disk_bytes()
    }

    /// The engine's statistics. Accesses the file system.
    #[must_use]
    pub fn engine_stats(&self) -> EngineStats {
        let engine = Arc::clone(&self.shared.core.lock().engine);
        engine.stats()
    }
}

/// The keyspace at one revision, with its history back to the compacted revision. Hold it for
/// seconds, not hours: it keeps displaced rows on disk.
#[derive(Clone)]
pub struct View {
    pub(crate) inner: Arc<ViewInner>,
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View")
            .field("revision", &self.inner.revision)
            .field("compacted", &self.inner.compacted)
            .field("applied", &self.inner.applied)
            .finish_non_exhaustive()
    }
}

impl View {
    /// The view's revision.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.inner.revision
    }

    /// The oldest revision that can be read; zero before the first compaction.
    #[must_use]
    pub fn compacted(&self) -> Revision {
        self.inner.compacted
    }

    /// Position of the last applied entry.
    #[must_use]
    pub fn applied(&self) -> LogPosition {
        self.inner.applied
    }

    /// The number of keys.
    #[must_use]
    pub fn key_count(&self) -> u64 {
        self.inner.counts.total()
    }

    pub(crate) fn source(&self) -> Source<'_> {
        Source {
            snapshot: &*self.inner.snapshot,
            overlay: None,
            recent: None,
        }
    }

    pub(crate) fn reading(&self) -> Reading<'_> {
        Reading {
            source: self.source(),
            view: &self.inner,
            current: self.inner.revision,
            compacted: self.inner.compacted,
        }
    }

    /// The wire form of a key's current `mvccpb.KeyValue`. This is the fast path for point reads.
    ///
    /// # Errors
    /// [`MvccError::Engine`].
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, MvccError> {
        self.reading().get(key, Time::Current)
    }

    /// Executes a query.
    ///
    /// # Errors
    /// [`MvccError::Compacted`], [`MvccError::FutureRevision`], [`MvccError::ResultTooLarge`],
    /// [`MvccError::Engine`].
    pub fn range(&self, query: &RangeQuery) -> Result<RangeResult, MvccError> {
        self.reading().range(query)
    }

    /// The size of the records that [`View::range`] would gather for a query, in bytes. Reads them
    /// but keeps none.
    ///
    /// # Errors
    /// As [`View::range`], except [`MvccError::ResultTooLarge`].
    pub fn range_bytes(&self, query: &RangeQuery) -> Result<u64, MvccError> {
        self.reading().bytes(query)
    }

    /// Whether a condition holds.
    ///
    /// # Errors
    /// [`MvccError::Engine`].
    pub fn compare(&self, compare: &Compare) -> Result<bool, MvccError> {
        self.reading().compare(compare)
    }

    /// Returns the events in `from..=to` (at most up to the view's revision) for keys within
    /// `filter`: about `max_bytes`, always whole revisions. A large revision ends the page; read it
    /// with [`View::large_events`]. Events at the compacted revision itself have no displaced
    /// records.
    ///
    /// # Errors
    /// [`MvccError::Compacted`] if `from` is before the compacted revision, [`MvccError::Engine`].
    pub fn events(
        &self,
        from: Revision,
        to: Revision,
        filter: Option<&KeyRange>,
        max_bytes: usize,
    ) -> Result<EventsPage, MvccError> {
        if from < self.inner.compacted {
            return Err(MvccError::Compacted {
                compacted: self.inner.compacted,
            });
        }
        let to = to.min(self.inner.revision);
        if from > to {
            return Ok(EventsPage::default());
        }
        if let Some(recent) = self.inner.caches.ring.read(from, to, max_bytes) {
            let last = recent.last().map_or(to, |batch| batch.revision);
            return Ok(EventsPage {
                batches: recent
                    .iter()
                    .filter_map(|batch| batch.filtered(filter))
                    // Like the stored events: the version before the compacted revision can't be
                    // read any more.
                    .map(|batch| match batch.revision <= self.inner.compacted {
                        true => Arc::new(batch.without_prev_kvs()),
                        false => batch,
                    })
                    .collect(),
                next: (last < to).then(|| last.next()),
                is_next_large: false,
            });
        }
        self.stored_events(from, to, filter, max_bytes)
    }

    fn stored_events(
        &self,
        from: Revision,
        to: Revision,
        filter: Option<&KeyRange>,
        max_bytes: usize,
    ) -> Result<EventsPage, MvccError> {
        let mut page = EventsPage::default();
        let (mut bytes, mut looked_at) = (0, 0);
        for row in rows_from(&*self.inner.snapshot, from)? {
            let row = row?;
            if row.first > to {
                break;
            }
            if row.piece.is_some() && row.first >= from {
                page.next = Some(row.first);
                page.is_next_large = true;
                return Ok(page);
            }
            for (revision, changes) in row.within(from, to) {
                if bytes >= max_bytes || looked_at >= MAX_PAGE_CHANGES {
                    page.next = Some(revision);
                    return Ok(page);
                }
                looked_at += changes.len();
                let matching = |change: &&Change| filter.is_none_or(|f| f.contains(&change.key));
                let events = changes
                    .iter()
                    .filter(matching)
                    .map(|change| self.stored_event(revision, change).map(Arc::new))
                    .collect::<Result<Vec<_>, _>>()?;
                if !events.is_empty() {
                    let batch = EventBatch { revision, events };
                    bytes += batch.bytes();
                    page.batches.push(Arc::new(batch));
                }
            }
        }
        Ok(page)
    }

    /// Returns the events of a large revision for keys within `filter`: about `max_bytes`, at least
    /// one piece, starting with the piece after `after` (zero: the first). Displaced records are
    /// only looked up for `with_prev_kv`.
    ///
    /// # Errors
    /// [`MvccError::Compacted`] if `revision` is before the compacted one, [`MvccError::Engine`].
    pub fn large_events(
        &self,
        revision: Revision,
        after: u32,
        filter: Option<&KeyRange>,
        with_prev_kv: bool,
        max_bytes: usize,
    ) -> Result<LargePage, MvccError> {
        let compacted = self.inner.compacted;
        if revision < compacted {
            return Err(MvccError::Compacted { compacted });
        }
        let mut page = LargePage::default();
        let (mut bytes, mut looked_at, mut last) = (0, 0, None);
        for row in rows_after_piece(&*self.inner.snapshot, revision, after) {
            let row = row?;
            let Some(number) = row.piece.filter(|_| row.first == revision) else {
                break;
            };
            if last.is_some() && (bytes >= max_bytes || looked_at >= MAX_PAGE_CHANGES) {
                page.next = last;
                break;
            }
            last = Some(number);
            for change in row.changes() {
                looked_at += 1;
                if filter.is_none_or(|filter| filter.contains(&change.key)) {
                    let event = match with_prev_kv {
                        true => self.stored_event(revision, change)?,
                        false => Event::deletion(&change.key, revision),
                    };
                    bytes += event.bytes();
                    page.events.push(Arc::new(event));
                }
            }
        }
        Ok(page)
    }

    fn stored_event(&self, revision: Revision, change: &Change) -> Result<Event, MvccError> {
        let reading = self.reading();
        let missing = || {
            let key = change.key.escape_ascii();
            MvccError::corrupt(format!("no record of \"{key}\" at revision {revision}"))
        };
        let kv = reading
            .written(change.kind, &change.key, revision)?
            .ok_or_else(missing)?;
        // The record displaced by the compacted revision may already be swept, so it is never
        // returned.
        let is_readable = change.displaced > Revision::ZERO && revision > self.inner.compacted;
        let prev_kv = match is_readable {
            true => {
                let displaced = reading.displaced(&change.key, change.displaced)?;
                Some(displaced.ok_or_else(missing)?)
            }
            false => None,
        };
        let (lease, is_create) = match change.kind {
            EventKind::Delete => (LeaseId::NONE, false),
            EventKind::Put => {
                let fields = KeyValueView::parse(&kv)?;
                (fields.lease, fields.create == revision)
            }
        };
        let key = change.key.clone();
        Ok(Event::new(change.kind, key, kv, prev_kv, lease, is_create))
    }

    /// A lease's record.
    ///
    /// # Errors
    /// [`MvccError::Engine`].
    pub fn lease(&self, id: LeaseId) -> Result<Option<LeaseRecord>, MvccError> {
        lease(self.source(), id)
    }

    /// All leases, ordered by id.
    ///
    /// # Errors
    /// [`MvccError::Engine`].
    pub fn leases(&self) -> Result<Vec<(LeaseId, LeaseRecord)>, MvccError> {
        let all = (Bound::Unbounded, Bound::Unbounded);
        self.source()
            .scan(Space::Leases, all, Direction::Forward)
            .map(|row| {
                let (id, record) = row?;
                Ok((lease_of_row(&id)?, LeaseRecord::decode(record)?))
            })
            .collect()
    }

    /// The keys attached to a lease, in order.
    ///
    /// # Errors
    /// [`MvccError::Engine`].
    pub fn keys_of_lease(&self, id: LeaseId) -> Result<Vec<Bytes>, MvccError> {
        keys_of_lease(self.source(), id, usize::MAX)
    }

    /// The first key attached to a lease that is not before `start`.
    ///
    /// # Errors
    /// [`MvccError::Engine`].
    pub fn lease_key_from(&self, id: LeaseId, start: &[u8]) -> Result<Option<Bytes>, MvccError> {
        lease_key_from(self.source(), id, start)
    }

    /// A row stored by [`WriteTxn::meta_put`](crate::WriteTxn::meta_put).
    ///
    /// # Errors
    /// [`MvccError::Engine`].
    pub fn meta_get(&self, key: &[u8]) -> Result<Option<Bytes>, MvccError> {
        Ok(self.source().get(Space::Meta, &meta_key(key))?)
    }

    /// The rows of that kind whose keys start with `prefix`, in order.
    ///
    /// # Errors
    /// Of the engine.
    pub fn meta_rows(&self, prefix: &[u8]) -> Result<Vec<(Bytes, Bytes)>, MvccError> {
        let start = meta_key(prefix);
        let own = start.len() - prefix.len();
        let mut rows = Vec::new();
        let from = (Bound::Included(start.clone()), Bound::Unbounded);
        for row in self.source().scan(Space::Meta, from, Direction::Forward) {
            let (key, value) = row?;
            if !key.starts_with(&start) {
                break;
            }
            rows.push((key.slice(own..), value));
        }
        Ok(rows)
    }

    /// All members and their records.
    ///
    /// # Errors
    /// [`MvccError::Engine`].
    pub fn members(&self) -> Result<Vec<(NodeId, Bytes)>, MvccError> {
        let all = (Bound::Unbounded, Bound::Unbounded);
        self.source()
            .scan(Space::Members, all, Direction::Forward)
            .map(|row| {
                let (id, record) = row?;
                Ok((member_of_row(&id)?, record))
            })
            .collect()
    }

    /// A member's record.
    ///
    /// # Errors
    /// [`MvccError::Engine`].
    pub fn member(&self, id: NodeId) -> Result<Option<Bytes>, MvccError> {
        Ok(self.source().get(Space::Members, &member_row(id))?)
    }

    /// The replication group's membership as of [`View::applied`]; `None` if it was never set.
    ///
    /// # Errors
    /// [`MvccError::Engine`].
    pub fn membership(&self) -> Result<Option<Bytes>, MvccError> {
        Ok(self.source().get(Space::Meta, &membership_key())?)
    }
}

pub(crate) fn lease(source: Source<'_>, id: LeaseId) -> Result<Option<LeaseRecord>, MvccError> {
    source
        .get(Space::Leases, &lease_row(id))?
        .map(LeaseRecord::decode)
        .transpose()
}

/// The first key of a lease that is not before `start`.
pub(crate) fn lease_key_from(
    source: Source<'_>,
    id: LeaseId,
    start: &[u8],
) -> Result<Option<Bytes>, MvccError> {
    let (_, end) = history::lease_bounds(id);
    let bounds = (Bound::Included(history::lease_key(id, start)), end);
    let mut rows = source.scan(Space::LeaseKeys, bounds, Direction::Forward);
    let row = rows.next().transpose()?;
    Ok(row.map(|(row, _)| history::leased_key(&row)))
}

/// The first `max` keys of a lease.
pub(crate) fn keys_of_lease(
    source: Source<'_>,
    id: LeaseId,
    max: usize,
) -> Result<Vec<Bytes>, MvccError> {
    source
        .scan(
            Space::LeaseKeys,
            history::lease_bounds(id),
            Direction::Forward,
        )
        .take(max)
        .map(|row| Ok(history::leased_key(&row?.0)))
        .collect()
}
