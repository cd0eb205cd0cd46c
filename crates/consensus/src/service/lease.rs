//! Leases. Grants and revocations go through the log; renewals go to the leader's clocks.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use prost::Message;
use synod_auth::AuthError;
use synod_lease::{LeaderClock, LeaderLink, Leases, MAX_TTL_S, Origin, Renewed, was_forwarded};
use synod_proto::consensus::v1::{LeaseRevoke, command};
use synod_proto::etcd::etcdserverpb as pb;
use synod_proto::etcd::etcdserverpb::lease_server::Lease;
use synod_runtime::shutdown::Shutdown;
use synod_runtime::{clock, random};
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use super::leaderless::until_ending;
use crate::call::{Call, Caller, wants_leader};
use crate::error::Error;
use crate::shared::ServiceContext;
use crate::state::Reply;

/// How many renewals of one stream are done at once.
const RENEWALS_AT_ONCE: usize = 1024;

/// The Lease service of the client port.
#[derive(Clone)]
pub(crate) struct LeaseService {
    shared: Arc<ServiceContext>,
    leases: Arc<Leases>,
    link: Arc<LeaderLink>,
    /// Ends the keep-alive streams, which would never end by themselves.
    stop: Shutdown,
}

/// The answers to renewals.
pub(super) type KeepAliveStream = BoxStream<'static, Result<pb::LeaseKeepAliveResponse, Status>>;

/// The state of one keep-alive stream.
struct KeepAlive {
    service: LeaseService,
    call: Call,
    origin: Origin,
    requests: stream::ReadyChunks<Streaming<pb::LeaseKeepAliveRequest>>,
    answers: VecDeque<pb::LeaseKeepAliveResponse>,
    /// The error that ends the stream after the answers.
    failed: Option<Status>,
}

impl LeaseService {
    pub(crate) fn new(
        shared: Arc<ServiceContext>,
        leases: Arc<Leases>,
        link: LeaderLink,
        stop: Shutdown,
    ) -> Self {
        Self {
            shared,
            leases,
            link: Arc::new(link),
            stop,
        }
    }

