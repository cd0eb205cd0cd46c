//! Errors of the keyspace.

use synod_engine::EngineError;

use crate::{LeaseId, Revision};

/// An invalid request, or a failure of the store.
#[derive(Debug, thiserror::Error)]
pub enum MvccError {
    /// The revision has been compacted. Read the current range and start again from its revision.
    #[error("revision is older than the compacted revision {compacted}")]
    Compacted {
        /// The oldest revision that can still be read.
        compacted: Revision,
    },
    /// The revision doesn't exist yet.
    #[error("revision is newer than the current revision {current}")]
    FutureRevision {
        /// The current revision.
        current: Revision,
    },
    /// `ignore_value` or `ignore_lease` on a key that doesn't exist.
    #[error("key not found")]
    KeyNotFound,
    /// The key is empty or too long.
    #[error("key of {length} bytes: must be 1 to {} bytes", crate::MAX_KEY_BYTES)]
    KeyLength {
        /// The key's length in bytes.
        length: usize,
    },
    /// The result would exceed the query's `max_bytes`. Ask for less, or stream it.
    #[error("result exceeds {max_bytes} bytes")]
    ResultTooLarge {
        /// The query's limit.
        max_bytes: usize,
    },
    /// The transaction would delete more than its limit. None of its changes are kept. Delete less,
    /// or use a [`LargeDelete`](crate::LargeDelete).
    #[error("a transaction deletes more than {max_bytes} bytes")]
    DeleteTooLarge {
        /// The limit, counted as in [`WriteTxn::limit_deletes`](crate::WriteTxn::limit_deletes).
        max_bytes: usize,
    },
    /// The lease doesn't exist.
    #[error("lease {id} not found")]
    LeaseNotFound {
        /// The requested lease.
        id: LeaseId,
    },
    /// A lease with this id exists already.
    #[error("lease {id} exists already")]
    LeaseExists {
        /// The requested lease.
        id: LeaseId,
    },
    /// Stored rows contradict each other or can't be decoded. Final for the running process.
    #[error(
        "keyspace is corrupt: {detail}; remove this member from its cluster and add it again with an empty data directory"
    )]
    Corrupt {
        /// Which row is corrupt, and how.
        detail: String,
    },
    /// An import stream is damaged.
    #[error("import stream is malformed: {detail}")]
    MalformedImport {
        /// What is malformed.
        detail: &'static str,
    },
    /// An earlier commit failed. Restart to recover.
    #[error("keyspace stopped after a failed commit: restart the member")]
    Failed,
    /// The engine failed. Final for the running process.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl MvccError {
    pub(crate) fn corrupt(detail: impl Into<String>) -> Self {
        Self::Corrupt {
            detail: detail.into(),
        }
    }
}
