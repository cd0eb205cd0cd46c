//! Errors of opening, appending to and writing a log.

use std::{io, sync::Arc};

use synod_consensus_core::Write;
use synod_types::GroupId;

/// The reason why a log can't be opened. Nothing on disk was changed, except that leftovers may
/// have been removed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The configuration is invalid.
    #[error("invalid log configuration: {reason}")]
    InvalidConfig {
        /// The reason.
        reason: String,
    },
    /// Another process, or another log in this process, has the directory open.
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
        /// The segment's size.
        bytes: u64,
    },
    /// Another disk or file system error.
    #[error(
        "cannot {operation} {path}: {source}; check the disk and the permissions of the directory, then start again"
    )]
    Io {
        /// The failed operation.
        operation: &'static str,
        /// The file or directory.
        path: String,
        /// The operating system's error.
        source: io::Error,
    },
    /// A record or header is damaged in a way that an interrupted write can't cause.
    #[error(
        "log segment {dir}/{file} is corrupt at byte {offset}: {reason}; acknowledged data may be lost on this \
         node, so it must not continue with this log: remove this member from the cluster and add it again with an \
         empty data directory; do not delete single segments"
    )]
    Corrupt {
        /// The log's directory.
        dir: String,
        /// The segment's file name.
        file: String,
        /// The offset in the file.
        offset: u64,
        /// What is damaged.
        reason: String,
    },
    /// A segment between the oldest and the newest is missing.
    #[error(
        "log segment {dir}/{file} is missing: put the file back, or remove this member from the cluster and add \
         it again with an empty data directory"
    )]
    MissingSegment {
        /// The log's directory.
        dir: String,
        /// The segment's file name.
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
        /// The newest version that this code reads.
        supported: u32,
    },
    /// The file belongs to another log, or to another position in this one.
    #[error(
        "log segment {dir}/{file} belongs to another log or place ({reason}): it was copied or renamed; put the \
         right file back"
    )]
    Foreign {
        /// The log's directory.
        dir: String,
        /// The segment's file name.
        file: String,
        /// How this was detected.
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

/// The disk failed while the log was running. The log has stopped. Unacknowledged writes may or may
/// not be durable; only a restart, which reads the disk again, can tell.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LogFailure {
    /// The disk has no room for the next segment.
    #[error(
        "no space left in {dir} for the log: could not {operation} {file}; free some space and restart"
    )]
    NoSpace {
        /// The log's directory.
        dir: String,
        /// The failed operation.
        operation: &'static str,
        /// The file.
        file: String,
    },
    /// A write, sync or rename failed. It is never retried: the kernel may have dropped the data
    /// and would report success for the next sync.
    #[error(
        "log stopped: could not {operation} {dir}/{file}: {source}; check the disk, then restart"
    )]
    Io {
        /// The log's directory.
        dir: String,
        /// The failed operation.
        operation: &'static str,
        /// The file.
        file: String,
        /// The operating system's error.
        source: Arc<io::Error>,
    },
    /// The log's thread ended because of a bug.
    #[error("log thread ended unexpectedly; restart the process")]
    ThreadDied,
}

/// The reason why the log refused a request. Certainly nothing of it was or will be written, except
/// for [`LogError::Failed`] from a call that waits for the disk.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Too many bytes are waiting to be written. Append the same writes again after the next
    /// completion.
    #[error(
        "log queue is full: {pending_bytes} of at most {max_pending_bytes} bytes are waiting for the disk"
    )]
    Full {
        /// The waiting bytes.
        pending_bytes: u64,
        /// The limit.
        max_pending_bytes: u64,
        /// The refused writes.
        writes: Vec<Write>,
    },
    /// The entry is larger than the largest record.
    #[error("entry of {bytes} bytes exceeds the log's limit of {max_bytes}")]
    TooLarge {
        /// Size of the entry's data.
        bytes: u64,
        /// The limit.
        max_bytes: u64,
    },
    /// The group already exists in the log.
    #[error("group {group} already exists in the log and can't be bootstrapped")]
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
    /// Converts a failure while the log is being opened.
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
