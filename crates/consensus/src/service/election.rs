//! Elections: the owner of the oldest key below an election's name leads. The key's value is what
//! the leader proclaims.

mod observe;

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt as _;
use futures::stream::BoxStream;
use prost::Message as _;
use synod_proto::etcd::etcdserverpb as pb;
use synod_proto::etcd::etcdserverpb::range_request::{SortOrder, SortTarget};
use synod_proto::etcd::mvccpb::KeyValue;
use synod_proto::etcd::v3electionpb as epb;
use synod_service::{Advice, asked_timeout};
use synod_watch::WatchHandle;
use tonic::{Request, Response, Status};

use super::kv::KvService;
use super::leaderless::until_ending;
use super::queue::{
    Entry, Purpose, Queues, created_at, delete, prefix_end, prefix_of, put_with_lease,
};
use crate::call::{Call, wants_leader};
use crate::error::Error;
use observe::Observer;

/// The Election service of the client port.
#[derive(Clone)]
pub(crate) struct ElectionService {
    queues: Queues,
    hub: WatchHandle,
}

impl ElectionService {
    pub(crate) fn new(queues: Queues, hub: WatchHandle) -> Self {
        Self { queues, hub }
    }

    /// Executes `then` if the key in `leader` is still the one that the caller created. Returns the
    /// header, and whether `then` was executed.
    async fn if_still(
        &self,
        leader: &epb::LeaderKey,
        then: pb::RequestOp,
        call: &Call,
    ) -> Result<(Option<pb::ResponseHeader>, bool), Error> {
        let request = pb::TxnRequest {
            compare: vec![created_at(&leader.key, leader.rev)],
            success: vec![then],
            failure: Vec::new(),
        };
        let done = self.queues.kv().txn(request, call).await?.into_inner();
        Ok((done.header, done.succeeded))
    }
}

#[tonic::async_trait]
impl epb::election_server::Election for ElectionService {
    type ObserveStream = BoxStream<'static, Result<epb::LeaderResponse, Status>>;

    async fn campaign(
        &self,
        request: Request<epb::CampaignRequest>,
    ) -> Result<Response<epb::CampaignResponse>, Status> {
        let call = self
            .queues
            .admit(&request, "/v3electionpb.Election/Campaign")
            .await?;
        let patience = asked_timeout(request.metadata()).map_err(Error::from)?;
        let mut request = request.into_inner();
        // Copied: a slice would keep the whole request in memory during the wait.
        request.name = Bytes::copy_from_slice(&request.name);
        let entry = Entry {
            purpose: Purpose::Election,
            name: request.name.clone(),
            lease: request.lease,
            value: request.value,
        };
        let first = self.queues.enter(entry, call, patience).await?;
        Ok(Response::new(epb::CampaignResponse {
            // As in etcd: the header of the transaction that entered the election.
            header: Some(first.entered),
            leader: Some(epb::LeaderKey {
                name: request.name,
                key: first.key,
                rev: first.created,
                lease: first.lease,
            }),
        }))
    }

    async fn proclaim(
        &self,
        request: Request<epb::ProclaimRequest>,
    ) -> Result<Response<epb::ProclaimResponse>, Status> {
        let call = self
            .queues
            .admit(&request, "/v3electionpb.Election/Proclaim")
            .await?;
        let request = request.into_inner();
        let leader = request.leader.ok_or(Error::MissingLeaderKey)?;
        // As in etcd: without a lease, the key gets one that nobody keeps alive.
        let lease = match leader.lease {
            0 => self.queues.own_lease(&call).await?,
            lease => lease,
        };
        let put = put_with_lease(&leader.key, request.value, lease);
        let proclaimed = match self.if_still(&leader, put, &call).await {
            Ok((header, true)) => Ok(header),
            Ok((_, false)) => Err(Error::NotElected),
            Err(error) => Err(error),
        };
        // If the outcome is unknown, the leader's key may have the new lease.
        if let Err(error) = &proclaimed
            && error.advice() != Advice::Unknown
            && leader.lease == 0
            && let Err(error) = self.queues.end_own_lease(lease).await
        {
            tracing::debug!(%error, "could not revoke the lease of a failed call; it expires");
        }
        let header = proclaimed?;
        Ok(Response::new(epb::ProclaimResponse { header }))
    }

    async fn leader(
        &self,
        request: Request<epb::LeaderRequest>,
    ) -> Result<Response<epb::LeaderResponse>, Status> {
        let call = self
            .queues
            .admit(&request, "/v3electionpb.Election/Leader")
            .await?;
        let name = request.into_inner().name;
        let range = oldest(self.queues.kv(), &name, false, &call).await?;
        match &range.get_ref().kvs[..] {
            [] => Err(Error::NoElectedLeader.into()),
            [first, ..] => {
                let kv = Some(decode(first)?);
                Ok(range.map(|range| epb::LeaderResponse {
                    header: range.header,
                    kv,
                }))
            }
        }
    }

    async fn observe(
        &self,
        request: Request<epb::LeaderRequest>,
    ) -> Result<Response<Self::ObserveStream>, Status> {
        let call = self
            .queues
            .admit(&request, "/v3electionpb.Election/Observe")
            .await?;
        let insists = wants_leader(request.metadata());
        // Copied: a slice would keep the whole request in memory.
        let name = Bytes::copy_from_slice(&request.into_inner().name);
        let queues = self.queues.clone();
        let (shared, stop) = (Arc::clone(queues.shared()), queues.stop().clone());
        let observer = Observer::new(queues, self.hub.clone(), name, call);
        let answers = observer.answers().map_err(Status::from);
        Ok(Response::new(until_ending(answers, shared, insists, stop)))
    }

    async fn resign(
        &self,
        request: Request<epb::ResignRequest>,
    ) -> Result<Response<epb::ResignResponse>, Status> {
        let call = self
            .queues
            .admit(&request, "/v3electionpb.Election/Resign")
            .await?;
        let leader = request.into_inner().leader;
        let leader = leader.ok_or(Error::MissingLeaderKey)?;
        let (header, _) = self.if_still(&leader, delete(&leader.key), &call).await?;
        Ok(Response::new(epb::ResignResponse { header }))
    }
}

/// The leader's key: the oldest one of the election.
async fn oldest(
    kv: &KvService,
    name: &[u8],
    serializable: bool,
    call: &Call,
) -> Result<Response<pb::RangeResponse>, Error> {
    let request = pb::RangeRequest {
        key: prefix_of(name),
        range_end: prefix_end(name),
        limit: 1,
        sort_order: SortOrder::Ascend.into(),
        sort_target: SortTarget::Create.into(),
        serializable,
        ..Default::default()
    };
    kv.range(&request, call).await
}

fn decode(kv: &Bytes) -> Result<KeyValue, Error> {
    KeyValue::decode(kv.clone()).map_err(|error| Error::Internal(error.to_string()))
}
