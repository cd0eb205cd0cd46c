//! Locks: the owner of the oldest key below a lock's name holds the lock.

use synod_proto::etcd::etcdserverpb as pb;
use synod_proto::etcd::v3lockpb;
use synod_service::asked_timeout;
use tonic::{Request, Response, Status};

use super::queue::{Entry, Purpose, Queues};
use crate::error::Error;

/// The Lock service of the client port.
#[derive(Clone)]
pub(crate) struct LockService {
    queues: Queues,
}

impl LockService {
    pub(crate) fn new(queues: Queues) -> Self {
        Self { queues }
    }
}

#[tonic::async_trait]
impl v3lockpb::lock_server::Lock for LockService {
    async fn lock(
        &self,
        request: Request<v3lockpb::LockRequest>,
    ) -> Result<Response<v3lockpb::LockResponse>, Status> {
        let call = self.queues.admit(&request, "/v3lockpb.Lock/Lock").await?;
        let patience = asked_timeout(request.metadata()).map_err(Error::from)?;
        let request = request.into_inner();
        let entry = Entry {
            purpose: Purpose::Lock,
            name: request.name,
            lease: request.lease,
            value: bytes::Bytes::new(),
        };
        let first = self.queues.enter(entry, call, patience).await?;
        Ok(Response::new(v3lockpb::LockResponse {
            header: Some(first.found),
            key: first.key,
        }))
    }

    async fn unlock(
        &self,
        request: Request<v3lockpb::UnlockRequest>,
    ) -> Result<Response<v3lockpb::UnlockResponse>, Status> {
        let call = self.queues.admit(&request, "/v3lockpb.Lock/Unlock").await?;
        let delete = pb::DeleteRangeRequest {
            key: request.into_inner().key,
            ..Default::default()
        };
        let deleted = self.queues.kv().delete(delete, &call).await?;
        Ok(deleted.map(|deleted| v3lockpb::UnlockResponse {
            header: deleted.header,
        }))
    }
}
