//! The traits that a service implements for a replicated group.
//!
//! All state of a group is behind [`StateMachine`]. One thread (`synod-apply`) owns and calls it.
//! Other threads only use what it returns: a [`Persister`], [`SnapshotSource`]s and
//! [`SnapshotSink`]s.

use std::error::Error as StdError;
use std::sync::Arc;
use std::vec;

use bytes::Bytes;
use synod_consensus_core::{Entry, SnapshotMeta};

/// A failure of the state machine. The replica stops (fail-stop): a state machine that could not
/// apply a committed entry must not serve, since its state would differ from its peers'.
#[derive(Debug, thiserror::Error)]
#[error("state machine failed: {message}")]
pub struct ApplyError {
    message: String,
    #[source]
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl ApplyError {
    /// A failure with only a message.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            source: None,
        }
    }

    /// A failure caused by a lower layer, such as an engine or a disk.
    #[must_use]
    pub fn caused_by(
        message: impl Into<String>,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self {
            message: message.into(),
            source: Some(source.into()),
        }
    }
}

/// The replicated state of one group.
///
/// It must be deterministic: the same entries in the same order give the same state and outputs on
/// every replica. The data and the applied position change in one atomic write of the engine, so
/// that after a restart they always match.
pub trait StateMachine: Send + 'static {
    /// The output of an entry, returned to the caller that proposed it on this node.
    type Output: Send + 'static;
    /// Receives a peer's snapshot before it replaces the live data.
    type Sink: SnapshotSink;

    /// Applies `entries` in index order; they follow [`applied`](Self::applied) without a gap.
    /// Pushes exactly one output per entry, including no-ops and membership changes. It applies at
    /// least one entry and may leave the rest for the next call, so that the outputs and changes of
    /// one call, which stay in memory until it returns, are bounded.
    ///
    /// The `data` of a `Config` entry is an encoded `ConfigCommand`. The state machine stores its
    /// membership with the applied position and may use its context.
    ///
    /// # Errors
    /// The replica stops and gives no more answers.
    fn apply(
        &mut self,
        entries: &mut vec::IntoIter<Entry>,
        outputs: &mut Vec<Self::Output>,
    ) -> Result<(), ApplyError>;

    /// Position and membership as of the last apply or install. Zero and empty in a new state
    /// machine.
    ///
    /// The initial members of a cluster are in no entry. Until a `Config` entry is applied, the
    /// membership may stay empty: the replica fills in the initial one.
    fn applied(&self) -> SnapshotMeta;

    /// A handle that flushes the engine from another thread while entries are applied. Called once.
    fn persister(&self) -> Arc<dyn Persister>;

    /// A consistent view of the state at [`applied`](Self::applied). Called on the apply thread, so
    /// it must not read the data; [`SnapshotSource::read`] does that.
    ///
    /// # Errors
    /// The transfer that needs it fails and is retried later. The replica continues.
    fn snapshot(&mut self) -> Result<Arc<dyn SnapshotSource>, ApplyError>;

    /// Opens a sink next to the live data for a peer's snapshot. It may delete leftovers of an
    /// earlier, unfinished attempt. `meta` is the snapshot's; its membership is never empty.
    ///
    /// # Errors
    /// The installation fails and is retried later. The replica continues.
    fn begin_install(&mut self, meta: SnapshotMeta) -> Result<Self::Sink, ApplyError>;

    /// Replaces the live data with a finished sink's, atomically and durably. After a power loss at
    /// any point the state machine has either all of the old state or all of the new one; after
    /// this has returned, the new one. [`applied`](Self::applied) is then the `meta` of
    /// [`begin_install`](Self::begin_install).
    ///
    /// # Errors
    /// The replica stops.
    fn install(&mut self, sink: Self::Sink) -> Result<(), ApplyError>;
}

/// Flushes a state machine's engine off the apply thread.
pub trait Persister: Send + Sync + 'static {
    /// Makes everything applied before this call durable. Returns the position (and the membership
    /// there) that now survives a power loss without the log. The log may then release entries up
    /// to it, so it must be read **before** the flush begins, from the same engine that is flushed.
    ///
    /// # Errors
    /// The replica stops: after a failed flush the content of the disk is unknown.
    fn persist(&self) -> Result<SnapshotMeta, ApplyError>;
}

/// An open snapshot that a leader serves, in chunks, to followers that need compacted entries.
pub trait SnapshotSource: Send + Sync + 'static {
    /// Position and membership of the view.
    fn meta(&self) -> &SnapshotMeta;

    /// Reads the chunk after `resume_after` (empty: the first one). It has about `max_bytes` but at
    /// least one record, so it may be larger. The same token always gives the same chunk, so that a
    /// broken transfer can continue.
    ///
    /// # Errors
    /// The transfer fails and is retried later.
    fn read(&self, resume_after: &Bytes, max_bytes: usize) -> Result<SnapshotChunk, ApplyError>;
}

/// A chunk of a snapshot in the state machine's own format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotChunk {
    /// The bytes, passed to [`SnapshotSink::write`] one chunk at a time. The replica adds and
    /// checks a CRC32C.
    pub data: Bytes,
    /// The token for the next chunk; `None` after the last one.
    pub resume: Option<Bytes>,
}

/// Receives a peer's snapshot next to the live data. It is dropped unfinished if a transfer is
/// given up. Used on its own thread, not on the apply thread.
pub trait SnapshotSink: Send + 'static {
    /// Writes the next chunk: the result of one [`SnapshotSource::read`].
    ///
    /// # Errors
    /// The installation fails and is retried later.
    fn write(&mut self, data: Bytes) -> Result<(), ApplyError>;

    /// Called after the last chunk. Checks that the snapshot is complete.
    ///
    /// # Errors
    /// The installation fails and is retried later.
    fn finish(&mut self) -> Result<(), ApplyError>;
}
