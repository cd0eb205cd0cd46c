//! Why a data directory can't be used.

use std::io;
use std::path::PathBuf;

use synod_types::ClusterId;

/// A data directory that can't be used. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// There is a file of that name.
    #[error("data directory {path} is a file: name a directory with --data-dir")]
    NotADirectory {
        /// Where.
        path: PathBuf,
    },
    /// The file system's.
    #[error(
        "data directory {path} can't be {what}: {source}; make it writable for this user or name another with \
         --data-dir"
    )]
    Io {
        /// Where.
        path: PathBuf,
        /// What was tried: `created`, `written`, ...
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Another process holds its lock.
    #[error(
        "data directory {path} is in use by another process: stop that one first, or name another directory with \
         --data-dir"
    )]
    InUse {
        /// Where.
        path: PathBuf,
    },
    /// Another program's data.
    #[error("data directory {path} {refusal}")]
    Foreign {
        /// Where.
        path: PathBuf,
        /// Whose it is, and what to do.
        refusal: &'static str,
    },
    /// A later release wrote it.
    #[error(
        "data directory {path} has format {found}, and this release reads up to {newest}: start the newer release \
         that wrote it"
    )]
    NewerFormat {
        /// Where.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The newest that is read.
        newest: u32,
    },
    /// `meta.json` is damaged.
    #[error(
        "{path}/meta.json can't be read ({why}): restore it from a backup, or move the directory away and add this \
         member to its cluster again"
    )]
    BadMeta {
        /// The directory.
        path: PathBuf,
        /// How.
        why: String,
    },
    /// `meta.json` is gone.
    #[error(
        "data directory {path} has data but no meta.json: restore that file, or move the directory away and add this \
         member to its cluster again"
    )]
    MetaMissing {
        /// Where.
        path: PathBuf,
    },
    /// A directory in it is gone, or what must be in that one.
    #[error(
        "data directory {path} has lost its {part}: restore it from a backup, or move the directory away and add this \
         member to its cluster again"
    )]
    PartMissing {
        /// Where.
        path: PathBuf,
        /// Which.
        part: &'static str,
    },
    /// The data of another cluster than the flags describe.
    #[error(
        "data directory {path} belongs to cluster {found}, but the flags describe cluster {expected} (they differ in \
         {difference}): name this cluster's own directory with --data-dir, or correct the flags"
    )]
    OtherCluster {
        /// Where.
        path: PathBuf,
        /// The data's.
        found: ClusterId,
        /// The flags'.
        expected: ClusterId,
        /// The flag, or what else differs.
        difference: &'static str,
    },
}
