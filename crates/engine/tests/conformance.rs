//! The conformance suite for engines, run for each implementation.

#![expect(clippy::unwrap_used, reason = "test helpers may panic")]

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use synod_engine::{
    Batch, Direction, DiskConfig, DiskEngine, Engine, EngineError, KeyBounds, MAX_KEY_BYTES,
    MemoryEngine, Row, Snapshot, Space,
};

#[test]
fn memory_engine_conforms() {
    conforms(50, || (MemoryEngine::new(), ()));
}

#[test]
fn disk_engine_conforms() {
    conforms(8, || {
        let dir = tempfile::tempdir().unwrap();
        let mut config = DiskConfig::new(dir.path().join("engine"));
        // Small enough to cause flushes and compactions.
        config.memtable_bytes = 1 << 16;
        (DiskEngine::open(config).unwrap(), dir)
    });
}

/// The suite. `open` returns an empty engine and a guard for its directory.
fn conforms<E: Engine + 'static, P>(cases: u32, open: impl Fn() -> (E, P)) {
    let with = |test: fn(&Arc<dyn Engine>)| {
        let (engine, place) = open();
        let engine: Arc<dyn Engine> = Arc::new(engine);
        test(&engine);
        drop(engine);
        drop(place);
    };
    with(an_empty_engine_has_no_rows);
    with(spaces_are_separate);
    with(snapshots_do_not_change);
    with(scans_respect_bounds_and_direction);
    with(the_last_change_of_a_row_in_a_batch_wins);
    with(key_lengths_are_checked);
    with(reads_accept_keys_longer_than_any_row);
    with(readers_never_see_part_of_a_batch);
    let mut runner = TestRunner::new(ProptestConfig::with_cases(cases));
    runner
        .run(&prop::collection::vec(step(), 1..60), |steps| {
            let (engine, place) = open();
            behaves_like_a_map(&engine, &steps);
            drop(engine);
            drop(place);
            Ok(())
        })
        .unwrap();
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn put(engine: &dyn Engine, space: Space, key: &str, value: &str) {
    let mut batch = Batch::new();
    batch.put(space, bytes(key), bytes(value));
    engine.write(batch).unwrap();
}

fn all() -> KeyBounds {
    (Bound::Unbounded, Bound::Unbounded)
}

fn rows(snapshot: &dyn Snapshot, bounds: KeyBounds, direction: Direction) -> Vec<Row> {
    snapshot
        .scan(Space::Latest, bounds, direction)
        .collect::<Result<_, _>>()
        .unwrap()
}

fn an_empty_engine_has_no_rows(engine: &Arc<dyn Engine>) {
    let snapshot = engine.snapshot();
    for space in Space::ALL {
        assert_eq!(snapshot.get(space, b"key").unwrap(), None);
        assert_eq!(snapshot.scan(space, all(), Direction::Forward).count(), 0);
    }
    engine.write(Batch::new()).unwrap();
    engine.persist().unwrap();
    assert!(engine.disk_bytes() < 1 << 16, "{}", engine.disk_bytes());
}

fn spaces_are_separate(engine: &Arc<dyn Engine>) {
    for space in Space::ALL {
        put(&**engine, space, "key", space.name());
    }
    let snapshot = engine.snapshot();
    for space in Space::ALL {
        let value = snapshot.get(space, b"key").unwrap().unwrap();
        assert_eq!(value, space.name());
    }
}

fn snapshots_do_not_change(engine: &Arc<dyn Engine>) {
    put(&**engine, Space::Latest, "a", "1");
    put(&**engine, Space::Latest, "b", "1");
    let before = engine.snapshot();
    let mut batch = Batch::new();
    batch.put(Space::Latest, bytes("a"), bytes("2"));
    batch.delete(Space::Latest, bytes("b"));
    batch.put(Space::Latest, bytes("c"), bytes("2"));
    engine.write(batch).unwrap();
    for number in 0..2_000 {
        put(&**engine, Space::Latest, "a", &format!("{number:0100}"));
    }
    let row = |key, value| (bytes(key), bytes(value));
    let expected = vec![row("a", "1"), row("b", "1")];
    assert_eq!(rows(&*before, all(), Direction::Forward), expected);
    assert_eq!(before.get(Space::Latest, b"a").unwrap(), Some(bytes("1")));
    assert_eq!(before.get(Space::Latest, b"c").unwrap(), None);
    let after = engine.snapshot();
    drop(before);
    put(&**engine, Space::Latest, "a", "3");
    assert_eq!(rows(&*after, all(), Direction::Forward).len(), 2);
    assert_eq!(after.get(Space::Latest, b"b").unwrap(), None);
}