    fn leader_clock<'a>(
        &'a self,
        call: &'a Call,
        origin: Origin,
    ) -> LeaderClock<'a, ServiceContext> {
        LeaderClock {
            host: &*self.shared,
            leases: &self.leases,
            link: &self.link,
            origin,
            caller: call,
            deadline: call.deadline,
        }
    }

    /// Admits a request that another member forwards.
    ///
    /// # Errors
    /// As [`ServiceContext::admit_forwarded`].
    pub(super) fn admit_forwarded(&self, metadata: &MetadataMap) -> Result<Call, Error> {
        self.shared.admit_forwarded(metadata)
    }

    /// An id that is most likely free. What counts is the check when the entry is applied.
    fn free_id(&self) -> i64 {
        loop {
            let id = i64::try_from(random::u64() >> 1).unwrap_or(0);
            if id != 0 && !self.leases.contains(id) {
                return id;
            }
        }
    }

    /// Answers when there is room for the response.
    async fn respond<T: Message>(
        &self,
        response: T,
        deadline: Instant,
    ) -> Result<Response<T>, Error> {
        let budget = &self.shared.reads.budget;
        let place = budget.made(response.encoded_len(), deadline).await?;
        Ok(place.response(response))
    }

    /// Grants a lease, with an id of its own if the request has none.
    ///
    /// # Errors
    /// It was not granted, or the outcome is unknown.
    pub(super) async fn grant(
        &self,
        mut grant: pb::LeaseGrantRequest,
        call: &Call,
    ) -> Result<pb::LeaseGrantResponse, Error> {
        if grant.ttl > MAX_TTL_S {
            return Err(Error::LeaseTtlTooLarge);
        }
        self.shared.check_space()?;
        if grant.id == 0 {
            grant.id = self.free_id();
        }
        // Set before the proposal: members may have different election timeouts.
        grant.ttl = grant.ttl.max(self.shared.settings.min_lease_ttl);
        let command = command::Command::LeaseGrant(grant);
        let applied = self.shared.propose(command, call).await?;
        let Reply::LeaseGranted { id, ttl } = applied.reply else {
            return Err(unexpected(&applied.reply));
        };
        self.leases.granted_now(id);
        Ok(pb::LeaseGrantResponse {
            header: Some(applied.header),
            id,
            ttl,
            error: String::new(),
        })
    }

    /// Ends a lease.
    ///
    /// # Errors
    /// There is no such lease, or it was not ended, or the outcome is unknown.
    pub(super) async fn revoke(
        &self,
        id: i64,
        call: &Call,
    ) -> Result<pb::LeaseRevokeResponse, Error> {
        let revoke = LeaseRevoke {
            ids: vec![id],
            expired_in_term: 0,
            expired_by: 0,
        };
        let command = command::Command::LeaseRevoke(revoke);
        let applied = self.shared.propose(command, call).await?;
        let Reply::LeasesRevoked { ids } = applied.reply else {
            return Err(unexpected(&applied.reply));
        };
        if ids.is_empty() {
            return Err(Error::LeaseNotFound);
        }
        Ok(pb::LeaseRevokeResponse {
            header: Some(applied.header),
        })
    }

    async fn renew(
        &self,
        requests: Vec<Result<pb::LeaseKeepAliveRequest, Status>>,
        call: &Call,
        origin: Origin,
    ) -> (VecDeque<pb::LeaseKeepAliveResponse>, Option<Status>) {
        let mut ids = Vec::with_capacity(requests.len());
        let mut failed = None;
        for request in requests {
            match request {
                Ok(request) => ids.push(request.id),
                Err(status) => failed = Some(status),
            }
        }
        let call = call.until(clock::now() + self.shared.settings.request_timeout);
        match self.leader_clock(&call, origin).renew(&ids).await {
            Ok(Renewed { ttls, refused }) => {
                let failed = refused.map(Status::from).or(failed);
                let header = self.shared.header_now();
                let answer = |(id, ttl)| pb::LeaseKeepAliveResponse {
                    header: Some(header),
                    id,
                    ttl,
                };
                (ids.into_iter().zip(ttls).map(answer).collect(), failed)
            }
            Err(error) => (VecDeque::new(), Some(Error::from(error).into())),
        }
    }
}

fn origin(metadata: &MetadataMap) -> Origin {
    match was_forwarded(metadata) {
        true => Origin::Member,
        false => Origin::Client,
    }
}

#[tonic::async_trait]
impl Lease for LeaseService {
    type LeaseKeepAliveStream = KeepAliveStream;

    async fn lease_grant(
        &self,
        request: Request<pb::LeaseGrantRequest>,
    ) -> Result<Response<pb::LeaseGrantResponse>, Status> {
        let rpc = "/etcdserverpb.Lease/LeaseGrant";
        let call = self.shared.admit(&request, rpc, Caller::NeedsVoter).await?;
        Ok(Response::new(
            self.grant(request.into_inner(), &call).await?,
        ))
    }

    async fn lease_revoke(
        &self,
        request: Request<pb::LeaseRevokeRequest>,
    ) -> Result<Response<pb::LeaseRevokeResponse>, Status> {
        let rpc = "/etcdserverpb.Lease/LeaseRevoke";
        let call = self.shared.admit(&request, rpc, Caller::NeedsVoter).await?;
        let id = request.get_ref().id;
        Ok(Response::new(self.revoke(id, &call).await?))
    }

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<pb::LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let rpc = "/etcdserverpb.Lease/LeaseKeepAlive";
        let call = self.shared.admit(&request, rpc, Caller::NeedsVoter).await?;
        Ok(self.keep_alive(request, call))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<pb::LeaseTimeToLiveRequest>,
    ) -> Result<Response<pb::LeaseTimeToLiveResponse>, Status> {
        let rpc = "/etcdserverpb.Lease/LeaseTimeToLive";
        let call = self.shared.admit(&request, rpc, Caller::NeedsVoter).await?;
        Ok(self.time_to_live(request, &call).await?)
    }

    async fn lease_leases(
        &self,
        request: Request<pb::LeaseLeasesRequest>,
    ) -> Result<Response<pb::LeaseLeasesResponse>, Status> {
        let rpc = "/etcdserverpb.Lease/LeaseLeases";
        let call = self.shared.admit(&request, rpc, Caller::NeedsVoter).await?;
        let deadline = call.deadline;
        self.shared.linearize(deadline).await?;
        let ids = self.ids(&call).await?;
        let response = pb::LeaseLeasesResponse {
            header: Some(self.shared.header_now()),
            leases: ids.into_iter().map(|id| pb::LeaseStatus { id }).collect(),
        };
        Ok(self.respond(response, deadline).await?)
    }
}

