//! An in-memory engine, for tests and for data that may be lost with the process.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use smallvec::SmallVec;

use crate::{
    Batch, Direction, Engine, EngineError, EngineStats, KeyBounds, MAX_KEY_BYTES, Row, Rows,
    Snapshot, Space,
};

/// The number of rows that a scan fetches under one lock: at first, and at most.
const FIRST_CHUNK: usize = 16;
const MAX_CHUNK: usize = 512;

/// Estimated memory per row beyond its key and value.
const ROW_OVERHEAD: u64 = 64;

/// An [`Engine`] in memory. Rows have versions, so a snapshot is only a sequence number.
#[derive(Clone, Default)]
pub struct MemoryEngine {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    state: RwLock<State>,
    // The sequence number of each open snapshot and how often it is open. Lock order: after
    // `state`.
    open: Mutex<BTreeMap<u64, usize>>,
}

#[derive(Default)]
struct State {
    sequence: u64,
    spaces: [BTreeMap<Bytes, Versions>; Space::COUNT],
    // Rows with old versions to drop once no snapshot reads them, ordered by the write that
    // replaced them.
    garbage: VecDeque<(u64, Space, Bytes)>,
    bytes: u64,
}

/// A row's versions, oldest first.
type Versions = SmallVec<[Version; 1]>;

struct Version {
    sequence: u64,
    value: Option<Bytes>,
}

impl MemoryEngine {
    /// An empty engine.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl fmt::Debug for MemoryEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryEngine").finish_non_exhaustive()
    }
}

impl Engine for MemoryEngine {
    fn write(&self, batch: Batch) -> Result<(), EngineError> {
        for op in batch.ops() {
            check_key(&op.key)?;
        }
        let mut state = self.inner.state.write();
        let oldest = self.inner.oldest_snapshot();
        state.apply(batch);
        // No snapshot can be opened meanwhile: that takes the state's lock.
        let horizon = oldest.unwrap_or(state.sequence);
        state.prune(horizon);
        Ok(())
    }

    fn snapshot(&self) -> Arc<dyn Snapshot> {
        let state = self.inner.state.read();
        let sequence = state.sequence;
        *self.inner.open.lock().entry(sequence).or_default() += 1;
        Arc::new(MemorySnapshot {
            inner: Arc::clone(&self.inner),
            sequence,
        })
    }

    fn has_snapshots(&self) -> bool {
        self.inner.oldest_snapshot().is_some()
    }

    fn persist(&self) -> Result<(), EngineError> {
        Ok(())
    }

    fn disk_bytes(&self) -> u64 {
        self.inner.state.read().bytes
    }

    fn stats(&self) -> EngineStats {
        EngineStats {
            disk_bytes: self.disk_bytes(),
            ..EngineStats::default()
        }
    }
}

impl Inner {
    fn oldest_snapshot(&self) -> Option<u64> {
        self.open.lock().keys().next().copied()
    }
}

impl State {
    fn apply(&mut self, batch: Batch) {
        self.sequence += 1;
        let sequence = self.sequence;
        for op in batch.into_ops() {
            let versions = self.spaces[op.space.index()]
                .entry(op.key.clone())
                .or_default();
            let key_bytes = size(&op.key);
            self.bytes += key_bytes + op.value.as_ref().map_or(0, size) + ROW_OVERHEAD;
            if versions
                .last()
                .is_some_and(|last| last.sequence == sequence)
                && let Some(replaced) = versions.pop()
            {
                self.bytes -= key_bytes + replaced.size() + ROW_OVERHEAD;
            }
            let garbage = !versions.is_empty() || op.value.is_none();
            versions.push(Version {
                sequence,
                value: op.value,
            });
            if garbage {
                self.garbage.push_back((sequence, op.space, op.key));
            }
        }
    }

    /// Drops versions that no snapshot at `horizon` or later can see.
    fn prune(&mut self, horizon: u64) {
        while let Some((sequence, _, _)) = self.garbage.front()
            && *sequence <= horizon
            && let Some((_, space, key)) = self.garbage.pop_front()
        {
            let rows = &mut self.spaces[space.index()];
            let Some(versions) = rows.get_mut(&key) else {
                continue;
            };
            let Some(visible) = versions.iter().rposition(|v| v.sequence <= horizon) else {
                continue;
            };
            for old in versions.drain(..visible) {
                self.bytes -= size(&key) + old.size() + ROW_OVERHEAD;
            }
            if let [only] = versions.as_slice()
                && only.value.is_none()
            {
                self.bytes -= size(&key) + ROW_OVERHEAD;
                rows.remove(&key);
            }
        }
    }
}