fn scans_respect_bounds_and_direction(engine: &Arc<dyn Engine>) {
    let mut batch = Batch::new();
    for number in 0..1_000 {
        batch.put(Space::Latest, bytes(&format!("{number:03}")), Bytes::new());
    }
    engine.write(batch).unwrap();
    let snapshot = engine.snapshot();
    let key = |number: &str| bytes(number);
    let count = |bounds: KeyBounds| rows(&*snapshot, bounds, Direction::Forward).len();
    assert_eq!(count(all()), 1_000);
    let (low, high) = (key("100"), key("200"));
    assert_eq!(
        count((Bound::Included(low.clone()), Bound::Excluded(high.clone()))),
        100
    );
    assert_eq!(
        count((Bound::Excluded(low.clone()), Bound::Included(high.clone()))),
        100
    );
    assert_eq!(
        count((Bound::Included(low.clone()), Bound::Included(low.clone()))),
        1
    );
    assert_eq!(
        count((Bound::Included(low.clone()), Bound::Excluded(low.clone()))),
        0
    );
    assert_eq!(
        count((Bound::Excluded(low.clone()), Bound::Excluded(low.clone()))),
        0
    );
    assert_eq!(
        count((Bound::Included(high.clone()), Bound::Excluded(low.clone()))),
        0
    );
    let bounds = (Bound::Included(low), Bound::Excluded(high));
    let mut backward = rows(&*snapshot, bounds.clone(), Direction::Backward);
    backward.reverse();
    assert_eq!(backward, rows(&*snapshot, bounds, Direction::Forward));
}

fn the_last_change_of_a_row_in_a_batch_wins(engine: &Arc<dyn Engine>) {
    let mut batch = Batch::new();
    batch.put(Space::Latest, bytes("a"), bytes("1"));
    batch.put(Space::Latest, bytes("a"), bytes("2"));
    batch.put(Space::Latest, bytes("b"), bytes("1"));
    batch.delete(Space::Latest, bytes("b"));
    batch.delete(Space::Latest, bytes("c"));
    batch.put(Space::Latest, bytes("c"), bytes("1"));
    engine.write(batch).unwrap();
    let expected = vec![(bytes("a"), bytes("2")), (bytes("c"), bytes("1"))];
    let snapshot = engine.snapshot();
    assert_eq!(rows(&*snapshot, all(), Direction::Forward), expected);
}

fn key_lengths_are_checked(engine: &Arc<dyn Engine>) {
    for length in [0, MAX_KEY_BYTES + 1] {
        let mut batch = Batch::new();
        batch.put(Space::Latest, bytes("fine"), Bytes::new());
        batch.put(Space::Latest, vec![1; length].into(), Bytes::new());
        let refused = engine.write(batch);
        assert!(matches!(refused, Err(EngineError::KeyLength { length: l }) if l == length));
    }
    assert!(rows(&*engine.snapshot(), all(), Direction::Forward).is_empty());
    let mut batch = Batch::new();
    batch.put(Space::Latest, vec![1; MAX_KEY_BYTES].into(), bytes("v"));
    engine.write(batch).unwrap();
    assert_eq!(
        rows(&*engine.snapshot(), all(), Direction::Forward).len(),
        1
    );
}

fn reads_accept_keys_longer_than_any_row(engine: &Arc<dyn Engine>) {
    let longest = Bytes::from(vec![b'k'; MAX_KEY_BYTES]);
    let long = |tail: u8| {
        let mut key = longest.to_vec();
        key.extend([tail; 9]);
        Bytes::from(key)
    };
    let mut batch = Batch::new();
    for key in [bytes("a"), longest.clone(), bytes("z")] {
        batch.put(Space::Latest, key, bytes("v"));
    }
    engine.write(batch).unwrap();
    let snapshot = engine.snapshot();
    assert_eq!(snapshot.get(Space::Latest, &long(0)).unwrap(), None);
    let keys = |low, high| {
        let rows = rows(&*snapshot, (low, high), Direction::Forward);
        let lengths = rows.iter().map(|(key, _)| key.len());
        lengths.collect::<Vec<_>>()
    };
    for bound in [Bound::Included, Bound::Excluded] {
        assert_eq!(keys(bound(long(0)), Bound::Unbounded), [1], "only z");
        assert_eq!(keys(Bound::Unbounded, bound(long(0))), [1, MAX_KEY_BYTES]);
        assert_eq!(keys(bound(long(0)), bound(long(1))), [0; 0]);
        let from_longest = Bound::Included(longest.clone());
        assert_eq!(keys(from_longest, bound(long(1))), [MAX_KEY_BYTES]);
    }
}

