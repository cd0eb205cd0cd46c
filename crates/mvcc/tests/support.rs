//! A model of the keyspace, and a harness that drives store and model in step.

mod failing;
mod model;
mod ops;

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use synod_engine::{Direction, DiskConfig, DiskEngine, Engine, MemoryEngine, Space};
use synod_mvcc::{Applied, KeyRange, MvccConfig, MvccError, MvccStore, Put, RangeQuery, Revision};
use synod_types::{Index, LogPosition};
use tempfile::TempDir;

use self::failing::FailingEngine;
pub(crate) use self::model::Model;
pub(crate) use self::ops::{Change, Op, Query, op, query};

/// The engine that a store uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    Memory,
    Disk,
}

/// An engine and what is needed to open it again.
pub(crate) struct EngineAt {
    engine: Option<Arc<dyn Engine>>,
    dir: Option<TempDir>,
}

impl EngineAt {
    pub(crate) fn engine(&self) -> Arc<dyn Engine> {
        Arc::clone(self.engine.as_ref().unwrap())
    }

    pub(crate) fn open(&self) -> MvccStore {
        MvccStore::open(self.engine(), config()).unwrap()
    }

    fn reopen(&mut self) {
        if let Some(dir) = &self.dir {
            self.engine = None;
            self.engine = Some(Arc::new(open_disk(dir)));
        }
    }
}

/// Small caches, so that reads use both the caches and the disk, and small pieces.
fn config() -> MvccConfig {
    MvccConfig {
        recent_revisions: 8,
        recent_bytes: 1 << 20,
        count_cache_bytes: 1 << 12,
        recent_record_bytes: 1 << 11,
        piece_changes: 3,
    }
}

fn open_disk(dir: &TempDir) -> DiskEngine {
    let mut config = DiskConfig::new(dir.path().join("engine"));
    config.memtable_bytes = 4 << 10;
    DiskEngine::open(config).unwrap()
}

pub(crate) struct Harness {
    pub(crate) store: MvccStore,
    place: EngineAt,
    index: u64,
}

impl Harness {
    pub(crate) fn new(place: Place) -> Self {
        let place = Self::empty_engine(place);
        Self {
            store: place.open(),
            place,
            index: 0,
        }
    }

    pub(crate) fn empty_engine(place: Place) -> EngineAt {
        match place {
            Place::Memory => EngineAt {
                engine: Some(Arc::new(MemoryEngine::new())),
                dir: None,
            },
            Place::Disk => {
                let dir = tempfile::tempdir().unwrap();
                EngineAt {
                    engine: Some(Arc::new(open_disk(&dir))),
                    dir: Some(dir),
                }
            }
        }
    }

    /// Applies the same operation to store and model.
    pub(crate) fn apply(&mut self, op: &Op, model: &mut Model) {
        match op {
            Op::Txn(changes) => self.txn(changes, model),
            Op::Compact(permille) => {
                let current = model.revision();
                let target = current * i64::from(*permille) / 1000;
                let mut txn = self.store.begin();
                let result = txn.compact(Revision::new(target));
                txn.finish();
                match result {
                    Ok(()) => {
                        assert!(target > model.compacted && target <= current);
                        model.compacted = target;
                    }
                    Err(MvccError::Compacted { compacted }) => {
                        assert_eq!(compacted.get(), model.compacted);
                        assert!(target <= model.compacted);
                    }
                    Err(other) => panic!("{other}"),
                }
            }
            Op::Sweep(rows) => {
                let compactor = self.store.reader().compactor();
                compactor.step(*rows).unwrap();
            }
            Op::DeleteLarge {
                range,
                interrupted_after,
            } => self.delete_large(range, *interrupted_after, model),
            Op::Commit => self.commit(model),
            Op::Reopen => {
                self.commit(model);
                self.reopen();
            }
        }
    }

    fn delete_large(
        &mut self,
        range: &KeyRange,
        interrupted_after: Option<usize>,
        model: &mut Model,
    ) {
        if self.store.begin_large().is_none() {
            self.commit(model);
        }
        if let Some(writes) = interrupted_after {
            self.interrupt_delete(range, writes);
            return;
        }
        let mut large = self.store.begin_large().unwrap();
        large.delete_range(range).unwrap();
        let deleted = large.finish().unwrap();
        model.begin();
        assert_eq!(deleted, model.delete(range).len() as u64);
        model.finish();
        assert_eq!(self.store.revision().get(), model.revision());
        assert!(self.commit_batch().is_empty());
        model.committed = model.revision();
        assert_eq!(
            self.store.view().key_count(),
            model.at(model.committed).len() as u64
        );
    }

