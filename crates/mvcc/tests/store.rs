//! Tests the store with multiple count buckets, a long history and concurrent readers.

#![expect(clippy::unwrap_used, reason = "test helpers may panic")]

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use synod_engine::{Direction, DiskConfig, DiskEngine, Engine, MemoryEngine, Space};
use synod_mvcc::{
    Applied, KeyRange, KeyValueView, LeaseId, LeaseRecord, MvccConfig, MvccError, MvccStore, Put,
    RangeQuery, Revision, View,
};
use synod_types::{Index, LogPosition};

fn key(number: usize) -> Bytes {
    Bytes::from(format!("k{number:06}"))
}

fn span(start: usize, end: usize) -> KeyRange {
    KeyRange::Span {
        start: key(start),
        end: Some(key(end)),
    }
}

fn open(engine: &Arc<dyn Engine>) -> MvccStore {
    MvccStore::open(Arc::clone(engine), MvccConfig::default()).unwrap()
}

fn memory() -> Arc<dyn Engine> {
    Arc::new(MemoryEngine::new())
}

fn put(store: &mut MvccStore, number: usize, value: &str) {
    let mut txn = store.begin();
    txn.put(&Put {
        key: key(number),
        value: Bytes::copy_from_slice(value.as_bytes()),
        ..Put::default()
    })
    .unwrap();
    txn.finish();
}

fn delete(store: &mut MvccStore, range: &KeyRange) -> u64 {
    let mut txn = store.begin();
    let deleted = txn.delete_range(range, None).unwrap();
    txn.finish();
    deleted.count
}

fn commit(store: &mut MvccStore, index: u64) {
    let position = LogPosition {
        index: Index::new(index),
        ..LogPosition::ZERO
    };
    let membership = None;
    store
        .commit(Applied {
            position,
            membership,
        })
        .unwrap();
}

fn count(view: &View, range: KeyRange, revision: Option<Revision>) -> u64 {
    let query = RangeQuery {
        revision,
        limit: 1,
        ..RangeQuery::new(range)
    };
    let limited = view.range(&query).unwrap();
    let counted = RangeQuery {
        count_only: true,
        ..query
    };
    assert_eq!(view.range(&counted).unwrap().count, limited.count);
    assert_eq!(limited.more, limited.count > 1);
    limited.count
}

#[test]
fn counts_at_current_and_past_revisions() {
    const KEYS: usize = 5_000;
    let engine = memory();
    let mut store = open(&engine);
    for number in 0..KEYS {
        put(&mut store, number * 7919 % KEYS, "1");
        if number % 100 == 0 {
            commit(&mut store, number as u64);
        }
    }
    commit(&mut store, KEYS as u64);
    let full = store.revision();
    assert_eq!(delete(&mut store, &span(1_000, 3_000)), 2_000);
    // Also counted inside a transaction, before anything is committed.
    let txn = store.begin();
    let rest = txn
        .range(&RangeQuery {
            limit: 10,
            ..RangeQuery::new(span(500, 4_000))
        })
        .unwrap();
    assert_eq!((rest.count, rest.kvs.len(), rest.more), (1_500, 10, true));
    drop(txn);
    commit(&mut store, KEYS as u64 + 1);
    let check = |view: &View| {
        assert_eq!(view.key_count(), 3_000);
        assert_eq!(count(view, span(500, 4_000), None), 1_500);
        assert_eq!(count(view, span(500, 4_000), Some(full)), 3_500);
        assert_eq!(count(view, KeyRange::all(), Some(full)), KEYS as u64);
        assert_eq!(count(view, KeyRange::all(), Some(Revision::new(11))), 10);
    };
    check(&store.view());
    // With empty caches, and with counts that were never written.
    check(&open(&engine).view());
    let forgetful = MvccConfig {
        recent_revisions: 0,
        ..MvccConfig::default()
    };
    check(&MvccStore::open(engine, forgetful).unwrap().view());
}

