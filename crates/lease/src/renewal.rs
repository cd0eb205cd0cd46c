//! Renews leases and reports their remaining time. Only the leader can do so, after it has
//! confirmed that it leads.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use synod_proto::etcd::etcdserverpb as pb;
use synod_runtime::{clock, random};
use synod_types::NodeId;

use crate::error::LeaseError;
use crate::forward::{Forward, ForwardError, LeaderLink};
use crate::host::Host;
use crate::keeper::record;
use crate::leases::{Leases, NotLeading};
use crate::lessor::Renewal;

/// The delay before another attempt, unless leadership changes first.
const RETRY: Duration = Duration::from_millis(100);
/// Rounds of deleting records. A lease that gets a new record each time waits for another attempt.
const ROUNDS: usize = 4;

/// Whether a request came from a client or was forwarded by a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From a client; it may be forwarded to the leader.
    Client,
    /// From a member that believes this one to be the leader.
    Member,
}

/// Accesses the leader's clocks for one request, on whichever member they are.
pub struct LeaderClock<'a, H: Host> {
    /// This node.
    pub host: &'a H,
    /// Its leases.
    pub leases: &'a Leases,
    /// Its connection to another leader.
    pub link: &'a LeaderLink,
    /// Where the request comes from.
    pub origin: Origin,
    /// Who makes it.
    pub caller: &'a H::Caller,
    /// Nobody waits for an answer after this.
    pub deadline: Instant,
}

/// The result of renewals.
#[derive(Debug)]
pub struct Renewed<E> {
    /// The TTLs in seconds of the leases up to the first one that is refused, zero for leases that
    /// no longer exist.
    pub ttls: Vec<i64>,
    /// Why the next one is refused.
    pub refused: Option<E>,
}

/// The reason why an attempt on this node failed.
#[derive(Debug)]
enum Missed<E> {
    /// This node does not lead, or no longer does.
    Elsewhere,
    /// A permanent error.
    Failed(LeaseError<E>),
}

impl<E> From<LeaseError<E>> for Missed<E> {
    fn from(error: LeaseError<E>) -> Self {
        Self::Failed(error)
    }
}

impl<E> From<NotLeading> for Missed<E> {
    fn from(_: NotLeading) -> Self {
        Self::Elsewhere
    }
}

