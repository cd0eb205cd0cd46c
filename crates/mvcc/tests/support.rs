//! A model of the keyspace, and what drives store and model alike.

mod model;
mod ops;

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use synod_engine::{Direction, DiskConfig, DiskEngine, Engine, MemoryEngine, Space};
use synod_mvcc::{Applied, KeyRange, MvccConfig, MvccError, MvccStore, Put, RangeQuery, Revision};
use synod_types::{Index, LogPosition};
use tempfile::TempDir;

pub(crate) use self::model::Model;
pub(crate) use self::ops::{Change, Op, Query, op, query};

/// Where a store lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    Memory,
    Disk,
}

/// An engine and what it takes to open it again.
pub(crate) struct EngineAt {
    engine: Option<Arc<dyn Engine>>,
    dir: Option<TempDir>,
}

impl EngineAt {
    pub(crate) fn engine(&self) -> Arc<dyn Engine> {
        Arc::clone(self.engine.as_ref().unwrap())
    }

    pub(crate) fn open(&self) -> MvccStore {
        // A short memory, so that both it and the disk are used.
        let config = MvccConfig {
            recent_revisions: 8,
            recent_bytes: 1 << 20,
            count_cache_bytes: 1 << 12,
            recent_record_bytes: 1 << 11,
        };
        MvccStore::open(self.engine(), config).unwrap()
    }

    fn reopen(&mut self) {
        if let Some(dir) = &self.dir {
            self.engine = None;
            self.engine = Some(Arc::new(open_disk(dir)));
        }
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

    /// Does the same to store and model.
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
            Op::Commit => self.commit(model),
            Op::Reopen => {
                self.commit(model);
                self.reopen();
            }
        }
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

    /// Opens the store again, on disk the engine too.
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

    /// What `live_bytes` has to be.
    pub(crate) fn stored_bytes(&self) -> u64 {
        let snapshot = self.place.engine().snapshot();
        let mut bytes = 0;
        for space in [Space::Latest, Space::History, Space::Revisions] {
            let all = (Bound::Unbounded, Bound::Unbounded);
            for row in snapshot.scan(space, all, Direction::Forward) {
                let (key, value) = row.unwrap();
                bytes += (key.len() + value.len()) as u64;
            }
        }
        bytes
    }
}

/// What a query has to give, or which error.
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

/// Compares committed state, by range, stream, and events.
pub(crate) fn check_queries(harness: &Harness, model: &Model, queries: &[Query]) {
    let view = harness.store.view();
    if view.compacted().get() != model.compacted {
        // A compaction that isn't committed yet.
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
    let mut from = query
        .revision
        .unwrap_or(view.compacted())
        .max(Revision::new(2));
    if from < view.compacted() {
        let refused = view.events(from, view.revision(), filter, 50);
        assert!(matches!(refused, Err(MvccError::Compacted { .. })));
        return;
    }
    let mut found = Vec::new();
    let first = from.get();
    loop {
        let page = view.events(from, view.revision(), filter, 50).unwrap();
        for batch in &page.batches {
            for event in &batch.events {
                found.push((batch.revision.get(), event.wire(false).clone()));
            }
        }
        match page.next {
            Some(next) => from = next,
            None => break,
        }
    }
    let expected: Vec<_> = (first..=model.committed)
        .flat_map(|revision| {
            let events = model.events(revision, filter, false);
            events.into_iter().map(move |event| (revision, event))
        })
        .collect();
    assert_eq!(found, expected);
}

/// All events that can be read, with the records they displaced as far as these can be read.
pub(crate) fn check_events(harness: &Harness, model: &Model) {
    let view = harness.store.view();
    let first = model.compacted.max(2);
    let mut found = Vec::new();
    let mut from = Revision::new(first);
    loop {
        let page = view.events(from, view.revision(), None, 200).unwrap();
        for batch in page.batches {
            for event in &batch.events {
                found.push((batch.revision.get(), event.wire(true).clone()));
            }
        }
        match page.next {
            Some(next) => from = next,
            None => break,
        }
    }
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
