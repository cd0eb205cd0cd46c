//! Snapshots of the on-disk engine.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use fjall::Readable;
use parking_lot::{Mutex, MutexGuard};

use super::{OpenDatabase, convert};
use crate::memory::is_inverted;
use crate::{Direction, EngineError, KeyBounds, MAX_KEY_BYTES, Row, Rows, Snapshot, Space};

/// The sequence numbers of open snapshots, each with the number of snapshots that use it.
#[derive(Default)]
pub(super) struct OpenSnapshots(Mutex<BTreeMap<u64, usize>>);

impl OpenSnapshots {
    pub(super) fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, usize>> {
        self.0.lock()
    }

    /// Whether a snapshot with one of these sequence numbers is open.
    pub(super) fn has_between(&self, first: u64, last: u64) -> bool {
        self.0.lock().range(first..=last).next().is_some()
    }

    /// The sequence number below which no open or future snapshot reads.
    pub(super) fn watermark(&self, visible: impl FnOnce() -> u64) -> u64 {
        let open = self.0.lock();
        // Taken under the lock: a snapshot that is opened later has this sequence number or a later
        // one.
        let horizon = open.keys().next().copied().unwrap_or_else(visible);
        horizon.saturating_sub(1)
    }
}

pub(super) struct DiskSnapshot {
    snapshot: fjall::Snapshot,
    shared: Arc<OpenDatabase>,
}

impl DiskSnapshot {
    /// Opens a snapshot. The caller holds the write lock.
    pub(super) fn open(shared: &Arc<OpenDatabase>) -> Self {
        let mut open = shared.snapshots.0.lock();
        let snapshot = shared.database.snapshot();
        *open.entry(snapshot.seqno()).or_default() += 1;
        drop(open);
        Self {
            snapshot,
            shared: Arc::clone(shared),
        }
    }
}

impl Drop for DiskSnapshot {
    fn drop(&mut self) {
        let sequence = self.snapshot.seqno();
        let mut open = self.shared.snapshots.0.lock();
        if let Some(count) = open.get_mut(&sequence) {
            *count -= 1;
            if *count == 0 {
                open.remove(&sequence);
            }
        }
    }
}

impl fmt::Debug for DiskSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskSnapshot")
            .field("sequence", &self.snapshot.seqno())
            .finish_non_exhaustive()
    }
}

impl Snapshot for DiskSnapshot {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        if key.len() > MAX_KEY_BYTES {
            // No row has such a key, and fjall panics on it.
            return Ok(None);
        }
        match self.snapshot.get(&self.shared.spaces[space.index()], key) {
            Ok(value) => Ok(value.map(Bytes::from)),
            Err(error) => Err(convert(&self.shared.dir, error)),
        }
    }

    fn scan(&self, space: Space, bounds: KeyBounds, direction: Direction) -> Rows<'_> {
        if is_inverted(&bounds) {
            return Box::new(std::iter::empty());
        }
        let bounds = shortened(bounds);
        if is_inverted(&bounds) {
            return Box::new(std::iter::empty());
        }
        let iter = self
            .snapshot
            .range::<Bytes, _>(&self.shared.spaces[space.index()], bounds);
        Box::new(Scan {
            iter,
            direction,
            dir: &self.shared.dir,
            failed: false,
        })
    }
}

/// Equivalent bounds that are no longer than the longest key: fjall panics on longer ones. No row's
/// key is longer than the truncated bound, so every row is on the same side of both.
fn shortened((low, high): KeyBounds) -> KeyBounds {
    let beginning = |bound: &Bytes| {
        let is_long = bound.len() > MAX_KEY_BYTES;
        is_long.then(|| bound.slice(..MAX_KEY_BYTES))
    };
    let low = match &low {
        Bound::Included(bound) | Bound::Excluded(bound) => {
            beginning(bound).map_or(low, Bound::Excluded)
        }
        Bound::Unbounded => low,
    };
    let high = match &high {
        Bound::Included(bound) | Bound::Excluded(bound) => {
            beginning(bound).map_or(high, Bound::Included)
        }
        Bound::Unbounded => high,
    };
    (low, high)
}

struct Scan<'a> {
    iter: fjall::Iter,
    direction: Direction,
    dir: &'a Path,
    failed: bool,
}

impl Iterator for Scan<'_> {
    type Item = Result<Row, EngineError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let guard = match self.direction {
            Direction::Forward => self.iter.next(),
            Direction::Backward => self.iter.next_back(),
        }?;
        Some(match guard.into_inner() {
            Ok((key, value)) => Ok((key.into(), value.into())),
            Err(error) => {
                self.failed = true;
                Err(convert(self.dir, error))
            }
        })
    }
}
