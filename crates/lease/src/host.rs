//! The member's services that leases need: proposals, leadership and the keyspace.

use std::fmt;
use std::time::{Duration, Instant};

use bytes::Bytes;
use synod_proto::consensus::v1::{LeaseCheckpoint, LeaseClaim, LeaseRevoke};
use synod_proto::etcd::etcdserverpb as pb;
use synod_types::NodeId;
use tokio::sync::watch;
use tonic::Status;
use tonic::metadata::MetadataMap;

/// A member of the replication group that holds the leases.
///
/// Proposals resolve once the entry is applied on this member, through [`Leases`](crate::Leases).
/// The entries of one leader are applied in the order in which it proposed them.
pub trait Host: Send + Sync {
    /// The error of a proposal or a read.
    type Error: fmt::Display + Send;
    /// The host's representation of who is the leader.
    type Leadership: Send + Sync;
    /// Who makes a request.
    type Caller: Send + Sync;

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

    /// Checks whether the caller may renew leases. Returns how many of them are allowed, counted
    /// from the first one, and why the next one is not. Asked of the leader, after it has applied
    /// everything that was acknowledged before the request.
    fn check_renewals(
        &self,
        caller: &Self::Caller,
        ids: &[i64],
    ) -> impl Future<Output = (usize, Option<Self::Error>)> + Send;

    /// The keys attached to a lease, in order, if the request asks for them. Asked of the leader,
    /// as [`Self::check_renewals`] is.
    ///
    /// # Errors
    /// The caller may not see them or may not ask at all, or the store fails.
    fn lease_keys(
        &self,
        caller: &Self::Caller,
        request: pb::LeaseTimeToLiveRequest,
    ) -> impl Future<Output = Result<Vec<Bytes>, Self::Error>> + Send;

    /// Metadata that tells the leader who makes a request that is forwarded to it.
    ///
    /// # Errors
    /// This member can't tell who it is.
    fn introduce(
        &self,
        caller: &Self::Caller,
    ) -> impl Future<Output = Result<MetadataMap, Self::Error>> + Send;

    /// The error of a request that the leader refused, so that a retry would not help. `None` for
    /// transient errors.
    fn refusal(status: &Status) -> Option<Self::Error>;

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
