//! What leases need of the member that they live on: the way into the log, who leads, and the
//! keyspace.

use std::fmt;
use std::time::{Duration, Instant};

use bytes::Bytes;
use synod_proto::consensus::v1::{LeaseCheckpoint, LeaseClaim, LeaseRevoke};
use synod_types::NodeId;
use tokio::sync::watch;

/// A member of the replicated group whose entries change the leases.
///
/// Proposals resolve once the entry is applied on this member, by way of
/// [`Leases`](crate::Leases). Entries of one leader apply in the order in which it proposed them.
pub trait Host: Send + Sync {
    /// Why a proposal or a read failed.
    type Error: fmt::Display + Send;
    /// Who leads, in the host's own terms.
    type Leadership: Send + Sync;

    /// This member.
    fn member(&self) -> NodeId;

    /// How long a proposal of the keeper may take.
    fn request_timeout(&self) -> Duration;

    /// Who leads, now and after each change.
    fn watch_leadership(&self) -> watch::Receiver<Self::Leadership>;

    /// The term in which this member leads, going by `leadership`; `None` when it does not. Two
    /// times of leading never have the same term.
    fn term_led(leadership: &Self::Leadership) -> Option<u64>;

    /// The leader, if one is known.
    fn leader(&self) -> Option<NodeId>;

    /// Where a member answers questions about leases that another one passes on; empty if that is
    /// not known.
    fn lease_urls(&self, member: NodeId) -> Vec<String>;

    /// The keys that are attached to a lease, in order.
    ///
    /// # Errors
    /// The store's.
    fn lease_keys(&self, id: i64) -> Result<Vec<Bytes>, Self::Error>;

    /// Resolves once everything that was acknowledged before the call is applied here.
    ///
    /// # Errors
    /// No leader confirmed it until `deadline`.
    fn linearize(&self, deadline: Instant) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Proposes a claim. Returns whether it holds: no later one was applied before.
    ///
    /// # Errors
    /// It was not applied until `deadline`, and may still be.
    fn claim(
        &self,
        command: LeaseClaim,
        deadline: Instant,
    ) -> impl Future<Output = Result<bool, Self::Error>> + Send;

    /// Proposes to record what is left of leases.
    ///
    /// # Errors
    /// As [`Self::claim`].
    fn checkpoint(
        &self,
        command: LeaseCheckpoint,
        deadline: Instant,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Proposes to revoke leases. Returns whether any of them went.
    ///
    /// # Errors
    /// As [`Self::claim`].
    fn revoke(
        &self,
        command: LeaseRevoke,
        deadline: Instant,
    ) -> impl Future<Output = Result<bool, Self::Error>> + Send;
}
