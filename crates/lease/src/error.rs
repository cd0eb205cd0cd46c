//! Lease errors, independent of the host's error type.

/// The reason why a lease is not granted. Every member reaches the same verdict, since the table is
/// the same everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// The id zero means "no lease".
    #[error("no lease has the id zero")]
    NoId,
    /// A lease with this id exists already.
    #[error("the lease exists already")]
    Exists,
    /// The TTL exceeds [`MAX_TTL_S`](crate::MAX_TTL_S).
    #[error("the time to live is too large")]
    TtlTooLarge,
}

/// The error of a renewal, query or proposal; `E` is the host's error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError<E> {
    /// There was no leader until the deadline.
    #[error("no leader")]
    NoLeader,
    /// Another member forwarded the request, but this one is not the leader.
    #[error("not leader")]
    NotLeader,
    /// Another term began before the proposal: it was certainly not made.
    #[error("leader changed")]
    LeaderChanged,
    /// The leader did not answer before the deadline.
    #[error("request timed out")]
    Timeout,
    /// An error of the host.
    #[error("{0}")]
    Host(E),
}
