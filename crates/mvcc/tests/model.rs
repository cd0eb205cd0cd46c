//! Compares the store with a naive model that keeps everything.

#![expect(clippy::unwrap_used, clippy::panic, reason = "test helpers may panic")]

mod support;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use support::{Harness, Model, Op, Place, Query, check_events, check_queries, op, query};
use synod_mvcc::{
    Applied, Compare, CompareOp, CompareTarget, Importer, KeyRange, LeaseId, LeaseRecord,
    MvccError, MvccStore, Put, RangeQuery, Revision, View, export,
};
use synod_types::{Index, LogPosition};

fn run(place: Place, cases: u32) {
    let mut runner = TestRunner::new(ProptestConfig {
        cases,
        max_shrink_iters: 2_000,
        ..ProptestConfig::default()
    });
    let steps = prop::collection::vec((op(), prop::collection::vec(query(), 0..3)), 1..80);
    runner
        .run(&steps, |steps| {
            behaves_like_the_model(place, &steps);
            Ok(())
        })
        .unwrap();
}

fn behaves_like_the_model(place: Place, steps: &[(Op, Vec<Query>)]) {
    let mut harness = Harness::new(place);
    let mut model = Model::new();
    for (op, queries) in steps {
        harness.apply(op, &mut model);
        check_queries(&harness, &model, queries);
    }
    harness.commit(&mut model);
    check_events(&harness, &model);
    harness.reopen();
    check_events(&harness, &model);
    let all: Vec<Query> = steps
        .iter()
        .flat_map(|(_, queries)| queries.clone())
        .collect();
    check_queries(&harness, &model, &all);
    compaction_changes_no_hash(&harness, steps);
    sweeping_changes_no_hash(&mut harness);
    exported_content_is_the_same(&harness);
}

/// Checks that a member that has compacted and one that never does agree on what both can read.
fn compaction_changes_no_hash(harness: &Harness, steps: &[(Op, Vec<Query>)]) {
    let mut twin = Harness::new(Place::Memory);
    let mut model = Model::new();
    for (op, _) in steps {
        if !matches!(op, Op::Compact(_) | Op::Sweep(_)) {
            twin.apply(op, &mut model);
        }
    }
    twin.commit(&mut model);
    let (view, all) = (harness.store.view(), twin.store.view());
    for revision in view.compacted().get().max(1)..=view.revision().get() {
        let revision = Revision::new(revision);
        let hash = |view: &View| view.hash_kv(Some(revision)).unwrap().hash;
        assert_eq!(hash(&view), hash(&all), "at {revision}");
    }
}

/// Checks that sweeping obsolete rows changes no hash.
fn sweeping_changes_no_hash(harness: &mut Harness) {
    let before = harness.store.view();
    let (kv, all) = (before.hash_kv(None).unwrap(), before.hash().unwrap());
    let compactor = harness.store.reader().compactor();
    while !compactor.step(3).unwrap().is_done {}
    harness.check_swept_revisions();
    harness.commit_empty();
    let after = harness.store.view();
    assert_eq!(after.hash_kv(None).unwrap(), kv);
    assert_eq!(after.hash().unwrap(), all);
    for revision in after.compacted().get().max(1)..=after.revision().get() {
        let revision = Some(Revision::new(revision));
        assert_eq!(
            after.hash_kv(revision).unwrap(),
            before.hash_kv(revision).unwrap()
        );
    }
    let stored = harness.stored_bytes();
    assert_eq!(harness.store.reader().live_bytes(), stored);
}

fn exported_content_is_the_same(harness: &Harness) {
    let view = harness.store.view();
    let copy = Harness::empty_engine(Place::Memory);
    let mut importer = Importer::new(copy.engine()).unwrap();
    let mut resume = Some(Bytes::new());
    while let Some(after) = resume {
        let (chunk, next) = export(&view, &after, 100).unwrap();
        importer.write(chunk).unwrap();
        resume = next;
    }
    importer.finish().unwrap();
    let copy = copy.open();
    assert_eq!(copy.view().hash().unwrap(), view.hash().unwrap());
    assert_eq!(copy.view().applied(), view.applied());
    assert_eq!(copy.view().compacted(), view.compacted());
    assert_eq!(copy.view().key_count(), view.key_count());
    assert_eq!(
        copy.reader().live_bytes(),
        harness.store.reader().live_bytes()
    );
}

