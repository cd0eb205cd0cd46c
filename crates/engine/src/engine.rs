//! The contract of an ordered local store.

use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use crate::{Batch, EngineError, Space};

/// Which way a scan goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// From the smallest key up.
    Forward,
    /// From the largest key down.
    Backward,
}

/// Lower and upper bound of a scan.
pub type KeyBounds = (Bound<Bytes>, Bound<Bytes>);

/// A key and its value.
pub type Row = (Bytes, Bytes);

/// The rows of a scan. Ends after the first error.
pub type Rows<'a> = Box<dyn Iterator<Item = Result<Row, EngineError>> + Send + 'a>;

/// An ordered store of rows in [`Space`]s.
pub trait Engine: Send + Sync + fmt::Debug {
    /// Applies a batch: all of it or nothing, also across a crash. Visible to snapshots taken after
    /// the return. Not durable against power loss before [`Engine::persist`], but against the end
    /// of the process.
    ///
    /// May wait some milliseconds when the disk can't follow.
    ///
    /// # Errors
    /// After an I/O error or corruption the engine refuses all further writes.
    fn write(&self, batch: Batch) -> Result<(), EngineError>;

    /// Waits some milliseconds if the engine has no room for background work; returns whether there
    /// was room without waiting. Call it without locks before a write that can wait: in
    /// [`Engine::write`] it would be held back together with all other writes.
    fn wait_for_room(&self) -> bool {
        true
    }

    /// A consistent view of everything written so far. Cheap, but it keeps displaced rows alive:
    /// hold it for seconds, not for hours.
    fn snapshot(&self) -> Arc<dyn Snapshot>;

    /// Whether a snapshot is open.
    fn has_snapshots(&self) -> bool;

    /// Makes everything written so far safe against power loss.
    ///
    /// # Errors
    /// A failed fsync is final: nothing more is accepted.
    fn persist(&self) -> Result<(), EngineError>;

    /// Bytes used on disk (memory engine: in memory).
    fn disk_bytes(&self) -> u64;

    /// Figures for metrics.
    fn stats(&self) -> EngineStats;
}

/// A consistent view of an engine.
pub trait Snapshot: Send + Sync + fmt::Debug {
    /// The row with this key. The value may share a larger buffer: copy it before keeping it for
    /// long.
    ///
    /// # Errors
    /// [`EngineError::Io`] or [`EngineError::Corrupt`].
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, EngineError>;

    /// The rows within `bounds` in the order of their keys. An inverted range has no rows.
    fn scan(&self, space: Space, bounds: KeyBounds, direction: Direction) -> Rows<'_>;
}

/// What an engine is doing, for metrics.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct EngineStats {
    /// Bytes used on disk (memory engine: in memory).
    pub disk_bytes: u64,
    /// Bytes written but not yet in tables.
    pub write_buffer_bytes: u64,
    /// Bytes of cached blocks.
    pub cache_bytes: u64,
    /// Journals on disk.
    pub journals: u64,
    /// The most sorted runs that a read of fresh data has to look at.
    pub level0_runs: u64,
    /// Microseconds for which writes were held back since the start.
    pub write_delay_micros: u64,
}
