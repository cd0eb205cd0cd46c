//! What members ask each other on the peer port: who is in the cluster, and about leases.

use std::sync::{Arc, OnceLock};

use synod_lease::was_forwarded;
use synod_proto::etcd::etcdserverpb as pb;
use synod_proto::etcd::etcdserverpb::lease_server::Lease;
use tonic::metadata::MetadataMap;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

use super::cluster::PeerClusterService;
use super::lease::{KeepAliveStream, LeaseService};
use crate::call::Call;
use crate::error::Error;
use crate::shared::ServiceContext;

/// The services of the peer port. They are there before the node runs, and answer once it does.
#[derive(Default)]
pub(crate) struct PeerServices {
    cluster: PeerClusterService,
    lease: PeerLeaseService,
}

impl PeerServices {
    pub(crate) fn routes(&self) -> Routes {
        let cluster = pb::cluster_server::ClusterServer::new(self.cluster.clone());
        let lease = pb::lease_server::LeaseServer::new(self.lease.clone());
        Routes::new(cluster).add_service(lease)
    }

    /// From here on they answer.
    pub(crate) fn open(&self, shared: &Arc<ServiceContext>, lease: LeaseService) {
        self.cluster.open(shared);
        // Once; a second time would be with the same node.
        let _again = self.lease.lease.set(lease);
    }
}

/// The Lease service of the peer port: renewals and times to live that a follower passes on.
#[derive(Clone, Default)]
struct PeerLeaseService {
    lease: Arc<OnceLock<LeaseService>>,
}

impl PeerLeaseService {
    /// Requests that no member passed on have no business here.
    fn forwarded(&self, metadata: &MetadataMap) -> Result<(&LeaseService, Call), Error> {
        if !was_forwarded(metadata) {
            return Err(NOT_FOR_PEERS);
        }
        let lease = self.lease.get().ok_or(Error::NotRunning)?;
        Ok((lease, lease.admit_forwarded(metadata)?))
    }
}

const NOT_FOR_PEERS: Error = Error::Unimplemented("this request on the peer port");

#[tonic::async_trait]
impl Lease for PeerLeaseService {
    type LeaseKeepAliveStream = KeepAliveStream;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<pb::LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let (lease, call) = self.forwarded(request.metadata())?;
        Ok(lease.keep_alive(request, call))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<pb::LeaseTimeToLiveRequest>,
    ) -> Result<Response<pb::LeaseTimeToLiveResponse>, Status> {
        let (lease, call) = self.forwarded(request.metadata())?;
        Ok(lease.time_to_live(request, &call).await?)
    }

    async fn lease_grant(
        &self,
        _: Request<pb::LeaseGrantRequest>,
    ) -> Result<Response<pb::LeaseGrantResponse>, Status> {
        Err(NOT_FOR_PEERS.into())
    }

    async fn lease_revoke(
        &self,
        _: Request<pb::LeaseRevokeRequest>,
    ) -> Result<Response<pb::LeaseRevokeResponse>, Status> {
        Err(NOT_FOR_PEERS.into())
    }

    async fn lease_leases(
        &self,
        _: Request<pb::LeaseLeasesRequest>,
    ) -> Result<Response<pb::LeaseLeasesResponse>, Status> {
        Err(NOT_FOR_PEERS.into())
    }
}
