//! What goes into the hub and what comes out, apart from responses.

use std::sync::Arc;

use super::interest::{EmptyRange, EventFlags, Interest, WatchRange};
use super::queue::{Progress, Splitting, StreamQueue, WatchId};
use super::source::{
    self, DeletedKeys, EventBatch, Fill, History, HistoryError, LargeRevision, Piece,
};

/// Names a stream within the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// A request for a new watcher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Create {
    /// The id that the client chose; zero lets the hub choose.
    pub watch_id: i64,
    /// The keys.
    pub range: Result<WatchRange, EmptyRange>,
    /// The events.
    pub flags: EventFlags,
    /// The first revision of interest; zero is the next one.
    pub start_revision: i64,
    /// Whether responses may be split within a revision.
    pub splitting: Splitting,
    /// Whether it wants periodic progress.
    pub progress: Progress,
}

/// What streams ask of the hub.
#[derive(Debug)]
pub enum Command {
    /// A new stream.
    Open(StreamId, Arc<StreamQueue>),
    /// A new watcher.
    Create(StreamId, Create),
    /// The client cancels a watcher.
    Cancel(StreamId, WatchId),
    /// The client asks how far the stream is.
    Progress(StreamId),
    /// The stream's periodic notification is due.
    Tick(StreamId),
}

/// What feeds the hub.
#[derive(Clone, Debug)]
pub(crate) enum Feed {
    /// The next revision's events.
    Batch(Arc<EventBatch>),
    /// The store moved on to this revision without saying how: a snapshot was installed, the
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

/// Reading that must not happen on the hub's thread. At most one is under way.
#[derive(Debug)]
pub(crate) enum Job {
    /// Batches that the feed lacks, from this revision on.
    Fill {
        /// The first missing revision.
        from: i64,
    },
    /// What a large revision deleted, from the piece after `after` on.
    DeletedKeys {
        /// The revision.
        large: LargeRevision,
        /// The last piece that is done.
        after: u32,
    },
    /// What a cohort needs next.
    Read {
        /// Whose events.
        interest: Interest,
        /// From this revision on.
        from: i64,
    },
}

/// What became of a [`Job`].
#[derive(Debug)]
pub(crate) enum JobResult {
    /// For [`Job::Fill`].
    Filled(Result<Fill, HistoryError>),
    /// For [`Job::DeletedKeys`].
    DeletedKeys(Result<DeletedKeys, HistoryError>),
    /// For [`Job::Read`].
    Read(Result<Piece, HistoryError>),
}

impl Job {
    /// Reads. Takes milliseconds, except for what an interest sees of a large revision.
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

/// What [`Hub::work`] did.
#[derive(Debug)]
pub(crate) enum Work {
    /// Nothing is left that could be done now.
    Idle,
    /// A bounded step; there may be more.
    Stepped,
    /// Run this elsewhere and give the result to [`Hub::complete`].
    Run(Job),
}