    /// Simulates the end of the process after `writes` engine writes of a deletion, or just before
    /// its commit.
    fn interrupt_delete(&mut self, range: &KeyRange, writes: usize) {
        let before = self.store.view().hash().unwrap();
        let rows = self.stored_rows();
        let failing = Arc::new(FailingEngine::new(self.place.engine(), writes));
        self.store = MvccStore::open(failing, config()).unwrap();
        let mut large = self.store.begin_large().unwrap();
        // Whether or not this fails, the commit is missing.
        let _ = large.delete_range(range);
        drop(large);
        if writes == 0
            && !self
                .store
                .view()
                .range(&RangeQuery::new(range.clone()))
                .unwrap()
                .kvs
                .is_empty()
        {
            let refused = self.store.commit(Applied::default());
            assert!(matches!(refused, Err(MvccError::Failed)));
        }
        self.reopen();
        assert_eq!(self.store.view().hash().unwrap(), before);
        assert_eq!(self.stored_rows(), rows);
    }

    fn txn(&mut self, changes: &[Change], model: &mut Model) {
        let mut txn = self.store.begin();
        model.begin();
        for change in changes {
            match change {
                Change::Put(key, value, lease) => {
                    let put = Put {
                        key: key.clone(),
                        value: value.clone(),
                        lease: *lease,
                        ..Put::default()
                    };
                    assert_eq!(txn.put(&put).unwrap(), model.put(key, value, lease.get()));
                }
                Change::Delete(range) => {
                    let deleted = txn.delete_range(range, Some(usize::MAX)).unwrap();
                    let expected = model.delete(range);
                    assert_eq!(deleted.count, expected.len() as u64);
                    assert_eq!(deleted.prev_kvs, expected);
                }
                Change::Range(query) => {
                    let expected = model.range(query, txn.revision().get());
                    compare_results(query, txn.range(query), expected);
                }
            }
        }
        let outcome = txn.finish();
        model.finish();
        assert_eq!(outcome.revision.get(), model.revision());
    }

    pub(crate) fn commit(&mut self, model: &mut Model) {
        let events = self.commit_batch();
        let from = model.committed + 1;
        for (batch, revision) in events.iter().zip(from..) {
            assert_eq!(batch.revision.get(), revision);
            let wire: Vec<Bytes> = batch.events.iter().map(|e| e.wire(true).clone()).collect();
            assert_eq!(wire, model.events(revision, None, true));
        }
        model.committed = model.revision();
        assert_eq!(events.len() as i64, model.committed + 1 - from);
        assert_eq!(self.store.view().revision().get(), model.committed);
        assert_eq!(
            self.store.view().key_count(),
            model.at(model.committed).len() as u64
        );
    }

    pub(crate) fn commit_empty(&mut self) {
        assert!(self.commit_batch().is_empty());
    }

    fn commit_batch(&mut self) -> Vec<Arc<synod_mvcc::EventBatch>> {
        self.index += 1;
        let position = LogPosition {
            index: Index::new(self.index),
            ..LogPosition::ZERO
        };
        let membership = Some(Bytes::from(self.index.to_string()));
        let events = self
            .store
            .commit(Applied {
                position,
                membership,
            })
            .unwrap();
        self.check_applied();
        events
    }

    /// Opens the store again; on disk, also the engine.
    pub(crate) fn reopen(&mut self) {
        let fresh = Self::empty_engine(Place::Memory).open();
        drop(std::mem::replace(&mut self.store, fresh));
        self.place.reopen();
        self.store = self.place.open();
        if self.index > 0 {
            self.check_applied();
        }
    }

    fn check_applied(&self) {
        let view = self.store.view();
        assert_eq!(view.applied().index.get(), self.index);
        let membership = view.membership().unwrap().unwrap();
        assert_eq!(membership, self.index.to_string());
    }

    /// All rows of the engine.
    fn stored_rows(&self) -> Vec<(Space, Bytes, Bytes)> {
        let snapshot = self.place.engine().snapshot();
        let mut rows = Vec::new();
        for space in Space::ALL {
            let all = (Bound::Unbounded, Bound::Unbounded);
            for row in snapshot.scan(space, all, Direction::Forward) {
                let (key, value) = row.unwrap();
                rows.push((space, key, value));
            }
        }
        rows
    }

    /// The expected value of `live_bytes`.
    pub(crate) fn stored_bytes(&self) -> u64 {
        let counted = [Space::Latest, Space::History, Space::Revisions];
        let rows = self.stored_rows().into_iter();
        let rows = rows.filter(|(space, ..)| counted.contains(space));
        rows.map(|(_, key, value)| (key.len() + value.len()) as u64)
            .sum()
    }

    /// Checks that after a complete sweep no row is left for revisions before the compacted one,
    /// except the row that also holds the compacted one.
    pub(crate) fn check_swept_revisions(&self) {
        let compacted = self.store.view().compacted().get();
        let firsts: Vec<i64> = self
            .stored_rows()
            .iter()
            .filter(|(space, ..)| *space == Space::Revisions)
            .map(|(_, key, _)| i64::from_be_bytes(key[..8].try_into().unwrap()))
            .collect();
        let before = firsts.iter().filter(|first| **first < compacted).count();
        assert!(
            before <= 1,
            "{firsts:?} with everything compacted up to {compacted}"
        );
    }
}

