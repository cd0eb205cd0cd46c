//! Key counts by bucket. Counting a range takes time per bucket, not per key.
//!
//! A bucket holds the keys from its fence up to the next fence; together, buckets cover all keys.
//! Buckets are stored in copy-on-write chunks, so each commit publishes its counts to readers
//! cheaply.

use std::collections::{HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use synod_engine::{Direction, KeyBounds, Snapshot, Space};

use crate::codec::{Cursor, put_bytes, put_varint};
use crate::types::from_bound;
use crate::{KeyRange, MvccError};

/// A bucket with more keys than this is split into buckets with half as many.
pub(crate) const MAX_BUCKET_KEYS: u32 = 128;
/// A bucket with fewer keys is merged with a neighbour if the result has at most
/// `MERGED_BUCKET_KEYS`.
const MIN_BUCKET_KEYS: u32 = 16;
const MERGED_BUCKET_KEYS: u32 = MAX_BUCKET_KEYS / 2;
/// The maximum number of buckets in a chunk.
const MAX_CHUNK_BUCKETS: usize = 256;

/// The key counts at one revision.
#[derive(Clone)]
pub(crate) struct Counts {
    // Never empty. The first fence of the first chunk is the empty key.
    chunks: Vec<Arc<Chunk>>,
    total: u64,
    next_generation: u64,
}

#[derive(Clone)]
struct Chunk {
    // Separate from the slots because fences change far less often.
    fences: Arc<Vec<Bytes>>,
    slots: Vec<Slot>,
    keys: u64,
}

#[derive(Clone, Copy)]
struct Slot {
    keys: u32,
    // Unique to this set of keys: it is never used for another set.
    generation: u64,
}

/// A bucket's chunk and slot.
type At = (usize, usize);

/// A bucket.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    start: Bytes,
    end: Option<Bytes>,
    pub(crate) keys: u32,
    generation: u64,
}

impl Bucket {
    pub(crate) fn bounds(&self) -> KeyBounds {
        let end = self.end.clone().map_or(Bound::Unbounded, Bound::Excluded);
        (from_bound(self.start.clone()), end)
    }
}

impl Counts {
    /// Counts of an empty keyspace. `first_generation` must be new to the cache that is used with
    /// it.
    pub(crate) fn empty(first_generation: u64) -> Self {
        let slot = Slot {
            keys: 0,
            generation: first_generation,
        };
        Self {
            chunks: vec![Arc::new(Chunk::new(vec![Bytes::new()], vec![slot]))],
            total: 0,
            next_generation: first_generation + 1,
        }
    }

    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    pub(crate) fn next_generation(&self) -> u64 {
        self.next_generation
    }

    /// The first keys of buckets that are too large.
    pub(crate) fn oversized(&self) -> Vec<Bytes> {
        let buckets = self
            .chunks
            .iter()
            .flat_map(|chunk| chunk.fences.iter().zip(&chunk.slots));
        buckets
            .filter(|(_, slot)| slot.keys > MAX_BUCKET_KEYS)
            .map(|(fence, _)| fence.clone())
            .collect()
    }