#[test]
fn results_can_be_bounded() {
    let mut store = open(&memory());
    for number in 0..100 {
        put(&mut store, number, "a value");
    }
    commit(&mut store, 1);
    let query = RangeQuery {
        max_bytes: 500,
        ..RangeQuery::new(KeyRange::all())
    };
    let refused = store.view().range(&query);
    assert!(matches!(
        refused,
        Err(MvccError::ResultTooLarge { max_bytes: 500 })
    ));
    let few = RangeQuery { limit: 10, ..query };
    assert_eq!(store.view().range(&few).unwrap().kvs.len(), 10);
}

#[test]
fn a_stream_ends_when_its_revision_is_compacted() {
    let mut store = open(&memory());
    for number in 0..100 {
        put(&mut store, number, "a value");
    }
    commit(&mut store, 1);
    let query = RangeQuery::new(KeyRange::all());
    let mut stream = store.reader().range_stream(query, 100).unwrap();
    assert!(!stream.next_chunk().unwrap().unwrap().is_last);
    put(&mut store, 50, "another");
    put(&mut store, 200, "later");
    commit(&mut store, 2);
    let mut seen = 0;
    while seen < 60 {
        let chunk = stream.next_chunk().unwrap().unwrap();
        for kv in &chunk.kvs {
            let fields = KeyValueView::parse(kv).unwrap();
            assert_eq!(fields.value(kv), b"a value");
        }
        seen += chunk.kvs.len();
    }
    let mut txn = store.begin();
    txn.compact(txn.revision()).unwrap();
    txn.finish();
    commit(&mut store, 3);
    assert!(matches!(
        stream.next_chunk(),
        Err(MvccError::Compacted { .. })
    ));
}

/// Copies an open engine's files: the state that a killed process leaves.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn data_and_position_match_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("engine");
    let engine: Arc<dyn Engine> = Arc::new(DiskEngine::open(DiskConfig::new(&path)).unwrap());
    let mut store = open(&engine);
    for index in 1..=300 {
        for number in 0..10 {
            put(&mut store, number, &index.to_string());
        }
        if index == 100 {
            let mut txn = store.begin();
            txn.compact(txn.revision()).unwrap();
            txn.finish();
        }
        commit(&mut store, index);
        if index % 75 != 0 {
            continue;
        }
        if index == 150 {
            store.persist().unwrap();
            store.reader().compactor().step(500).unwrap();
        }
        let killed = dir.path().join(index.to_string());
        copy(&path, &killed);
        let engine: Arc<dyn Engine> = Arc::new(DiskEngine::open(DiskConfig::new(&killed)).unwrap());
        let again = open(&engine);
        let view = again.view();
        assert_eq!(view.applied().index.get(), index);
        assert_eq!(
            view.revision().get(),
            1 + i64::try_from(index).unwrap() * 10
        );
        assert_eq!(view.hash().unwrap(), store.view().hash().unwrap());
        for kv in view.range(&RangeQuery::new(KeyRange::all())).unwrap().kvs {
            let fields = KeyValueView::parse(&kv).unwrap();
            assert_eq!(fields.value(&kv), index.to_string().as_bytes());
        }
    }
}