impl LeaseService {
    /// The ids of all leases, for a caller who may know them.
    ///
    /// # Errors
    /// Why not.
    async fn ids(&self, call: &Call) -> Result<Vec<i64>, Error> {
        // Before the leases are locked, since the apply thread waits for that lock.
        let asked = self.shared.examine(call, |users, by| {
            users.check_authenticated(by)?;
            Ok::<_, AuthError>((Arc::clone(users), by.cloned()))
        });
        let (users, by) = asked.await?;
        let ids = self.leases.ids();
        if !users.is_enabled() {
            return Ok(ids);
        }
        // Each lease is looked up: there may be a million.
        let view = Arc::clone(&self.shared.view);
        let checked = self.shared.reads.scans.run(move || {
            let key_from = |id, start: &[u8]| view.lease_key_from(id, start);
            users.check_leases(by.as_ref(), ids.iter().copied(), &key_from)?;
            Ok::<_, Error>(ids)
        });
        let checked = checked.await;
        checked.inspect_err(|error| self.shared.metrics.denied.count(error))
    }

    /// Renews leases for as long as the client asks.
    pub(super) fn keep_alive(
        &self,
        request: Request<Streaming<pb::LeaseKeepAliveRequest>>,
        call: Call,
    ) -> Response<KeepAliveStream> {
        let insists = wants_leader(request.metadata());
        let state = KeepAlive {
            service: self.clone(),
            call,
            origin: origin(request.metadata()),
            requests: request.into_inner().ready_chunks(RENEWALS_AT_ONCE),
            answers: VecDeque::new(),
            failed: None,
        };
        let answers = stream::try_unfold(state, KeepAlive::next);
        let (shared, stop) = (Arc::clone(&self.shared), self.stop.clone());
        Response::new(until_ending(answers, shared, insists, stop))
    }

    /// The remaining time of a lease.
    ///
    /// # Errors
    /// No leader answered, or the caller may not ask.
    pub(super) async fn time_to_live(
        &self,
        request: Request<pb::LeaseTimeToLiveRequest>,
        call: &Call,
    ) -> Result<Response<pb::LeaseTimeToLiveResponse>, Error> {
        let clock = self.leader_clock(call, origin(request.metadata()));
        let asked = clock.time_to_live(request.into_inner()).await;
        let mut response = asked.map_err(|error| Error::from(error).of_read())?;
        response.header = Some(self.shared.header_now());
        self.respond(response, call.deadline).await
    }
}

impl KeepAlive {
    /// The next answer. When there is none, takes all requests that have arrived.
    async fn next(mut self) -> Result<Option<(pb::LeaseKeepAliveResponse, Self)>, Status> {
        loop {
            if let Some(answer) = self.answers.pop_front() {
                return Ok(Some((answer, self)));
            }
            if let Some(status) = self.failed.take() {
                return Err(status);
            }
            let Some(requests) = self.requests.next().await else {
                return Ok(None);
            };
            (self.answers, self.failed) =
                self.service.renew(requests, &self.call, self.origin).await;
        }
    }
}

fn unexpected(reply: &Reply) -> Error {
    Error::Internal(format!("a lease command was answered with {reply:?}"))
}