/// Readers check that all rows of a batch have the same value while flushes go on.
fn readers_never_see_part_of_a_batch(engine: &Arc<dyn Engine>) {
    const KEYS: usize = 20;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = 0;
            while !stop.load(Ordering::Relaxed) {
                let snapshot = engine.snapshot();
                let found = rows(&*snapshot, all(), Direction::Forward);
                assert!(found.is_empty() || found.len() == KEYS);
                assert!(found.windows(2).all(|pair| pair[0].1 == pair[1].1));
                let meta = snapshot.get(Space::Meta, b"number").unwrap();
                assert_eq!(meta, found.first().map(|(_, value)| value.clone()));
                seen += 1;
            }
            seen
        });
        for number in 0..1_500 {
            let value = Bytes::from(format!("{number:0200}"));
            let mut batch = Batch::new();
            for key in 0..KEYS {
                batch.put(Space::Latest, bytes(&format!("{key:02}")), value.clone());
            }
            batch.put(Space::Meta, bytes("number"), value);
            engine.write(batch).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        assert!(reader.join().unwrap() > 0);
    });
}

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<(u8, u8, Option<u16>)>),
    Snapshot,
    Drop,
    Check(u8, u8),
}

fn step() -> impl Strategy<Value = Step> {
    let op = (0_u8..3, any::<u8>(), prop::option::of(0_u16..2_000));
    prop_oneof![
        6 => prop::collection::vec(op, 1..30).prop_map(Step::Write),
        2 => Just(Step::Snapshot),
        1 => Just(Step::Drop),
        2 => (any::<u8>(), any::<u8>()).prop_map(|(low, high)| Step::Check(low, high)),
    ]
}

type Model = BTreeMap<(u8, Vec<u8>), Vec<u8>>;

fn behaves_like_a_map(engine: &dyn Engine, steps: &[Step]) {
    let mut model = Model::new();
    let mut open: Vec<(Arc<dyn Snapshot>, Model)> = Vec::new();
    for step in steps {
        match step {
            Step::Write(ops) => {
                let mut batch = Batch::new();
                for (space, key, value) in ops {
                    let (row, space) = (vec![*key], Space::ALL[usize::from(*space)]);
                    match value {
                        Some(length) => {
                            let value = vec![*key; usize::from(*length)];
                            batch.put(space, row.clone().into(), value.clone().into());
                            model.insert((space.number(), row), value);
                        }
                        None => {
                            batch.delete(space, row.clone().into());
                            model.remove(&(space.number(), row));
                        }
                    }
                }
                engine.write(batch).unwrap();
            }
            Step::Snapshot => open.push((engine.snapshot(), model.clone())),
            Step::Drop if open.is_empty() => {}
            Step::Drop => drop(open.remove(0)),
            Step::Check(low, high) => {
                check(&*engine.snapshot(), &model, *low, *high);
                for (snapshot, model) in &open {
                    check(&**snapshot, model, *low, *high);
                }
            }
        }
    }
    check(&*engine.snapshot(), &model, 0, u8::MAX);
}

fn check(snapshot: &dyn Snapshot, model: &Model, low: u8, high: u8) {
    for space in &Space::ALL[..3] {
        let bounds = (
            Bound::Included(Bytes::from(vec![low])),
            Bound::Excluded(Bytes::from(vec![high])),
        );
        let found: Vec<_> = snapshot
            .scan(*space, bounds, Direction::Forward)
            .map(|row| {
                row.map(|(key, value)| (key.to_vec(), value.to_vec()))
                    .unwrap()
            })
            .collect();
        let expected: Vec<_> = model
            .iter()
            .filter(|((number, key), _)| {
                *number == space.number() && key[0] >= low && key[0] < high
            })
            .map(|((_, key), value)| (key.clone(), value.clone()))
            .collect();
        assert_eq!(found, expected);
        let value = snapshot.get(*space, &[low]).unwrap();
        let expected = model.get(&(space.number(), vec![low]));
        assert_eq!(value.as_deref(), expected.map(Vec::as_slice));
    }
}