impl<H: Host> LeaderClock<'_, H> {
    /// Renews leases, in the order of `ids`.
    ///
    /// # Errors
    /// [`LeaseError::NoLeader`] or [`LeaseError::Timeout`] if no leader answered before the
    /// deadline.
    pub async fn renew(&self, ids: &[i64]) -> Result<Renewed<H::Error>, LeaseError<H::Error>> {
        loop {
            match self.renew_here(ids).await {
                Ok(renewed) => return Ok(renewed),
                Err(Missed::Failed(error)) => return Err(error),
                Err(Missed::Elsewhere) => {}
            }
            if let Some(leader) = self.other_leader()? {
                let link = self.forward(leader).await?;
                let (ttls, failed) = self.link.renew(link, ids).await;
                let refused = failed.map(|error| self.refusal(&error, leader));
                // Another attempt, unless the leader answered everything or refused.
                if !matches!(refused, Some(None)) {
                    let refused = refused.flatten();
                    return Ok(Renewed { ttls, refused });
                }
            }
            self.pause().await?;
        }
    }

    /// The parameters of a request that is forwarded to this leader.
    async fn forward(&self, leader: NodeId) -> Result<Forward, LeaseError<H::Error>> {
        let introduced = self.host.introduce(self.caller).await;
        Ok(Forward {
            leader,
            urls: self.host.lease_urls(leader),
            caller: introduced.map_err(LeaseError::Host)?,
            deadline: self.deadline,
        })
    }

    /// The leader's refusal, if the error is one. Otherwise the next attempt uses another
    /// connection.
    fn refusal(&self, error: &ForwardError, leader: NodeId) -> Option<H::Error> {
        let refused = error.status().and_then(H::refusal);
        if refused.is_none() {
            tracing::debug!(%error, %leader, "the leader did not answer a request for leases");
            self.link.reconnect();
        }
        refused
    }

    /// The remaining time of a lease, and its keys if requested. The caller fills in the header.
    ///
    /// # Errors
    /// As [`Self::renew`].
    pub async fn time_to_live(
        &self,
        request: pb::LeaseTimeToLiveRequest,
    ) -> Result<pb::LeaseTimeToLiveResponse, LeaseError<H::Error>> {
        loop {
            match self.describe(request).await {
                Ok(response) => return Ok(response),
                Err(Missed::Failed(error)) => return Err(error),
                Err(Missed::Elsewhere) => {}
            }
            if let Some(leader) = self.other_leader()? {
                let link = self.forward(leader).await?;
                match self.link.time_to_live(link, request).await {
                    Ok(response) => return Ok(response),
                    Err(error) => {
                        if let Some(refused) = self.refusal(&error, leader) {
                            return Err(LeaseError::Host(refused));
                        }
                    }
                }
            }
            self.pause().await?;
        }
    }

    async fn renew_here(&self, ids: &[i64]) -> Result<Renewed<H::Error>, Missed<H::Error>> {
        let term = self.confirm().await?;
        let (allowed, refused) = self.host.check_renewals(self.caller, ids).await;
        let ttls = self.renew_allowed(term, &ids[..allowed]).await?;
        Ok(Renewed { ttls, refused })
    }

    async fn renew_allowed(&self, term: u64, ids: &[i64]) -> Result<Vec<i64>, Missed<H::Error>> {
        let mut ttls: HashMap<i64, i64> = HashMap::with_capacity(ids.len());
        let mut pending: Vec<i64> = ids.to_vec();
        let mut waited = false;
        for _ in 0..ROUNDS {
            let mut recorded = Vec::new();
            let mut ran_out = Vec::new();
            let outcomes = self.leases.renew(term, &pending)?;
            for (id, outcome) in pending.iter().zip(outcomes) {
                match outcome {
                    Renewal::Renewed(ttl) => {
                        ttls.insert(*id, ttl);
                    }
                    Renewal::Missing => {
                        ttls.insert(*id, 0);
                    }
                    Renewal::RanOut => ran_out.push(*id),
                    Renewal::Recorded => recorded.push(*id),
                }
            }
            if !ran_out.is_empty() {
                // A lease counts as gone only once its keys are deleted too.
                let gone = self.leases.gone(term, &ran_out);
                clock::timeout_at(self.deadline, gone)
                    .await
                    .map_err(|_| LeaseError::Timeout)??;
                ttls.extend(ran_out.iter().map(|id| (*id, 0)));
            }
            waited |= !ran_out.is_empty() || !recorded.is_empty();
            if recorded.is_empty() {
                if waited {
                    // A lease's time starts with the answer, and waiting for others has delayed
                    // that.
                    let live = ids
                        .iter()
                        .filter(|id| ttls.get(id).is_some_and(|ttl| *ttl > 0));
                    let live: Vec<i64> = live.copied().collect();
                    self.leases.renew(term, &live)?;
                }
                return Ok(ids
                    .iter()
                    .map(|id| ttls.get(id).copied().unwrap_or(0))
                    .collect());
            }
            let taken_back = recorded.iter().map(|id| (*id, 0)).collect();
            record(self.host, term, taken_back, self.deadline)
                .await
                .map_err(LeaseError::Host)?;
            pending = recorded;
        }
        Err(Missed::Elsewhere)
    }

    async fn describe(
        &self,
        request: pb::LeaseTimeToLiveRequest,
    ) -> Result<pb::LeaseTimeToLiveResponse, Missed<H::Error>> {
        let id = request.id;
        let term = self.confirm().await?;
        let keys = self.host.lease_keys(self.caller, request).await;
        let keys = keys.map_err(LeaseError::Host)?;
        let Some(remaining) = self.leases.remaining(term, id)? else {
            return Ok(pb::LeaseTimeToLiveResponse {
                id,
                ttl: -1,
                ..Default::default()
            });
        };
        Ok(pb::LeaseTimeToLiveResponse {
            header: None,
            id,
            ttl: remaining.left_s,
            granted_ttl: remaining.granted_s,
            keys,
        })
    }

    /// Confirms that this node leads now and has applied everything that was acknowledged before.
    /// Concurrent callers share one read round.
    async fn confirm(&self) -> Result<u64, Missed<H::Error>> {
        let term = self.leading_term().ok_or(Missed::Elsewhere)?;
        self.host
            .linearize(self.deadline)
            .await
            .map_err(LeaseError::Host)?;
        // If this node has just lost leadership, the next leader confirms the read.
        match self.leading_term() {
            Some(now) if now == term => Ok(term),
            _ => Err(Missed::Elsewhere),
        }
    }

    fn leading_term(&self) -> Option<u64> {
        let role = self.host.watch_leadership();
        let role = role.borrow();
        H::term_led(&role)
    }

    fn other_leader(&self) -> Result<Option<NodeId>, LeaseError<H::Error>> {
        let leader = self
            .host
            .leader()
            .filter(|leader| *leader != self.host.member());
        if leader.is_some() && self.origin == Origin::Member {
            return Err(LeaseError::NotLeader);
        }
        Ok(leader)
    }

    /// Waits for another leader, for this node's clocks to start, or for a short delay.
    async fn pause(&self) -> Result<(), LeaseError<H::Error>> {
        let (now, deadline) = (clock::now(), self.deadline);
        if now >= deadline {
            return Err(match self.host.leader() {
                Some(_) => LeaseError::Timeout,
                None => LeaseError::NoLeader,
            });
        }
        let mut role = self.host.watch_leadership();
        let mut keeping = self.leases.keeping();
        let until = deadline.min(now + random::jitter(RETRY));
        // Each of these is a reason to try again.
        tokio::select! {
            biased;
            _ = role.changed() => {}
            _ = keeping.changed() => {}
            () = clock::sleep_until(until) => {}
        }
        Ok(())
    }
}