#[test]
fn compaction_does_not_disturb_readers_and_writers() {
    const KEYS: usize = 50;
    let dir = tempfile::tempdir().unwrap();
    let mut config = DiskConfig::new(dir.path().join("engine"));
    config.memtable_bytes = 64 << 10;
    let engine: Arc<dyn Engine> = Arc::new(DiskEngine::open(config).unwrap());
    let mut store = open(&engine);
    (0..KEYS).for_each(|number| put(&mut store, number, "0"));
    commit(&mut store, 1);
    let done = AtomicBool::new(false);
    let reader = store.reader();
    std::thread::scope(|scope| {
        let reads = scope.spawn(|| {
            let mut reads = 0;
            while !done.load(Ordering::Relaxed) {
                let view = reader.view();
                // All keys have the value of the same round, now and a little earlier.
                for back in [0, 2 * KEYS as i64] {
                    let at = (view.revision().get() - back).max(view.compacted().get());
                    let at = at - (at - 1) % KEYS as i64;
                    if at > view.compacted().get().max(KEYS as i64) {
                        let query = RangeQuery {
                            revision: Some(Revision::new(at)),
                            ..RangeQuery::new(KeyRange::all())
                        };
                        same_values(&view.range(&query).unwrap().kvs, KEYS);
                        reads += 1;
                    }
                }
            }
            reads
        });
        let sweeps = scope.spawn(|| {
            let compactor = reader.compactor();
            let mut rows = 0;
            while !done.load(Ordering::Relaxed) {
                rows += compactor.step(37).unwrap().rows;
            }
            while !compactor.step(1_000).unwrap().is_done {}
            rows
        });
        for round in 1..=300_u64 {
            (0..KEYS).for_each(|number| put(&mut store, number, &round.to_string()));
            if round % 10 == 0 {
                let mut txn = store.begin();
                let target = txn.revision().get() - 3 * KEYS as i64;
                txn.compact(Revision::new(target)).unwrap();
                txn.finish();
            }
            commit(&mut store, round + 1);
        }
        done.store(true, Ordering::Relaxed);
        assert!(reads.join().unwrap() > 0);
        assert!(sweeps.join().unwrap() > 0);
    });
    let view = store.view();
    let page = view
        .events(view.compacted(), view.revision(), None, usize::MAX)
        .unwrap();
    assert_eq!(
        page.batches.len(),
        view.revision().since(view.compacted()) + 1
    );
}

fn same_values(kvs: &[Bytes], keys: usize) {
    assert_eq!(kvs.len(), keys);
    let value = |kv: &Bytes| {
        let fields = KeyValueView::parse(kv).unwrap();
        fields.value(kv).to_vec()
    };
    assert!(
        kvs.windows(2)
            .all(|pair| value(&pair[0]) == value(&pair[1]))
    );
}

#[test]
fn readers_follow_a_replaced_engine() {
    let mut store = open(&memory());
    (0..10).for_each(|number| put(&mut store, number, "old"));
    commit(&mut store, 1);
    let reader = store.reader();
    let before = reader.view();
    let other = memory();
    let mut source = open(&other);
    (0..2_000).for_each(|number| put(&mut source, number, "new"));
    commit(&mut source, 7);
    drop(source);
    store.replace_engine(other).unwrap();
    assert_eq!(reader.view().applied().index.get(), 7);
    assert_eq!(reader.view().key_count(), 2_000);
    assert_eq!(count(&reader.view(), span(500, 1_500), None), 1_000);
    assert_eq!((before.key_count(), before.applied().index.get()), (10, 1));
    put(&mut store, 5_000, "newer");
    commit(&mut store, 8);
    assert_eq!(reader.revision().get(), 2_002);
}

/// The first revisions of the rows in `Revisions`.
fn revision_rows(engine: &Arc<dyn Engine>) -> Vec<i64> {
    let all = (Bound::Unbounded, Bound::Unbounded);
    engine
        .snapshot()
        .scan(Space::Revisions, all, Direction::Forward)
        .map(|row| i64::from_be_bytes(row.unwrap().0[..8].try_into().unwrap()))
        .collect()
}

#[test]
fn pieces_swept_by_one_compaction_are_removed_by_the_next() {
    let engine = memory();
    let config = MvccConfig {
        piece_changes: 2,
        ..MvccConfig::default()
    };
    let mut store = MvccStore::open(Arc::clone(&engine), config).unwrap();
    for number in 0..20 {
        put(&mut store, number, "1");
    }
    commit(&mut store, 1);
    let mut large = store.begin_large().unwrap();
    large.delete_range(&KeyRange::all()).unwrap();
    assert_eq!(large.finish().unwrap(), 20);
    commit(&mut store, 2);
    let compact = |store: &mut MvccStore, index: u64| {
        let mut txn = store.begin();
        let revision = txn.revision();
        txn.compact(revision).unwrap();
        txn.finish();
        commit(store, index);
    };
    let deleted = store.revision();
    compact(&mut store, 3);
    let compactor = store.reader().compactor();
    // Sweep the revisions before the deletion, and some of its pieces.
    while compactor.step(1).unwrap().swept < deleted.prev() {}
    for _ in 0..3 {
        compactor.step(1).unwrap();
    }
    put(&mut store, 1, "2");
    commit(&mut store, 4);
    compact(&mut store, 5);
    while !compactor.step(1).unwrap().is_done {}
    assert_eq!(revision_rows(&engine), [store.revision().get()]);
    let page = store
        .view()
        .events(store.revision(), store.revision(), None, 1);
    assert_eq!(page.unwrap().batches.len(), 1);
}