#[test]
fn memory_store_behaves_like_the_model() {
    run(Place::Memory, 400);
}

#[test]
fn disk_store_behaves_like_the_model() {
    run(Place::Disk, 10);
}

fn put(key: &'static str, value: &'static str) -> Put {
    Put {
        key: Bytes::from_static(key.as_bytes()),
        value: Bytes::from_static(value.as_bytes()),
        ..Put::default()
    }
}

fn applied(index: u64) -> Applied {
    Applied {
        position: LogPosition {
            index: Index::new(index),
            ..LogPosition::ZERO
        },
        membership: None,
    }
}

#[test]
fn an_unfinished_transaction_leaves_nothing() {
    let mut store = Harness::empty_engine(Place::Memory).open();
    let mut txn = store.begin();
    txn.put(&put("a", "1")).unwrap();
    txn.finish();
    let mut txn = store.begin();
    txn.put(&put("a", "2")).unwrap();
    txn.put(&put("b", "2")).unwrap();
    txn.meta_put(b"m", Bytes::new());
    assert_eq!(txn.revision(), Revision::new(3));
    drop(txn);
    let mut txn = store.begin();
    assert_eq!(txn.revision(), Revision::new(2));
    assert_eq!(
        txn.range(&RangeQuery::new(KeyRange::all())).unwrap().count,
        1
    );
    assert_eq!(txn.meta_get(b"m").unwrap(), None);
    let missing = txn.put(&Put {
        ignore_value: true,
        ..put("b", "")
    });
    assert!(matches!(missing, Err(MvccError::KeyNotFound)));
    txn.finish();
    let events = store.commit(applied(1)).unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!(
        store
            .view()
            .range(&RangeQuery::new(KeyRange::all()))
            .unwrap()
            .count,
        1
    );
}

#[test]
fn rows_of_the_service_are_found_by_what_their_keys_start_with() {
    let mut store = Harness::empty_engine(Place::Memory).open();
    let mut txn = store.begin();
    for key in ["a/", "a/2", "a/1", "a", "a0", "b/1"] {
        txn.meta_put(key.as_bytes(), Bytes::from(key));
    }
    txn.meta_delete(b"a/2");
    txn.put(&put("a/3", "no such row")).unwrap();
    txn.finish();
    store.commit(applied(1)).unwrap();
    let rows = |prefix: &[u8]| store.view().meta_rows(prefix).unwrap();
    let both = |key: &'static str| (Bytes::from(key), Bytes::from(key));
    assert_eq!(rows(b"a/"), [both("a/"), both("a/1")]);
    assert_eq!(rows(b"b"), [both("b/1")]);
    assert_eq!(rows(b"c"), []);
    assert_eq!(rows(b"").len(), 5);
}