    #[cfg(test)]
    fn buckets(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.slots.len()).sum()
    }

    fn locate(&self, key: &[u8]) -> At {
        let chunk = self
            .chunks
            .partition_point(|chunk| chunk.fences.first().is_some_and(|fence| fence <= key))
            .saturating_sub(1);
        let slot = self.chunks[chunk]
            .fences
            .partition_point(|fence| fence <= key)
            .saturating_sub(1);
        (chunk, slot)
    }

    /// The bucket that `key` belongs to.
    pub(crate) fn bucket_of(&self, key: &[u8]) -> Bucket {
        self.bucket(self.locate(key))
    }

    /// Whether two keys belong to one bucket.
    pub(crate) fn same_bucket(&self, a: &[u8], b: &[u8]) -> bool {
        self.locate(a) == self.locate(b)
    }

    fn bucket(&self, (chunk, slot): At) -> Bucket {
        let this = &self.chunks[chunk];
        let end = this.fences.get(slot + 1).or_else(|| {
            let next = self.chunks.get(chunk + 1)?;
            next.fences.first()
        });
        Bucket {
            start: this.fences[slot].clone(),
            end: end.cloned(),
            keys: this.slots[slot].keys,
            generation: this.slots[slot].generation,
        }
    }

    /// The number of keys in the buckets before this one.
    fn before(&self, (chunk, slot): At) -> u64 {
        let chunks: u64 = self.chunks[..chunk].iter().map(|chunk| chunk.keys).sum();
        let slots = &self.chunks[chunk].slots[..slot];
        chunks + slots.iter().map(|slot| u64::from(slot.keys)).sum::<u64>()
    }

    /// The number of keys smaller than `key`. `rank` counts within the bucket of `key`.
    pub(crate) fn rank(
        &self,
        key: &[u8],
        rank: impl FnOnce(&Bucket) -> Result<u64, MvccError>,
    ) -> Result<u64, MvccError> {
        let at = self.locate(key);
        let within = if self.chunks[at.0].fences[at.1] == key {
            0
        } else {
            rank(&self.bucket(at))?
        };
        Ok(self.before(at) + within)
    }

    /// Counts `key` as added (1) or removed (-1). Returns the number of keys in its bucket.
    pub(crate) fn add(&mut self, key: &[u8], growth: i64) -> Result<u32, MvccError> {
        let (chunk, slot) = self.locate(key);
        let generation = self.take_generation();
        let this = Arc::make_mut(&mut self.chunks[chunk]);
        let keys = i64::from(this.slots[slot].keys) + growth;
        let keys =
            u32::try_from(keys).map_err(|_| MvccError::corrupt("key counts are inconsistent"))?;
        this.slots[slot] = Slot { keys, generation };
        this.keys = this.keys.saturating_add_signed(growth);
        self.total = self.total.saturating_add_signed(growth);
        if growth < 0 && keys < MIN_BUCKET_KEYS {
            self.merge((chunk, slot));
        }
        Ok(keys)
    }

    fn take_generation(&mut self) -> u64 {
        let generation = self.next_generation;
        self.next_generation += 1;
        generation
    }

    /// Merges a small bucket with a neighbour in its chunk, and drops a chunk that is empty.
    fn merge(&mut self, (chunk, slot): At) {
        let slots = &self.chunks[chunk].slots;
        if slots.len() == 1 {
            if slots[0].keys == 0 && chunk > 0 {
                self.chunks.remove(chunk);
            }
            return;
        }
        // The earlier of the two buckets remains.
        let first = slot.saturating_sub(1);
        let keys = slots[first].keys + slots[first + 1].keys;
        if keys > MERGED_BUCKET_KEYS {
            return;
        }
        let generation = self.take_generation();
        let this = Arc::make_mut(&mut self.chunks[chunk]);
        Arc::make_mut(&mut this.fences).remove(first + 1);
        this.slots.remove(first + 1);
        this.slots[first] = Slot { keys, generation };
    }

    /// Splits the bucket that starts with the same key as `bucket`, at `fences`: each fence with
    /// the number of keys from it to the next. `rest` is the number of keys before the first fence.
    pub(crate) fn split(&mut self, bucket: &Bucket, rest: u32, fences: &[(Bytes, u32)]) {
        let (chunk, slot) = self.locate(&bucket.start);
        let generation = self.take_generation();
        let first_new = self.next_generation;
        self.next_generation += fences.len() as u64;
        let this = Arc::make_mut(&mut self.chunks[chunk]);
        this.slots[slot] = Slot {
            keys: rest,
            generation,
        };
        let slots = fences
            .iter()
            .zip(first_new..)
            .map(|((_, keys), generation)| Slot {
                keys: *keys,
                generation,
            });
        this.slots.splice(slot + 1..slot + 1, slots);
        Arc::make_mut(&mut this.fences).splice(
            slot + 1..slot + 1,
            fences.iter().map(|(fence, _)| fence.clone()),
        );
        if this.slots.len() > MAX_CHUNK_BUCKETS {
            let parts = this.divided();
            self.chunks.splice(chunk..=chunk, parts);
        }
    }

    /// Rows for `Counts`: one per chunk, keyed by its index.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (Bytes, Bytes)> {
        self.chunks.iter().enumerate().map(|(at, chunk)| {
            let mut row = BytesMut::new();
            for (fence, slot) in chunk.fences.iter().zip(&chunk.slots) {
                put_bytes(&mut row, fence);
                put_varint(&mut row, u64::from(slot.keys));
            }
            (row_key(at), row.freeze())
        })
    }

    /// The number of rows.
    pub(crate) fn row_count(&self) -> usize {
        self.chunks.len()
    }

    /// Loads counts from an engine's rows. Also returns the number of rows.
    pub(crate) fn load(
        snapshot: &dyn Snapshot,
        first_generation: u64,
    ) -> Result<(Self, usize), MvccError> {
        let mut counts = Self::empty(first_generation);
        let mut chunks = Vec::new();
        let all = (Bound::Unbounded, Bound::Unbounded);
        for row in snapshot.scan(Space::Counts, all, Direction::Forward) {
            let chunk = counts
                .decode(row?.1)
                .ok_or_else(|| MvccError::corrupt("undecodable key counts"))?;
            counts.total += chunk.keys;
            chunks.push(Arc::new(chunk));
        }
        let rows = chunks.len();
        if rows > 0 {
            counts.chunks = chunks;
        }
        Ok((counts, rows))
    }

    fn decode(&mut self, row: Bytes) -> Option<Chunk> {
        let (mut fences, mut slots) = (Vec::new(), Vec::new());
        let mut cursor = Cursor::new(row);
        while !cursor.is_empty() {
            // Copied: fences outlive the row's buffer.
            fences.push(Bytes::copy_from_slice(&cursor.bytes()?));
            slots.push(Slot {
                keys: u32::try_from(cursor.varint()?).ok()?,
                generation: self.take_generation(),
            });
        }
        (!slots.is_empty()).then(|| Chunk::new(fences, slots))
    }
}

