//! What a group replicates: the traits that a service implements.
//!
//! All of a group's state lives behind [`StateMachine`]. One thread (`synod-apply`) owns it and
//! calls it; other threads only ever see what it hands out: a [`Persister`], [`SnapshotSource`]s
//! and [`SnapshotSink`]s.

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
    /// A failure described by `message` alone.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            source: None,
        }
    }

    /// A failure of something below: an engine, a disk.
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
/// Deterministic: the same entries in the same order give the same state and outputs on every
/// replica. The data and the applied position change in one atomic write of the engine, so that a
/// restart never sees one without the other.
pub trait StateMachine: Send + 'static {
    /// What applying one entry returns to whoever proposed it here.
    type Output: Send + 'static;
    /// Where a snapshot of a peer is written before it replaces the live data.
    type Sink: SnapshotSink;

    /// Applies `entries`, which follow [`applied`](Self::applied) without a gap, in index order,
    /// and pushes exactly one output per entry, no-ops and membership changes included. It takes at
    /// least one of them, and may leave the rest for the next call, so that the outputs and changes
    /// of one call, which are in memory until it returns, stay bounded.
    ///
    /// A `Config` entry's `data` is an encoded `ConfigCommand`; the state machine stores its
    /// membership with the applied position and may use its context.
    ///
    /// # Errors
    /// The replica stops and answers nothing more.
    fn apply(
        &mut self,
        entries: &mut vec::IntoIter<Entry>,
        outputs: &mut Vec<Self::Output>,
    ) -> Result<(), ApplyError>;

    /// Position and membership as of the last apply or install: zero and empty in a new state
    /// machine.
    ///
    /// The initial members of a cluster are in no entry. As long as no `Config` entry was applied
    /// the membership may stay empty: the replica fills in the initial one.
    fn applied(&self) -> SnapshotMeta;

    /// A handle that flushes the engine from another thread while entries are being applied. Called
    /// once.
    fn persister(&self) -> Arc<dyn Persister>;

    /// A consistent view of the state at [`applied`](Self::applied). Called on the apply thread: it
    /// must not read the data yet, [`SnapshotSource::read`] does.
    ///
    /// # Errors
    /// The transfer that asked for it fails and is tried again later; the replica goes on.
    fn snapshot(&mut self) -> Result<Arc<dyn SnapshotSource>, ApplyError>;

    /// Opens a place beside the live data for a snapshot of a peer. Leftovers of an earlier attempt
    /// that was not finished may be deleted. `meta` is the snapshot's; its membership is never
    /// empty.
    ///
    /// # Errors
    /// The installation fails and is tried again later; the replica goes on.
    fn begin_install(&mut self, meta: SnapshotMeta) -> Result<Self::Sink, ApplyError>;

    /// Replaces the live data by a finished sink's, atomically and durably: after a power loss at
    /// any point the state machine has either all of the old state or all of the new, and once this
    /// has returned, the new. [`applied`](Self::applied) is then the `meta` of
    /// [`begin_install`](Self::begin_install).
    ///
    /// # Errors
    /// The replica stops.
    fn install(&mut self, sink: Self::Sink) -> Result<(), ApplyError>;
}

/// Flushes a state machine's engine off the apply thread.
pub trait Persister: Send + Sync + 'static {
    /// Makes everything applied before this call durable and returns the position (and the
    /// membership there) that now survives a power loss without the log. Entries up to it may then
    /// be forgotten by the log, so it must be read **before** the flush begins, from the same
    /// engine that is flushed.
    ///
    /// # Errors
    /// The replica stops: after a failed flush nobody knows what is on the disk.
    fn persist(&self) -> Result<SnapshotMeta, ApplyError>;
}

/// An open snapshot that a leader serves, in chunks, to followers that need entries it no longer
/// has.
pub trait SnapshotSource: Send + Sync + 'static {
    /// Position and membership of the view.
    fn meta(&self) -> &SnapshotMeta;

    /// The chunk after `resume_after` (empty: the first one), of about `max_bytes` (at least one
    /// record, so it may be larger). The same token always gives the same chunk, so that a broken
    /// transfer continues.
    ///
    /// # Errors
    /// The transfer fails and is tried again later.
    fn read(&self, resume_after: &Bytes, max_bytes: usize) -> Result<SnapshotChunk, ApplyError>;
}

/// A piece of a snapshot in the state machine's own format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotChunk {
    /// The bytes, given to [`SnapshotSink::write`] one chunk at a time. The replica adds and checks
    /// a CRC32C.
    pub data: Bytes,
    /// Where the next chunk begins; `None` after the last one.
    pub resume: Option<Bytes>,
}

/// Where a snapshot of a peer is written, beside the live data. Dropped unfinished when a transfer
/// is given up. Used on a thread of its own, not on the apply thread.
pub trait SnapshotSink: Send + 'static {
    /// Adds the next chunk: what one [`SnapshotSource::read`] returned.
    ///
    /// # Errors
    /// The installation fails and is tried again later.
    fn write(&mut self, data: Bytes) -> Result<(), ApplyError>;

    /// The last chunk was written: checks that the whole is complete.
    ///
    /// # Errors
    /// The installation fails and is tried again later.
    fn finish(&mut self) -> Result<(), ApplyError>;
}