#[test]
fn one_transaction_may_change_a_key_more_than_once() {
    let mut store = Harness::empty_engine(Place::Memory).open();
    let all = RangeQuery::new(KeyRange::all());
    let one = KeyRange::One(Bytes::from_static(b"a"));
    let mut txn = store.begin();
    txn.put(&put("a", "1")).unwrap();
    txn.finish();
    let mut txn = store.begin();
    txn.delete_range(&one, None).unwrap();
    txn.put(&put("a", "2")).unwrap();
    txn.put(&put("a", "3")).unwrap();
    txn.put(&put("b", "3")).unwrap();
    txn.delete_range(&KeyRange::One(Bytes::from_static(b"b")), None)
        .unwrap();
    txn.finish();
    let events = store.commit(applied(1)).unwrap();
    assert_eq!(events.len(), 2);
    let changes: Vec<_> = events[1]
        .events
        .iter()
        .map(|e| (e.kind, e.key.clone()))
        .collect();
    assert_eq!(changes.len(), 2, "{changes:?}");
    assert!(events[1].events[0].prev_kv.is_some() && events[1].events[1].prev_kv.is_none());
    let view = store.view();
    assert_eq!((view.range(&all).unwrap().count, view.key_count()), (1, 1));
    let mut txn = store.begin();
    txn.put(&put("a", "4")).unwrap();
    txn.finish();
    store.commit(applied(2)).unwrap();
    for (revision, value) in [(2, "1"), (3, "3"), (4, "4")] {
        let query = RangeQuery {
            revision: Some(Revision::new(revision)),
            ..all.clone()
        };
        let result = store.view().range(&query).unwrap();
        let fields = synod_mvcc::KeyValueView::parse(&result.kvs[0]).unwrap();
        assert_eq!(fields.value(&result.kvs[0]), value.as_bytes());
        assert_eq!(result.count, 1);
    }
    let mut txn = store.begin();
    txn.compact(Revision::new(4)).unwrap();
    txn.finish();
    store.commit(applied(3)).unwrap();
    let before = store.view().hash_kv(None).unwrap();
    let step = store.reader().compactor().step(1_000).unwrap();
    assert!(step.is_done);
    store.commit(applied(4)).unwrap();
    assert_eq!(store.view().hash_kv(None).unwrap(), before);
}

#[test]
fn revoking_leases_deletes_in_one_revision() {
    let mut store = Harness::empty_engine(Place::Memory).open();
    let (first, second) = (LeaseId::new(7), LeaseId::new(9));
    let record = LeaseRecord {
        ttl_s: 10,
        remaining_s: 0,
    };
    let mut txn = store.begin();
    txn.lease_grant(first, record).unwrap();
    txn.lease_grant(second, record).unwrap();
    assert!(matches!(
        txn.lease_grant(first, record),
        Err(MvccError::LeaseExists { .. })
    ));
    txn.lease_checkpoint(second, 4).unwrap();
    txn.finish();
    for (key, lease) in [("c", first), ("a", first), ("b", second), ("d", first)] {
        let mut txn = store.begin();
        txn.put(&Put {
            lease,
            ..put(key, "v")
        })
        .unwrap();
        txn.finish();
    }
    // A put without a lease detaches the key.
    let mut txn = store.begin();
    txn.put(&put("d", "w")).unwrap();
    // Pending changes count, the keys of other leases never.
    let from = |lease, start: &str| txn.lease_key_from(lease, start.as_bytes()).unwrap();
    assert_eq!(from(first, "").unwrap(), "a");
    assert_eq!(from(first, "a").unwrap(), "a");
    assert_eq!(from(first, "b").unwrap(), "c");
    assert_eq!(from(first, "c\0"), None);
    assert_eq!(from(second, "b\0"), None);
    assert_eq!(from(LeaseId::new(8), ""), None);
    txn.finish();
    store.commit(applied(1)).unwrap();
    let leases = store.view().leases().unwrap();
    assert_eq!(
        leases[1],
        (
            second,
            LeaseRecord {
                ttl_s: 10,
                remaining_s: 4
            }
        )
    );
    assert_eq!(store.view().keys_of_lease(first).unwrap(), ["a", "c"]);
    let found = store.view().lease_key_from(first, b"b").unwrap();
    assert_eq!(found.unwrap(), "c");
    let before = store.revision();
    let mut txn = store.begin();
    assert_eq!(txn.lease_revoke(first).unwrap(), 2);
    assert_eq!(txn.lease_revoke(second).unwrap(), 1);
    assert!(matches!(
        txn.lease_revoke(first),
        Err(MvccError::LeaseNotFound { .. })
    ));
    let outcome = txn.finish();
    assert_eq!(outcome.revision, before.next());
    let events = store.commit(applied(2)).unwrap();
    let keys: Vec<_> = events[0]
        .events
        .iter()
        .map(|event| event.key.clone())
        .collect();
    assert_eq!(keys, ["a", "c", "b"]);
    assert!(store.view().leases().unwrap().is_empty());
    assert_eq!(store.view().key_count(), 1);
}