impl Chunk {
    fn new(fences: Vec<Bytes>, slots: Vec<Slot>) -> Self {
        Self {
            keys: slots.iter().map(|slot| u64::from(slot.keys)).sum(),
            fences: Arc::new(fences),
            slots,
        }
    }

    fn divided(&self) -> Vec<Arc<Self>> {
        let half = MAX_CHUNK_BUCKETS / 2;
        let fences = self.fences.chunks(half);
        fences
            .zip(self.slots.chunks(half))
            .map(|(fences, slots)| Arc::new(Self::new(fences.to_vec(), slots.to_vec())))
            .collect()
    }
}

pub(crate) fn row_key(at: usize) -> Bytes {
    Bytes::copy_from_slice(&(at as u64).to_be_bytes())
}

/// A cache of the keys of recently counted buckets.
pub(crate) struct BucketKeysCache {
    state: Mutex<CacheState>,
    max_bytes: usize,
}

#[derive(Default)]
struct CacheState {
    buckets: HashMap<u64, Arc<BucketKeys>>,
    // Oldest first.
    order: VecDeque<u64>,
    bytes: usize,
}

/// The keys of a bucket in order, in one buffer.
struct BucketKeys {
    buffer: Vec<u8>,
    ends: Vec<usize>,
}

impl BucketKeys {
    fn scan(snapshot: &dyn Snapshot, bucket: &Bucket) -> Result<Self, MvccError> {
        let mut keys = Self {
            buffer: Vec::new(),
            ends: Vec::with_capacity(bucket.keys as usize),
        };
        for row in snapshot.scan(Space::Latest, bucket.bounds(), Direction::Forward) {
            keys.buffer.extend_from_slice(&row?.0);
            keys.ends.push(keys.buffer.len());
        }
        if keys.ends.len() != bucket.keys as usize {
            let (found, counted) = (keys.ends.len(), bucket.keys);
            let detail = format!("a bucket has {found} keys, but {counted} were counted");
            return Err(MvccError::corrupt(detail));
        }
        Ok(keys)
    }

