//! The ordered local store under every state machine of Synod, behind a small trait.
//!
//! An [`Engine`] holds rows of bytes in a few [`Space`]s. A [`Batch`] is atomic across spaces, a
//! [`Snapshot`] is a consistent view of all of them. Nothing is fsynced per write: the replicated
//! log is the durability, and [`Engine::persist`] says from where on the log is still needed. After
//! a crash an engine holds a prefix of its batches, never part of one.
//!
//! Two backends pass one conformance suite: [`DiskEngine`] (fjall, an LSM tree) and
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

/// The longest key of a row, in bytes. One byte short of the format's limit, which is kept for a
/// reserved key.
pub const MAX_KEY_BYTES: usize = 65_534;
