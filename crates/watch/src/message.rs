//! The hub's input and output, except responses.

use std::sync::Arc;

use super::interest::{EmptyRange, EventFlags, Interest, WatchRange};
use super::queue::{Progress, Splitting, StreamQueue, WatchId};
use super::source::{
    self, DeletedKeys, EventBatch, Fill, History, HistoryError, LargeRevision, Piece,
};

/// Identifies a stream within the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// A request for a new watcher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Create {
    /// The id that the client chose; zero if the hub should choose.
    pub watch_id: i64,
    /// The watched keys.
    pub range: Result<WatchRange, EmptyRange>,
    /// The watched events.
    pub flags: EventFlags,
    /// The first revision to watch; zero means the next one.
    pub start_revision: i64,
    /// Whether responses may be split within a revision.
    pub splitting: Splitting,
    /// Whether the client wants periodic progress notifications.
    pub progress: Progress,
}

/// Commands from streams.
#[derive(Debug)]
pub enum Command {
    /// Open a stream.
    Open(StreamId, Arc<StreamQueue>),
    /// Create a watcher.
    Create(StreamId, Create),
    /// Answer a request for a new watcher with this reason against it, in its turn.
    Refuse(StreamId, String),
    /// Cancel a watcher.
    Cancel(StreamId, WatchId),
    /// Report the stream's progress, as the client requested.
    Progress(StreamId),
    /// Send the stream's periodic progress notification, which is due.
    Tick(StreamId),
}

/// Changes of the store, in the order in which they happened.
#[derive(Clone, Debug)]
pub(crate) enum Feed {
    /// The next revision's events.
    Batch(Arc<EventBatch>),
    /// The store moved to this revision without giving its events: a snapshot was installed, the
    /// revision is a large one, or events were dropped because the hub lagged.
    Jump(i64),
}

impl Feed {
    /// The revision that the store has reached.
    pub(crate) fn revision(&self) -> i64 {
        match self {
            Self::Batch(batch) => source::revision(batch),
            Self::Jump(revision) => *revision,
        }
    }
}

/// A read that must not happen on the hub's thread. At most one is running.
#[derive(Debug)]
pub(crate) enum Job {
    /// Read the batches that the feed lacks, from this revision on.
    Fill {
        /// The first missing revision.
        from: i64,
    },
    /// Read the keys that a large revision deleted, from the piece after `after` on.
    DeletedKeys {
        /// The revision.
        large: LargeRevision,
        /// The last piece that was processed.
        after: u32,
    },
    /// Read what a cohort needs next.
    Read {
        /// The cohort's interest.
        interest: Interest,
        /// The first revision to read.
        from: i64,
    },
}

/// The result of a [`Job`].
#[derive(Debug)]
pub(crate) enum JobResult {
    /// The result of [`Job::Fill`].
    Filled(Result<Fill, HistoryError>),
    /// The result of [`Job::DeletedKeys`].
    DeletedKeys(Result<DeletedKeys, HistoryError>),
    /// The result of [`Job::Read`].
    Read(Result<Piece, HistoryError>),
}

impl Job {
    /// Executes the read. It takes milliseconds, except for what an interest sees of a large
    /// revision.
    pub(crate) fn run(&self, history: &dyn History) -> JobResult {
        match self {
            Self::Fill { from } => JobResult::Filled(history.batches(*from)),
            Self::DeletedKeys { large, after } => {
                JobResult::DeletedKeys(history.deleted_keys(large, *after))
            }
            Self::Read { interest, from } => JobResult::Read(history.read(interest, *from)),
        }
    }
}

/// The outcome of [`Hub::work`].
#[derive(Debug)]
pub(crate) enum Work {
    /// There is nothing to do.
    Idle,
    /// One bounded step was done; there may be more.
    Stepped,
    /// Run this job on another thread and pass the result to [`Hub::complete`].
    Run(Job),
}
