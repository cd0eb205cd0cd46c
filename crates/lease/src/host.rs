//! The member's services that leases need: proposals, leadership and the keyspace.

use std::fmt;
use std::time::{Duration, Instant};

use bytes::Bytes;
use synod_proto::consensus::v1::{LeaseCheckpoint, LeaseClaim, LeaseRevoke};
use synod_types::NodeId;
use tokio::sync::watch;

/// A member of the replication group that holds the leases.
///
/// Proposals resolve once the entry is applied on this member, through [`Leases`](crate::Leases).
/// The entries of one leader are applied in the order in which it proposed them.
pub trait Host: Send + Sync {
    /// The error of a proposal or a read.
    type Error: fmt::Display + Send;
    /// The host's representation of who is the leader.
    type Leadership: Send + Sync;

    /// This member's id.
    fn member(&self) -> NodeId;

    /// The timeout of the keeper's proposals.
    fn request_timeout(&self) -> Duration;

    /// The leadership, now and after each change.
    fn watch_leadership(&self) -> watch::Receiver<Self::Leadership>;

    /// The term in which this member is the leader according to `leadership`; `None` if it isn't.
    /// Two periods of leadership never have the same term.
    fn term_led(leadership: &Self::Leadership) -> Option<u64>;

    /// The leader, if one is known.
    fn leader(&self) -> Option<NodeId>;

    /// The URLs at which a member answers forwarded lease requests; empty if they are not known.
    fn lease_urls(&self, member: NodeId) -> Vec<String>;

    /// The keys attached to a lease, in order.
    ///
    /// # Errors
    /// The store's error.
    fn lease_keys(&self, id: i64) -> Result<Vec<Bytes>, Self::Error>;

    /// Resolves once everything that was acknowledged before the call is applied on this member.
    ///
    /// # Errors
    /// No leader confirmed the read before `deadline`.
    fn linearize(&self, deadline: Instant) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Proposes a claim. Returns whether it is in force, i.e. no later claim was applied before it.
    ///
    /// # Errors
    /// The claim was not applied before `deadline`. It may still be applied later.
    fn claim(
        &self,
        command: LeaseClaim,
        deadline: Instant,
    ) -> impl Future<Output = Result<bool, Self::Error>> + Send;

    /// Proposes to record the remaining time of leases.
    ///
    /// # Errors
    /// As [`Self::claim`].
    fn checkpoint(
        &self,
        command: LeaseCheckpoint,
        deadline: Instant,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Proposes to revoke leases. Returns whether any of them was removed.
    ///
    /// # Errors
    /// As [`Self::claim`].
    fn revoke(
        &self,
        command: LeaseRevoke,
        deadline: Instant,
    ) -> impl Future<Output = Result<bool, Self::Error>> + Send;
}
