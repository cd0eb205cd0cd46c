//! What can go wrong with leases, without the host's own words for it.

/// A lease that is not granted: on no member, since the table is the same everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// The id zero means no lease.
    #[error("no lease has the id zero")]
    NoId,
    /// There is such a lease already.
    #[error("the lease exists already")]
    Exists,
    /// It asks for more than [`MAX_TTL_S`](crate::MAX_TTL_S).
    #[error("the time to live is too large")]
    TtlTooLarge,
}

/// A renewal, a question or a proposal that failed; `E` is the host's error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError<E> {
    /// Nobody led until the deadline.
    #[error("no leader")]
    NoLeader,
    /// Another member passed the request on, and this one does not lead.
    #[error("not leader")]
    NotLeader,
    /// Another term began first: certainly not done.
    #[error("leader changed")]
    LeaderChanged,
    /// The leader did not answer until the deadline.
    #[error("request timed out")]
    Timeout,
    /// The host could not do its part.
    #[error("{0}")]
    Host(E),
}
