//! What can go wrong in the keyspace.

use synod_engine::EngineError;

use crate::{LeaseId, Revision};

/// A request that can't be served, or a failure of the store.
#[derive(Debug, thiserror::Error)]
pub enum MvccError {
    /// The revision was compacted away. Start again from a current range.
    #[error("revision is older than the compacted revision {compacted}")]
    Compacted {
        /// The oldest revision that can still be read.
        compacted: Revision,
    },
    /// The revision doesn't exist yet.
    #[error("revision is newer than the current revision {current}")]
    FutureRevision {
        /// The newest revision there is.
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
    /// The transaction would delete more than it may. Nothing of it is kept: delete less, or with a
    /// [`LargeDelete`](crate::LargeDelete).
    #[error("a transaction deletes more than {max_bytes} bytes")]
    DeleteTooLarge {
        /// The limit, as [`WriteTxn::limit_deletes`](crate::WriteTxn::limit_deletes) counts.
        max_bytes: usize,
    },
    /// There is no such lease.
    #[error("lease {id} not found")]
    LeaseNotFound {
        /// The lease asked for.
        id: LeaseId,
    },
    /// A lease with this id exists already.
    #[error("lease {id} exists already")]
    LeaseExists {
        /// The lease asked for.
        id: LeaseId,
    },
    /// Stored rows contradict each other or can't be decoded. Final.
    #[error("keyspace is corrupt: {detail}")]
    Corrupt {
        /// Which row, and what is wrong.
        detail: String,
    },
    /// An import stream is damaged.
    #[error("import stream is malformed: {detail}")]
    MalformedImport {
        /// What is wrong.
        detail: &'static str,
    },
    /// A commit failed earlier. Restart to recover.
    #[error("keyspace stopped after a failed commit")]
    Failed,
    /// The engine failed. Final.
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
