use std::collections::BTreeSet;

use proptest::prelude::*;
use synod_engine::{Batch, Engine, MemoryEngine};

use super::*;

/// An engine's keys, counted as the store counts them.
struct Counted {
    engine: MemoryEngine,
    counts: Counts,
    cache: BucketKeysCache,
    keys: BTreeSet<Bytes>,
}

impl Counted {
    fn new() -> Self {
        Self {
            engine: MemoryEngine::new(),
            counts: Counts::empty(0),
            cache: BucketKeysCache::new(1 << 14),
            keys: BTreeSet::new(),
        }
    }

    fn change(&mut self, key: Bytes) {
        let mut batch = Batch::new();
        let growth = if self.keys.remove(&key) {
            batch.delete(Space::Latest, key.clone());
            -1
        } else {
            self.keys.insert(key.clone());
            batch.put(Space::Latest, key.clone(), Bytes::new());
            1
        };
        self.engine.write(batch).unwrap();
        if self.counts.add(&key, growth).unwrap() > MAX_BUCKET_KEYS {
            split_bucket(&mut self.counts, &*self.engine.snapshot(), &key).unwrap();
        }
    }

    fn count(&self, range: &KeyRange) -> u64 {
        let snapshot = self.engine.snapshot();
        self.cache.count(&*snapshot, &self.counts, range).unwrap()
    }

    fn check(&self, ranges: &[KeyRange]) {
        assert_eq!(self.counts.total(), self.keys.len() as u64);
        for range in ranges {
            let expected = self.keys.iter().filter(|key| range.contains(key)).count();
            assert_eq!(self.count(range), expected as u64, "{range:?}");
        }
    }

    fn reload(&mut self) {
        let mut batch = Batch::new();
        for (key, row) in self.counts.rows() {
            batch.put(Space::Counts, key, row);
        }
        let rows = batch.len();
        self.engine.write(batch).unwrap();
        let generation = self.counts.next_generation();
        let (counts, loaded) = Counts::load(&*self.engine.snapshot(), generation).unwrap();
        assert_eq!((loaded, counts.buckets()), (rows, self.counts.buckets()));
        self.counts = counts;
    }
}

fn key(number: u32) -> Bytes {
    Bytes::from(format!("k{number:06}"))
}

fn span(start: u32, end: u32) -> KeyRange {
    KeyRange::Span {
        start: key(start),
        end: Some(key(end)),
    }
}

#[test]
fn buckets_grow_split_and_merge() {
    let mut counted = Counted::new();
    let total = 200_000;
    for number in 0..total {
        counted.change(key(number));
    }
    assert!(counted.counts.chunks.len() > 1, "chunks split too");
    let full = counted.counts.buckets();
    let ranges = [
        span(0, 1),
        span(3, 150_001),
        span(90_000, 300_000),
        KeyRange::all(),
    ];
    counted.check(&ranges);
    counted.reload();
    counted.check(&ranges);
    for number in (0..total).filter(|number| number % 64 != 0) {
        counted.change(key(number));
    }
    assert!(counted.counts.buckets() * 2 < full, "small buckets merge");
    counted.check(&ranges);
    for number in (0..total).filter(|number| number % 64 == 0) {
        counted.change(key(number));
    }
    assert_eq!(counted.counts.total(), 0);
    counted.check(&ranges);
}

#[test]
fn keys_in_order_leave_full_buckets() {
    let mut counted = Counted::new();
    for number in 0..10_000 {
        counted.change(key(number));
    }
    let fewest = 10_000 / MAX_BUCKET_KEYS as usize;
    assert!(counted.counts.buckets() <= fewest + 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn counts_are_exact(
        numbers in prop::collection::vec(0_u32..3_000, 1..6_000),
        ranges in prop::collection::vec((0_u32..3_100, 0_u32..3_100), 1..20),
    ) {
        let mut counted = Counted::new();
        for number in numbers {
            counted.change(key(number));
        }
        let ranges: Vec<_> = ranges.into_iter().map(|(start, end)| span(start, end)).collect();
        counted.check(&ranges);
        counted.reload();
        counted.check(&ranges);
    }
}
