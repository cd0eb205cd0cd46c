//! The modelled parts: random choices, views with known bytes, and a receiver's directory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use synod_consensus_core::{Membership, SnapshotMeta};
use synod_types::{Ballot, Index, LogPosition, SplitMix64};

use crate::state_machine::{ApplyError, SnapshotChunk, SnapshotSink, SnapshotSource};

/// The random source for a run's faults and delays.
pub(super) struct Dice(SplitMix64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(SplitMix64::new(seed))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number from `low` to `high`, both inclusive.
    pub(super) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    pub(super) fn percent(&mut self, chance: u64) -> bool {
        self.next() % 100 < chance
    }
}

pub(super) fn meta(index: u64) -> SnapshotMeta {
    SnapshotMeta {
        last: LogPosition {
            ballot: Ballot::term(1),
            index: Index::new(index),
        },
        membership: Membership::default(),
    }
}

/// A view. Each view has different bytes, even at the same position.
pub(super) struct ModelView {
    meta: SnapshotMeta,
    pub(super) bytes: Bytes,
}

impl ModelView {
    pub(super) fn new(index: u64, dice: &mut Dice) -> Arc<Self> {
        let length = dice.between(1, 120);
        let bytes = (0..length).map(|_| dice.next().to_le_bytes()[0]).collect();
        let meta = meta(index);
        Arc::new(Self { meta, bytes })
    }

    pub(super) fn index(&self) -> u64 {
        self.meta.last.index.get()
    }
}

impl SnapshotSource for ModelView {
    fn meta(&self) -> &SnapshotMeta {
        &self.meta
    }

    fn read(&self, resume_after: &Bytes, max_bytes: usize) -> Result<SnapshotChunk, ApplyError> {
        let from = usize::from(resume_after.first().copied().unwrap_or(0));
        let to = (from + max_bytes).min(self.bytes.len());
        let resume = (to < self.bytes.len()).then(|| Bytes::from(vec![u8::try_from(to).unwrap()]));
        Ok(SnapshotChunk {
            data: self.bytes.slice(from.min(to)..to),
            resume,
        })
    }
}

/// A receiver's data: the live state, and room for one sink.
#[derive(Default)]
pub(super) struct Directory {
    pub(super) index: u64,
    pub(super) live: Bytes,
    sinks: Arc<AtomicUsize>,
}

impl Directory {
    pub(super) fn sinks(&self) -> usize {
        self.sinks.load(Ordering::Relaxed)
    }

    pub(super) fn begin(&self, meta: SnapshotMeta) -> ModelSink {
        let others = self.sinks.fetch_add(1, Ordering::Relaxed);
        assert_eq!(others, 0, "two sinks in one directory");
        ModelSink {
            meta,
            data: Vec::new(),
            finished: false,
            fails: false,
            sinks: Arc::clone(&self.sinks),
        }
    }

    /// Like the apply thread, ignores a snapshot that is older than the state.
    pub(super) fn install(&mut self, sink: &ModelSink) -> bool {
        assert!(sink.finished, "an unfinished sink is installed");
        let index = sink.meta.last.index.get();
        if index <= self.index {
            return false;
        }
        self.index = index;
        self.live = Bytes::copy_from_slice(&sink.data);
        true
    }
}

/// Records what was written to it, in order.
pub(super) struct ModelSink {
    meta: SnapshotMeta,
    data: Vec<u8>,
    finished: bool,
    /// Whether the disk fails at the next write.
    pub(super) fails: bool,
    sinks: Arc<AtomicUsize>,
}

impl SnapshotSink for ModelSink {
    fn write(&mut self, data: Bytes) -> Result<(), ApplyError> {
        // A failed write may leave anything; here it leaves half of the data.
        let whole = data.len();
        let written = if self.fails { whole / 2 } else { whole };
        self.data.extend_from_slice(&data[..written]);
        if self.fails {
            return Err(ApplyError::new("the disk failed"));
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), ApplyError> {
        self.finished = true;
        Ok(())
    }
}

impl Drop for ModelSink {
    fn drop(&mut self) {
        self.sinks.fetch_sub(1, Ordering::Relaxed);
    }
}
