//! What goes wrong when a log is opened, appended to, or written.

use std::{io, sync::Arc};

use synod_consensus_core::Write;
use synod_types::GroupId;

/// Why a log can't be opened. Nothing was changed on disk, except that leftovers may have been
/// removed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The configuration makes no sense.
    #[error("invalid log configuration: {reason}")]
    InvalidConfig {
        /// What is wrong with it.
        reason: String,
    },
    /// Another process, or another log of this one, has the directory open.
    #[error(
        "log directory {dir} is in use by another process: stop that process, or give this one a data \
         directory of its own"
    )]
    Locked {
        /// The directory.
        dir: String,
    },
    /// The disk has no room for a segment.
    #[error(
        "no space left for a log segment of {bytes} bytes in {dir}: free some space and start again"
    )]
    NoSpace {
        /// The directory.
        dir: String,
        /// Size of the segment.
        bytes: u64,
    },
    /// Another failure of the disk or the file system.
    #[error("cannot {operation} {path}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// With which file or directory.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// A record or header is damaged, and this can't be what an interrupted write leaves.
    #[error(
        "log segment {dir}/{file} is corrupt at byte {offset}: {reason}; acknowledged data may be lost on this \
         node, so it must not go on with this log: restore the data directory from a backup, or remove this \
         member from the cluster and add it again with an empty data directory; do not delete single segments"
    )]
    Corrupt {
        /// The log's directory.
        dir: String,
        /// The segment's file name.
        file: String,
        /// Where in the file.
        offset: u64,
        /// What is wrong there.
        reason: String,
    },
    /// A segment between the oldest and the newest is not there.
    #[error(
        "log segment {dir}/{file} is missing: put the file back, or restore the data directory from a backup, \
         or remove this member from the cluster and add it again with an empty data directory"
    )]
    MissingSegment {
        /// The log's directory.
        dir: String,
        /// The name that the segment must have.
        file: String,
    },
    /// The file was written by a newer version.
    #[error(
        "log segment {dir}/{file} has format version {found}, but this version reads {supported}: start the \
         version that wrote it, or a newer one"
    )]
    NewerFormat {
        /// The log's directory.
        dir: String,
        /// The segment's file name.
        file: String,
        /// The version in the file.
        found: u32,
        /// The newest version that can be read.
        supported: u32,
    },
    /// The file belongs to another log, or to another place in this one.
    #[error(
        "log segment {dir}/{file} belongs to another log or place ({reason}): it was copied or renamed; put the \
         right file back"
    )]
    Foreign {
        /// The log's directory.
        dir: String,
        /// The segment's file name.
        file: String,
        /// How that shows.
        reason: String,
    },
}

impl OpenError {
    pub(crate) fn io(operation: &'static str, path: String, source: io::Error) -> Self {
        Self::Io {
            operation,
            path,
            source,
        }
    }
}

/// The disk failed under a running log. The log is dead from then on: what was not acknowledged may
/// or may not be durable, and only a restart, which reads the disk again, can tell.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LogFailure {
    /// The disk has no room for the next segment.
    #[error(
        "no space left in {dir} for the log: could not {operation} {file}; free some space and restart"
    )]
    NoSpace {
        /// The log's directory.
        dir: String,
        /// What was tried.
        operation: &'static str,
        /// With which file.
        file: String,
    },
    /// A write, sync or rename failed. It is never tried again: the kernel may have dropped the
    /// data, and would call the next sync a success.
    #[error(
        "log stopped: could not {operation} {dir}/{file}: {source}; check the disk, then restart"
    )]
    Io {
        /// The log's directory.
        dir: String,
        /// What was tried.
        operation: &'static str,
        /// With which file.
        file: String,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// The log's own thread ended by a defect.
    #[error("log thread ended unexpectedly; restart the process")]
    ThreadDied,
}

/// Why the log did not take something. Certainly nothing of it was or will be written, except where
/// [`LogError::Failed`] answers a call that waited.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Too much is waiting to be written. Append the same writes again after the next completion.
    #[error(
        "log queue is full: {pending_bytes} of at most {max_pending_bytes} bytes are waiting for the disk"
    )]
    Full {
        /// What is waiting.
        pending_bytes: u64,
        /// The limit.
        max_pending_bytes: u64,
        /// The refused writes, handed back.
        writes: Vec<Write>,
    },
    /// An entry is larger than a record can be.
    #[error("entry of {bytes} bytes exceeds the log's limit of {max_bytes}")]
    TooLarge {
        /// Size of the entry's data.
        bytes: u64,
        /// The limit.
        max_bytes: u64,
    },
    /// The group is in the log already.
    #[error("group {group} is in the log already and can't be bootstrapped")]
    GroupExists {
        /// The group.
        group: GroupId,
    },
    /// The disk failed; the process must restart.
    #[error(transparent)]
    Failed(#[from] LogFailure),
    /// The log was closed.
    #[error("log is closed")]
    Closed,
}

impl LogFailure {
    /// The failure of a log that is being opened.
    pub(crate) fn on_open(self, segment_bytes: u64) -> OpenError {
        match self {
            Self::NoSpace { dir, .. } => OpenError::NoSpace {
                dir,
                bytes: segment_bytes,
            },
            Self::Io {
                dir,
                operation,
                file,
                source,
            } => OpenError::io(
                operation,
                format!("{dir}/{file}"),
                io::Error::new(source.kind(), source),
            ),
            Self::ThreadDied => {
                let source = io::Error::other("log thread ended unexpectedly");
                OpenError::io("open", "log".to_owned(), source)
            }
        }
    }
}