impl Version {
    fn size(&self) -> u64 {
        self.value.as_ref().map_or(0, size)
    }
}

fn size(bytes: &Bytes) -> u64 {
    bytes.len() as u64
}

fn visible(versions: &Versions, sequence: u64) -> Option<&Bytes> {
    versions
        .iter()
        .rev()
        .find(|v| v.sequence <= sequence)
        .and_then(|v| v.value.as_ref())
}

pub(crate) fn check_key(key: &[u8]) -> Result<(), EngineError> {
    if key.is_empty() || key.len() > MAX_KEY_BYTES {
        return Err(EngineError::KeyLength { length: key.len() });
    }
    Ok(())
}

/// Whether the bounds are inverted, so that no key lies within them. `BTreeMap::range` panics on
/// such bounds.
pub(crate) fn is_inverted(bounds: &KeyBounds) -> bool {
    match bounds {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(low), Bound::Included(high)) => low > high,
        (
            Bound::Included(low) | Bound::Excluded(low),
            Bound::Included(high) | Bound::Excluded(high),
        ) => low >= high,
    }
}

struct MemorySnapshot {
    inner: Arc<Inner>,
    sequence: u64,
}

impl fmt::Debug for MemorySnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemorySnapshot")
            .field("sequence", &self.sequence)
            .finish_non_exhaustive()
    }
}

impl Drop for MemorySnapshot {
    fn drop(&mut self) {
        let mut open = self.inner.open.lock();
        if let Some(count) = open.get_mut(&self.sequence) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.sequence);
            }
        }
    }
}

impl Snapshot for MemorySnapshot {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let state = self.inner.state.read();
        Ok(state.spaces[space.index()]
            .get(key)
            .and_then(|versions| visible(versions, self.sequence))
            .cloned())
    }

    fn scan(&self, space: Space, bounds: KeyBounds, direction: Direction) -> Rows<'_> {
        Box::new(Scan {
            snapshot: self,
            space,
            done: is_inverted(&bounds),
            bounds,
            direction,
            chunk: VecDeque::new(),
            chunk_rows: FIRST_CHUNK,
        })
    }
}

/// A scan that takes the lock once per chunk of rows.
struct Scan<'a> {
    snapshot: &'a MemorySnapshot,
    space: Space,
    bounds: KeyBounds,
    direction: Direction,
    chunk: VecDeque<Row>,
    chunk_rows: usize,
    done: bool,
}

impl Scan<'_> {
    fn fill(&mut self) {
        let state = self.snapshot.inner.state.read();
        let rows = &state.spaces[self.space.index()];
        let sequence = self.snapshot.sequence;
        let range = rows.range((self.bounds.0.clone(), self.bounds.1.clone()));
        let live = |(key, versions): (&Bytes, &Versions)| {
            visible(versions, sequence).map(|value| (key.clone(), value.clone()))
        };
        match self.direction {
            Direction::Forward => self
                .chunk
                .extend(range.filter_map(live).take(self.chunk_rows)),
            Direction::Backward => {
                self.chunk
                    .extend(range.rev().filter_map(live).take(self.chunk_rows));
            }
        }
        self.done = self.chunk.len() < self.chunk_rows;
        self.chunk_rows = (self.chunk_rows * 2).min(MAX_CHUNK);
        if let Some((last, _)) = self.chunk.back() {
            match self.direction {
                Direction::Forward => self.bounds.0 = Bound::Excluded(last.clone()),
                Direction::Backward => self.bounds.1 = Bound::Excluded(last.clone()),
            }
            self.done |= is_inverted(&self.bounds);
        }
    }
}

impl Iterator for Scan<'_> {
    type Item = Result<Row, EngineError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.chunk.is_empty() && !self.done {
            self.fill();
        }
        self.chunk.pop_front().map(Ok)
    }
}
