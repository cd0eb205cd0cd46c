//! Errors of the local store.

use std::io;
use std::path::PathBuf;

/// An engine error. All except [`EngineError::KeyLength`] and [`EngineError::Locked`] are final for
/// the running process.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The disk or the file system failed.
    #[error("engine i/o error in {}: {source}; check the disk", dir.display())]
    Io {
        /// The engine's directory.
        dir: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// Stored data differs from what was written. Remove this replica and add it again as a new
    /// one.
    #[error(
        "engine data in {} is corrupt: {detail}; remove this member from its cluster and add it again with an empty \
         data directory",
        dir.display()
    )]
    Corrupt {
        /// The engine's directory.
        dir: PathBuf,
        /// What is damaged and how it was detected.
        detail: String,
    },
    /// Another process (or this one) has the directory open.
    #[error("engine directory {} is in use by another process: stop that one first", dir.display())]
    Locked {
        /// The engine's directory.
        dir: PathBuf,
    },
    /// The directory holds something else, or data in a newer format.
    #[error(
        "{} is not an engine directory of this version: {detail}; start the release that wrote it, or name another \
         data directory",
        dir.display()
    )]
    Foreign {
        /// The directory.
        dir: PathBuf,
        /// What was found.
        detail: String,
    },
    /// A key is empty or longer than [`MAX_KEY_BYTES`](crate::MAX_KEY_BYTES).
    #[error(
        "engine key of {length} bytes: must be 1 to {} bytes",
        crate::MAX_KEY_BYTES
    )]
    KeyLength {
        /// The key's length in bytes.
        length: usize,
    },
    /// An earlier write failed; restart to recover.
    #[error("engine stopped after an earlier failure: {reason}; restart the process")]
    Failed {
        /// The earlier failure.
        reason: String,
    },
}