/// The expected result of a query, or the expected error.
pub(crate) type Expected = Result<(Vec<Bytes>, u64, bool), &'static str>;

fn compare_results(
    query: &RangeQuery,
    found: Result<synod_mvcc::RangeResult, MvccError>,
    expected: Expected,
) {
    match (found, expected) {
        (Ok(found), Ok((kvs, count, more))) => {
            assert_eq!(found.kvs, kvs, "{query:?}");
            assert_eq!((found.count, found.more), (count, more), "{query:?}");
        }
        (Err(MvccError::Compacted { .. }), Err("compacted"))
        | (Err(MvccError::FutureRevision { .. }), Err("future")) => {}
        (found, expected) => panic!("{query:?}: {found:?} instead of {expected:?}"),
    }
}

/// Compares the committed state by range, stream and events.
pub(crate) fn check_queries(harness: &Harness, model: &Model, queries: &[Query]) {
    let view = harness.store.view();
    if view.compacted().get() != model.compacted {
        // This compaction isn't committed yet.
        return;
    }
    for query in queries {
        let range = query.at(model.committed);
        let expected = model.range(&range, model.committed);
        compare_results(&range, view.range(&range), expected.clone());
        if synod_mvcc::RangeStream::supports(&range) {
            compare_stream(harness, &range, expected);
        }
        check_page(&view, model, &range);
    }
}

fn compare_stream(harness: &Harness, query: &RangeQuery, expected: Expected) {
    let stream = harness.store.reader().range_stream(query.clone(), 20);
    let mut stream = match (stream, &expected) {
        (Ok(stream), Ok(_)) => stream,
        (Err(_), Err(_)) => return,
        (stream, expected) => panic!("{query:?}: {stream:?} instead of {expected:?}"),
    };
    let mut result = synod_mvcc::RangeResult::default();
    while let Some(chunk) = stream.next_chunk().unwrap() {
        assert!(result.count == 0, "only the last chunk has a count");
        result.kvs.extend(chunk.kvs);
        if chunk.is_last {
            result.count = chunk.count;
            result.more = chunk.more;
        }
    }
    compare_results(query, Ok(result), expected);
}

fn check_page(view: &synod_mvcc::View, model: &Model, query: &RangeQuery) {
    let filter = Some(&query.range);
    let from = query
        .revision
        .unwrap_or(view.compacted())
        .max(Revision::new(2));
    if from < view.compacted() {
        let refused = view.events(from, view.revision(), filter, 50);
        assert!(matches!(refused, Err(MvccError::Compacted { .. })));
        return;
    }
    let first = from.get();
    let found = read_events(view, from, filter, false);
    let expected: Vec<_> = (first..=model.committed)
        .flat_map(|revision| {
            let events = model.events(revision, filter, false);
            events.into_iter().map(move |event| (revision, event))
        })
        .collect();
    assert_eq!(found, expected);
}

/// All events starting at a revision, read in small pages.
fn read_events(
    view: &synod_mvcc::View,
    mut from: Revision,
    filter: Option<&KeyRange>,
    with_prev_kv: bool,
) -> Vec<(i64, Bytes)> {
    let mut found = Vec::new();
    loop {
        let page = view.events(from, view.revision(), filter, 50).unwrap();
        for batch in &page.batches {
            for event in &batch.events {
                found.push((batch.revision.get(), event.wire(with_prev_kv).clone()));
            }
        }
        let Some(next) = page.next else {
            return found;
        };
        from = next;
        if page.is_next_large {
            let mut after = Some(0);
            while let Some(piece) = after {
                let page = view
                    .large_events(next, piece, filter, with_prev_kv, 50)
                    .unwrap();
                let wires = page.events.iter().map(|e| e.wire(with_prev_kv).clone());
                found.extend(wires.map(|wire| (next.get(), wire)));
                after = page.next;
            }
            from = next.next();
        }
    }
}

/// Checks all events that can be read, with their displaced records where those can still be read.
pub(crate) fn check_events(harness: &Harness, model: &Model) {
    let view = harness.store.view();
    let first = model.compacted.max(2);
    let found = read_events(&view, Revision::new(first), None, true);
    let expected: Vec<_> = (first..=model.committed)
        .flat_map(|revision| {
            let events = model.events(revision, None, revision > model.compacted);
            events.into_iter().map(move |event| (revision, event))
        })
        .collect();
    assert_eq!(found, expected);
    let all = RangeQuery::new(KeyRange::all());
    compare_results(&all, view.range(&all), model.range(&all, model.committed));
}
