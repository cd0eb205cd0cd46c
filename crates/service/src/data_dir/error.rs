//! Why a data directory can't be used.

use std::io;
use std::path::PathBuf;

use synod_types::ClusterId;

/// A data directory that can't be used. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// The path is a file.
    #[error("data directory {path} is a file: name a directory with --data-dir")]
    NotADirectory {
        /// Where.
        path: PathBuf,
    },
    /// An I/O error.
    #[error(
        "data directory {path} can't be {what}: {source}; make it writable for this user or name another with \
         --data-dir"
    )]
    Io {
        /// Where.
        path: PathBuf,
        /// What failed: `created`, `written`, ...
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Another process holds the lock.
    #[error(
        "data directory {path} is in use by another process: stop that one first, or name another directory with \
         --data-dir"
    )]
    InUse {
        /// Where.
        path: PathBuf,
    },
    /// The directory holds another program's data.
    #[error("data directory {path} {refusal}")]
    Foreign {
        /// Where.
        path: PathBuf,
        /// Whose data it is, and what to do.
        refusal: &'static str,
    },
    /// A later release wrote the directory.
    #[error(
        "data directory {path} has format {found}, and this release reads up to {newest}: start the newer release \
         that wrote it"
    )]
    NewerFormat {
        /// Where.
        path: PathBuf,
        /// The directory's format.
        found: u64,
        /// The newest format that this release reads.
        newest: u32,
    },
    /// `meta.json` is damaged.
    #[error(
        "{path}/meta.json can't be read ({why}): put back a copy of this file, or move the directory away, remove this \
         member from its cluster and add it again"
    )]
    BadMeta {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// There is data, but no `meta.json`.
    #[error(
        "data directory {path} has data but no meta.json: put back that file, or move the directory away, remove this \
         member from its cluster and add it again"
    )]
    MetaMissing {
        /// Where.
        path: PathBuf,
    },
    /// A directory inside it is missing, or lacks what must be there.
    #[error(
        "data directory {path} has lost its {part}: put back the lost directory if you still have it, or move the data \
         directory away, remove this member from its cluster and add it again"
    )]
    PartMissing {
        /// Where.
        path: PathBuf,
        /// Which directory.
        part: &'static str,
    },
    /// The data belongs to another cluster than the one that the flags describe.
    #[error(
        "data directory {path} belongs to cluster {found}, but the flags describe cluster {expected} (they differ in \
         {difference}): name this cluster's own directory with --data-dir, or correct the flags"
    )]
    OtherCluster {
        /// Where.
        path: PathBuf,
        /// The cluster of the data.
        found: ClusterId,
        /// The cluster of the flags.
        expected: ClusterId,
        /// The flag or property in which they differ.
        difference: &'static str,
    },
}
