//! The contract of an ordered local store.

use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use crate::{Batch, EngineError, Space};

/// The direction of a scan.
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
    /// Applies a batch atomically, also across a crash. Snapshots taken after the return see it.
    /// The batch survives the end of the process, but survives a power loss only after
    /// [`Engine::persist`].
    ///
    /// May wait some milliseconds if the disk can't keep up.
    ///
    /// # Errors
    /// After an I/O error or corruption the engine refuses all further writes.
    fn write(&self, batch: Batch) -> Result<(), EngineError>;

    /// Waits some milliseconds if the engine has no room for background work. Returns whether there
    /// was room without waiting. Call it without holding locks, before a write that can wait:
    /// inside [`Engine::write`] it would be delayed together with all other writes.
    fn wait_for_room(&self) -> bool {
        true
    }

    /// A consistent view of everything written so far. It is cheap but keeps old versions of rows
    /// alive: hold it for seconds, not hours.
    fn snapshot(&self) -> Arc<dyn Snapshot>;

    /// Whether a snapshot is open.
    fn has_snapshots(&self) -> bool;

    /// Makes everything written so far durable against power loss.
    ///
    /// # Errors
    /// A failed fsync is final: the engine refuses all writes after it.
    fn persist(&self) -> Result<(), EngineError>;

    /// Bytes used on disk; for the memory engine, in memory.
    fn disk_bytes(&self) -> u64;

    /// Figures for metrics.
    fn stats(&self) -> EngineStats;
}

/// A consistent view of an engine.
pub trait Snapshot: Send + Sync + fmt::Debug {
    /// The value of the row with this key. It may share a larger buffer: copy it before keeping it
    /// for long.
    ///
    /// # Errors
    /// [`EngineError::Io`] or [`EngineError::Corrupt`].
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, EngineError>;

    /// The rows within `bounds`, in the direction's key order. An inverted range has no rows.
    fn scan(&self, space: Space, bounds: KeyBounds, direction: Direction) -> Rows<'_>;
}

/// What an engine is doing, for metrics.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct EngineStats {
    /// Bytes used on disk; for the memory engine, in memory.
    pub disk_bytes: u64,
    /// Bytes written but not yet flushed to tables.
    pub write_buffer_bytes: u64,
    /// Bytes of cached blocks.
    pub cache_bytes: u64,
    /// The number of journals on disk.
    pub journals: u64,
    /// The largest number of level-0 runs in any space. A read of recent data may search all of
    /// them.
    pub level0_runs: u64,
    /// Total delay of writes since the engine was opened, in microseconds.
    pub write_delay_micros: u64,
}
