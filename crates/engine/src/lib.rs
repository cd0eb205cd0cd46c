//! The ordered local store under each of Synod's state machines, behind a small trait.
//!
//! An [`Engine`] holds rows of bytes in a few [`Space`]s. A [`Batch`] is atomic across spaces, and
//! a [`Snapshot`] is a consistent view of all of them. Writes are not fsynced: the replicated log
//! provides durability, and after [`Engine::persist`] the log before that point is no longer
//! needed. After a crash an engine holds a prefix of its batches, never part of one.
//!
//! Two implementations pass one conformance suite: [`DiskEngine`] (fjall, an LSM tree) and
//! [`MemoryEngine`].

mod batch;
mod disk;
mod engine;
mod error;
mod memory;
mod space;

pub use batch::{Batch, BatchOp};
pub use disk::{DiskConfig, DiskEngine};
pub use engine::{Direction, Engine, EngineStats, KeyBounds, Row, Rows, Snapshot};
pub use error::EngineError;
pub use memory::MemoryEngine;
pub use space::Space;

/// The longest key of a row, in bytes. The format's limit is one byte longer; that length is
/// reserved for an internal key.
pub const MAX_KEY_BYTES: usize = 65_534;
