//! RPCs of etcd's API that come in a later release. They fail with UNIMPLEMENTED.

use synod_proto::etcd::{v3electionpb, v3lockpb};
use tonic::{Request, Response, Status};

use crate::error::Error;

/// Locks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LockService;

/// Elections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ElectionService;

/// Makes the whole `impl`, since `async_trait` must see its methods.
macro_rules! unimplemented_service {
    (
        $trait:path, $service:ty, $what:literal;
        [$($name:ident = $alias:ty)?]
        $($method:ident($request:ty) -> $response:ty;)*
    ) => {
        #[tonic::async_trait]
        impl $trait for $service {
            $(type $name = $alias;)?
            $(
                async fn $method(&self, _: Request<$request>) -> Result<Response<$response>, Status> {
                    Err(Error::Unimplemented($what).into())
                }
            )*
        }
    };
}

unimplemented_service! {
    v3lockpb::lock_server::Lock, LockService, "the lock service";
    []
    lock(v3lockpb::LockRequest) -> v3lockpb::LockResponse;
    unlock(v3lockpb::UnlockRequest) -> v3lockpb::UnlockResponse;
}

unimplemented_service! {
    v3electionpb::election_server::Election, ElectionService, "the election service";
    [ObserveStream = tokio_stream::Empty<Result<v3electionpb::LeaderResponse, Status>>]
    campaign(v3electionpb::CampaignRequest) -> v3electionpb::CampaignResponse;
    proclaim(v3electionpb::ProclaimRequest) -> v3electionpb::ProclaimResponse;
    leader(v3electionpb::LeaderRequest) -> v3electionpb::LeaderResponse;
    observe(v3electionpb::LeaderRequest) -> Self::ObserveStream;
    resign(v3electionpb::ResignRequest) -> v3electionpb::ResignResponse;
}