#[test]
fn compares_follow_etcd() {
    let mut store = Harness::empty_engine(Place::Memory).open();
    for (key, value) in [("a", "1"), ("b", "1"), ("b", "2")] {
        let mut txn = store.begin();
        txn.put(&put(key, value)).unwrap();
        txn.finish();
    }
    let txn = store.begin();
    let holds = |range: KeyRange, target, op| txn.compare(&Compare { range, target, op }).unwrap();
    let one = |key: &'static str| KeyRange::One(Bytes::from_static(key.as_bytes()));
    let both = || KeyRange::prefix(Bytes::new());
    assert!(holds(one("b"), CompareTarget::Version(2), CompareOp::Equal));
    assert!(holds(one("x"), CompareTarget::Version(0), CompareOp::Equal));
    assert!(holds(
        one("x"),
        CompareTarget::Mod(Revision::new(1)),
        CompareOp::Less
    ));
    assert!(!holds(
        one("x"),
        CompareTarget::Value(Bytes::new()),
        CompareOp::Equal
    ));
    assert!(!holds(
        one("x"),
        CompareTarget::Value("a".into()),
        CompareOp::NotEqual
    ));
    assert!(holds(both(), CompareTarget::Version(0), CompareOp::Greater));
    assert!(!holds(both(), CompareTarget::Version(1), CompareOp::Equal));
    assert!(!holds(
        both(),
        CompareTarget::Value("1".into()),
        CompareOp::Equal
    ));
    let nothing = || KeyRange::prefix("zzz".into());
    assert!(holds(
        nothing(),
        CompareTarget::Create(Revision::ZERO),
        CompareOp::Equal
    ));
    assert!(!holds(
        nothing(),
        CompareTarget::Value("1".into()),
        CompareOp::NotEqual
    ));
    assert!(holds(
        one("a"),
        CompareTarget::Lease(LeaseId::NONE),
        CompareOp::Equal
    ));
}

#[test]
fn compaction_does_not_change_the_hash_at_a_deletion() {
    let mut store = Harness::empty_engine(Place::Memory).open();
    for value in ["1", "2", "3"] {
        let mut txn = store.begin();
        txn.put(&put("a", value)).unwrap();
        txn.finish();
    }
    let mut txn = store.begin();
    let one = KeyRange::One(Bytes::from_static(b"a"));
    txn.delete_range(&one, None).unwrap();
    let deleted = txn.finish().revision;
    let mut txn = store.begin();
    txn.put(&put("b", "1")).unwrap();
    txn.finish();
    store.commit(applied(1)).unwrap();
    let hash = |store: &MvccStore| store.view().hash_kv(Some(deleted)).unwrap().hash;
    let before = hash(&store);
    let mut txn = store.begin();
    txn.compact(deleted).unwrap();
    txn.finish();
    store.commit(applied(2)).unwrap();
    assert_eq!(hash(&store), before, "compacted");
    while !store.reader().compactor().step(1).unwrap().is_done {}
    assert_eq!(hash(&store), before, "swept");
}

/// Reads from memory, from the stored rows, and from the rows left after sweeping.
#[test]
fn an_event_at_the_compacted_revision_has_no_previous_record() {
    let place = Harness::empty_engine(Place::Memory);
    let mut store = place.open();
    for value in ["1", "2", "3"] {
        let mut txn = store.begin();
        txn.put(&put("a", value)).unwrap();
        txn.finish();
        store.commit(applied(1)).unwrap();
    }
    let mut txn = store.begin();
    txn.compact(Revision::new(3)).unwrap();
    txn.finish();
    store.commit(applied(2)).unwrap();
    let told = |store: &MvccStore| -> Vec<bool> {
        let view = store.view();
        let page = view.events(Revision::new(3), view.revision(), None, 1000);
        let batches = page.unwrap().batches;
        let events = batches.iter().flat_map(|batch| &batch.events);
        events.map(|event| event.prev_kv.is_some()).collect()
    };
    assert_eq!(told(&store), [false, true], "in memory");
    drop(store);
    let store = place.open();
    assert_eq!(told(&store), [false, true], "after a restart");
    while !store.reader().compactor().step(1).unwrap().is_done {}
    assert_eq!(told(&store), [false, true], "swept");
}