    fn key(&self, at: usize) -> &[u8] {
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.buffer[start..self.ends[at]]
    }

    /// The number of keys smaller than `key`.
    fn rank(&self, key: &[u8]) -> u64 {
        let (mut low, mut high) = (0, self.ends.len());
        while low < high {
            let middle = low.midpoint(high);
            if self.key(middle) < key {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low as u64
    }

    fn bytes(&self) -> usize {
        self.buffer.capacity() + self.ends.capacity() * size_of::<usize>()
    }
}

impl BucketKeysCache {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self {
            state: Mutex::default(),
            max_bytes,
        }
    }

    pub(crate) fn clear(&self) {
        *self.state.lock() = CacheState::default();
    }

    fn rank(&self, snapshot: &dyn Snapshot, bucket: &Bucket, key: &[u8]) -> Result<u64, MvccError> {
        let cached = self.state.lock().buckets.get(&bucket.generation).cloned();
        if let Some(keys) = cached {
            return Ok(keys.rank(key));
        }
        let keys = Arc::new(BucketKeys::scan(snapshot, bucket)?);
        let rank = keys.rank(key);
        self.insert(bucket.generation, keys);
        Ok(rank)
    }

    fn insert(&self, generation: u64, keys: Arc<BucketKeys>) {
        let mut state = self.state.lock();
        state.bytes += keys.bytes();
        match state.buckets.insert(generation, keys) {
            Some(same) => state.bytes -= same.bytes(),
            None => state.order.push_back(generation),
        }
        while state.bytes > self.max_bytes
            && let Some(oldest) = state.order.pop_front()
        {
            if let Some(keys) = state.buckets.remove(&oldest) {
                state.bytes -= keys.bytes();
            }
        }
    }

    /// The number of keys within `range` in a snapshot that matches `counts`.
    pub(crate) fn count(
        &self,
        snapshot: &dyn Snapshot,
        counts: &Counts,
        range: &KeyRange,
    ) -> Result<u64, MvccError> {
        let rank = |key: &[u8]| counts.rank(key, |bucket| self.rank(snapshot, bucket, key));
        match range {
            KeyRange::One(key) => Ok(u64::from(snapshot.get(Space::Latest, key)?.is_some())),
            KeyRange::Span { .. } if range.is_empty() => Ok(0),
            KeyRange::Span { start, end } => {
                let upto = match end {
                    Some(end) => rank(end)?,
                    None => counts.total(),
                };
                Ok(upto.saturating_sub(rank(start)?))
            }
        }
    }
}

/// Splits a bucket that has become too large. `newest` is the largest key that was just added to
/// it.
pub(crate) fn split_bucket(
    counts: &mut Counts,
    snapshot: &dyn Snapshot,
    newest: &[u8],
) -> Result<(), MvccError> {
    let bucket = counts.bucket_of(newest);
    if bucket.keys <= MAX_BUCKET_KEYS {
        return Ok(());
    }
    // When keys arrive in order this leaves full buckets behind, for the cost of reading one key.
    let last = snapshot
        .scan(Space::Latest, bucket.bounds(), Direction::Backward)
        .next()
        .transpose()?;
    if bucket.keys <= 2 * MAX_BUCKET_KEYS && last.is_some_and(|(last, _)| last == newest) {
        let fence = Bytes::copy_from_slice(newest);
        counts.split(&bucket, bucket.keys - 1, &[(fence, 1)]);
        return Ok(());
    }
    let keys = BucketKeys::scan(snapshot, &bucket)?;
    let half = MAX_BUCKET_KEYS / 2;
    let mut fences = Vec::new();
    let mut at = half;
    while at < bucket.keys {
        // The last one takes the remainder.
        let left = bucket.keys - at;
        let size = if left < 2 * half { left } else { half };
        let fence = Bytes::copy_from_slice(keys.key(at as usize));
        fences.push((fence, size));
        at += size;
    }
    counts.split(&bucket, half, &fences);
    Ok(())
}

#[cfg(test)]
mod tests;