#[test]
fn revoking_a_lease_deletes_any_number_of_keys() {
    let engine = memory();
    let mut store = open(&engine);
    let (lease, other) = (LeaseId::new(7), LeaseId::new(8));
    let mut txn = store.begin();
    for id in [lease, other] {
        let record = LeaseRecord {
            ttl_s: 60,
            remaining_s: 0,
        };
        txn.lease_grant(id, record).unwrap();
    }
    for number in 0..600 {
        txn.put(&Put {
            key: key(number),
            lease: if number % 3 == 0 { other } else { lease },
            ..Put::default()
        })
        .unwrap();
    }
    txn.finish();
    assert!(
        store.begin_large().is_none(),
        "it would not see pending transactions"
    );
    commit(&mut store, 1);
    let mut large = store.begin_large().unwrap();
    let missing = large.revoke_lease(LeaseId::new(9));
    assert!(matches!(missing, Err(MvccError::LeaseNotFound { .. })));
    large.revoke_lease(lease).unwrap();
    assert_eq!(large.finish().unwrap(), 400);
    let before = store.view();
    assert_eq!(
        before.key_count(),
        600,
        "readers see nothing before the commit"
    );
    commit(&mut store, 2);
    let view = store.view();
    assert_eq!((view.revision().get(), view.key_count()), (3, 200));
    assert_eq!(view.lease(lease).unwrap(), None);
    assert_eq!(view.keys_of_lease(lease).unwrap(), Vec::<Bytes>::new());
    assert_eq!(view.keys_of_lease(other).unwrap().len(), 200);
    let reopened = open(&engine);
    assert_eq!(reopened.view().hash().unwrap(), view.hash().unwrap());
    assert_eq!(reopened.view().key_count(), 200);
}

#[test]
fn a_transaction_deletes_no_more_than_its_limit() {
    const KEYS: usize = 10;
    let engine = memory();
    let mut store = open(&engine);
    let lease = LeaseId::new(7);
    let mut txn = store.begin();
    let record = LeaseRecord {
        ttl_s: 60,
        remaining_s: 0,
    };
    txn.lease_grant(lease, record).unwrap();
    for number in 0..KEYS {
        txn.put(&Put {
            key: key(number),
            value: Bytes::from(vec![7; 1_000]),
            lease,
            ..Put::default()
        })
        .unwrap();
    }
    txn.finish();
    let mut txn = store.begin();
    txn.limit_deletes(KEYS * 1_300);
    assert_eq!(txn.delete_range(&span(0, 4), None).unwrap().count, 4);
    assert_eq!(txn.delete_range(&span(4, KEYS), None).unwrap().count, 6);
    drop(txn);
    // All deletions of a transaction count towards the limit.
    let mut txn = store.begin();
    txn.limit_deletes(7 * 1_300);
    assert_eq!(txn.delete_range(&span(0, 4), None).unwrap().count, 4);
    let refused = txn.delete_range(&span(4, KEYS), None);
    assert!(matches!(refused, Err(MvccError::DeleteTooLarge { .. })));
    drop(txn);
    for max_bytes in [0, 100, 5 * 1_300] {
        let mut txn = store.begin();
        txn.limit_deletes(max_bytes);
        let refused = txn.lease_revoke(lease);
        assert!(matches!(refused, Err(MvccError::DeleteTooLarge { .. })));
        drop(txn);
        let mut txn = store.begin();
        txn.limit_deletes(max_bytes);
        let refused = txn.delete_range(&KeyRange::all(), None);
        assert!(matches!(refused, Err(MvccError::DeleteTooLarge { .. })));
        drop(txn);
    }
    commit(&mut store, 1);
    assert_eq!(store.view().key_count(), KEYS as u64);
}
