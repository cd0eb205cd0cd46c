//! Keys: ranges, puts, deletes, transactions, compaction.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use synod_auth::{AuthState, Identity};
use synod_mvcc::{RangeQuery, RangeResult, View};
use synod_proto::consensus::v1::command::Command as Kind;
use synod_proto::etcd::etcdserverpb as pb;
use synod_service::{LargeRead as _, Place};
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use super::large_read::{self, RangeRead, TxnRead, within};
use super::range_stream::{self, Chunks, Guard, permit_range};
use super::reply;
use crate::background::raise_no_space;
use crate::call::{Call, Caller};
use crate::convert::{
    check_delete, check_put, check_range, check_range_stream, check_txn, range_query,
};
use crate::error::Error;
use crate::shared::ServiceContext;
use crate::state::{
    MAX_REPLY_BYTES, Reply, delete_reads_much, is_read_only, is_serializable, put_bytes, put_cost,
    run_read_only, txn_reads_much,
};

/// A range of up to so many keys is read on the serving thread, in some tens of microseconds.
const INLINE_KEYS: usize = 128;
/// The result of a read on the serving thread has at most so many bytes.
const INLINE_BYTES: usize = 256 << 10;

/// The KV service of the client port.
#[derive(Clone)]
pub(crate) struct KvService {
    shared: Arc<ServiceContext>,
    /// The revision up to which compacted rows are gone.
    swept: watch::Receiver<i64>,
}

impl KvService {
    pub(crate) fn new(shared: Arc<ServiceContext>, swept: watch::Receiver<i64>) -> Self {
        Self { shared, swept }
    }

    pub(super) async fn range(
        &self,
        request: &pb::RangeRequest,
        call: &Call,
    ) -> Result<Response<pb::RangeResponse>, Error> {
        if !request.serializable {
            self.shared.linearize(call.deadline).await?;
        }
        self.shared.metrics.ranges.inc();
        let query = range_query(request);
        let view = self.shared.view.reader().view();
        permit_range(&self.shared, call, request).await?;
        let (result, place) = match self.small_range(&view, request, &query)? {
            Some(done) => done,
            None if request.range_end.is_empty() => {
                large_read::single(&self.shared, RangeRead { view, query }, call.deadline).await?
            }
            None => {
                self.shared
                    .reads
                    .run(RangeRead { view, query }, call.deadline)
                    .await?
            }
        };
        Ok(place.response(pb::RangeResponse {
            header: Some(self.shared.header(result.revision.get())),
            kvs: result.kvs,
            more: result.more,
            count: i64::try_from(result.count).unwrap_or(i64::MAX),
        }))
    }

    /// Reads on the serving thread if that is quick and the response is small; else returns `None`.
    /// A range without a small limit is read up to [`INLINE_KEYS`]; `None` if there are more keys.
    fn small_range(
        &self,
        view: &View,
        request: &pb::RangeRequest,
        query: &RangeQuery,
    ) -> Result<Option<(RangeResult, Place)>, Error> {
        let is_single = request.range_end.is_empty();
        if !is_single && !is_short(request) {
            return Ok(None);
        }
        let cut =
            !is_single && !query.count_only && (query.limit == 0 || query.limit > INLINE_KEYS);
        let mut quick = query.clone();
        quick.max_bytes = INLINE_BYTES;
        if cut {
            quick.limit = INLINE_KEYS;
        }
        let result = within(view.range(&quick))?.filter(|result| !(cut && result.more));
        Ok(result.and_then(|result| {
            let place = self.shared.reads.budget.small(RangeRead::size(&result))?;
            Some((result, place))
        }))
    }

    pub(super) async fn put(
        &self,
        request: pb::PutRequest,
        call: &Call,
    ) -> Result<Response<pb::PutResponse>, Error> {
        check_put(&request)?;
        let budget = &self.shared.reads.budget;
        budget.check_write(|| request.prev_kv)?;
        let key_from = |id, start: &[u8]| self.shared.view.lease_key_from(id, start);
        let check =
            |users: &AuthState, by: Option<&Identity>| users.check_put(by, &request, &key_from);
        self.require_space(put_cost(&request), call, check).await?;
        let applied = self.shared.propose(Kind::Put(request), call).await?;
        let Reply::Put { prev_kv } = applied.reply else {
            return Err(unexpected(&applied.reply));
        };
        let place = budget.written(prev_kv.as_ref().map_or(0, Bytes::len), None);
        Ok(place.response(pb::PutResponse {
            header: Some(applied.header),
            prev_kv,
        }))
    }

    pub(super) async fn delete(
        &self,
        request: pb::DeleteRangeRequest,
        call: &Call,
    ) -> Result<Response<pb::DeleteRangeResponse>, Error> {
        check_delete(&request)?;
        let budget = &self.shared.reads.budget;
        budget.check_write(|| request.prev_kv)?;
        let place = match delete_reads_much(&request) {
            true => {
                let check = |users: &AuthState, by: Option<&Identity>| {
                    users.check_delete_range(by, &request)
                };
                self.shared.permit_write(call, check).await?;
                Some(budget.write(MAX_REPLY_BYTES, call.deadline).await?)
            }
            false => None,
        };
        let applied = self
            .shared
            .propose(Kind::DeleteRange(request), call)
            .await?;
        let Reply::Deleted { count, prev_kvs } = applied.reply else {
            return Err(unexpected(&applied.reply));
        };
        let bytes = prev_kvs.iter().map(Bytes::len).sum();
        let place = budget.written(bytes, place);
        Ok(place.response(pb::DeleteRangeResponse {
            header: Some(applied.header),
            deleted: count,
            prev_kvs,
        }))
    }

    pub(super) async fn txn(
        &self,
        request: pb::TxnRequest,
        call: &Call,
    ) -> Result<Response<pb::TxnResponse>, Error> {
        check_txn(&request, self.shared.settings.max_txn_ops)?;
        if is_read_only(&request) {
            return self.read_only_txn(request, call).await;
        }
        let key_from = |id, start: &[u8]| self.shared.view.lease_key_from(id, start);
        let check =
            |users: &AuthState, by: Option<&Identity>| users.check_txn(by, &request, &key_from);
        let cost = put_bytes(&request.success).max(put_bytes(&request.failure));
        if cost > 0 {
            self.require_space(cost, call, check).await?;
        }
        let budget = &self.shared.reads.budget;
        let most = || reply::txn_returns(&request, self.shared.settings.max_request_bytes);
        budget.check_write(|| most() > 0)?;
        // Take the place before the proposal: a write that is done must be answered.
        let place = match txn_reads_much(&request) {
            true => {
                self.shared.permit_write(call, check).await?;
                Some(budget.write(most(), call.deadline).await?)
            }
            false => None,
        };
        let applied = self.shared.propose(Kind::Txn(request), call).await?;
        let Reply::Txn(mut response) = applied.reply else {
            return Err(unexpected(&applied.reply));
        };
        // The revision is the transaction's own. The rest of the header is as for every command.
        let revision = response.header.map_or(0, |header| header.revision);
        response.header = Some(pb::ResponseHeader {
            revision,
            ..applied.header
        });
        let place = budget.written(response.encoded_len(), place);
        Ok(place.response(*response))
    }

    async fn read_only_txn(
        &self,
        request: pb::TxnRequest,
        call: &Call,
    ) -> Result<Response<pb::TxnResponse>, Error> {
        if !is_serializable(&request) {
            self.shared.linearize(call.deadline).await?;
        }
        let view = self.shared.view.reader().view();
        // No puts, so nothing is attached to a lease.
        let no_key = |_, _: &[u8]| Ok::<_, Error>(None);
        let check =
            |users: &AuthState, by: Option<&Identity>| users.check_txn(by, &request, &no_key);
        self.shared.permit(call, check).await?;
        let (mut response, place) = match self.small_read_only_txn(&view, &request)? {
            Some(done) => done,
            None => {
                let request = Arc::new(request);
                self.shared
                    .reads
                    .run(TxnRead { view, request }, call.deadline)
                    .await?
            }
        };
        let revision = response.header.map_or(0, |header| header.revision);
        response.header = Some(self.shared.header(revision));
        Ok(place.response(response))
    }

    /// See [`KvService::small_range`].
    fn small_read_only_txn(
        &self,
        view: &View,
        request: &pb::TxnRequest,
    ) -> Result<Option<(pb::TxnResponse, Place)>, Error> {
        if !is_short_txn(request) {
            return Ok(None);
        }
        let response = within(run_read_only(view, request, INLINE_BYTES))?;
        Ok(response.and_then(|response| {
            let place = self.shared.reads.budget.small(TxnRead::size(&response))?;
            Some((response, place))
        }))
    }

    async fn compact(
        &self,
        request: pb::CompactionRequest,
        call: &Call,
    ) -> Result<pb::CompactionResponse, Error> {
        let (revision, physical) = (request.revision, request.physical);
        self.shared.propose(Kind::Compact(request), call).await?;
        if physical {
            let mut swept = self.swept.clone();
            // The sweeper stops only with the node.
            if swept.wait_for(|swept| *swept >= revision).await.is_err() {
                return Err(Error::Stopped);
            }
        }
        Ok(pb::CompactionResponse {
            header: Some(self.shared.header_now()),
        })
    }

    /// Refuses a write that needs more space than is left, and raises the alarm if the client is
    /// allowed to write.
    async fn require_space<E: Into<Error>>(
        &self,
        cost: u64,
        call: &Call,
        check: impl Fn(&AuthState, Option<&Identity>) -> Result<(), E>,
    ) -> Result<(), Error> {
        self.shared.check_space()?;
        let used = self.shared.view.live_bytes();
        if used.saturating_add(cost) < self.shared.settings.quota_bytes {
            return Ok(());
        }
        self.shared.permit_write(call, check).await?;
        if let Err(error) = raise_no_space(&self.shared).await {
            // The write was not proposed in any case.
            tracing::warn!(%error, "the NOSPACE alarm was not raised; the next write tries again");
        }
        Err(Error::NoSpace)
    }
}

#[tonic::async_trait]
impl pb::kv_server::Kv for KvService {
    type RangeStreamStream = Chunks;

    async fn range(
        &self,
        request: Request<pb::RangeRequest>,
    ) -> Result<Response<pb::RangeResponse>, Status> {
        let caller = caller_of(request.get_ref());
        let rpc = "/etcdserverpb.KV/Range";
        let call = self.shared.admit(&request, rpc, caller).await?;
        check_range(request.get_ref())?;
        Ok(self.range(request.get_ref(), &call).await?)
    }

    async fn range_stream(
        &self,
        request: Request<pb::RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        let caller = caller_of(request.get_ref());
        let rpc = "/etcdserverpb.KV/RangeStream";
        let call = self.shared.admit(&request, rpc, caller).await?;
        let request = request.into_inner();
        check_range_stream(&request)?;
        if !request.serializable {
            self.shared.linearize(call.deadline).await?;
        }
        self.shared.metrics.ranges.inc();
        let guard = Guard {
            shared: Arc::clone(&self.shared),
            call,
            request,
        };
        Ok(range_stream::respond(guard).await?)
    }

    async fn put(
        &self,
        request: Request<pb::PutRequest>,
    ) -> Result<Response<pb::PutResponse>, Status> {
        let rpc = "/etcdserverpb.KV/Put";
        let call = self.shared.admit(&request, rpc, Caller::NeedsVoter).await?;
        Ok(self.put(request.into_inner(), &call).await?)
    }

    async fn delete_range(
        &self,
        request: Request<pb::DeleteRangeRequest>,
    ) -> Result<Response<pb::DeleteRangeResponse>, Status> {
        let rpc = "/etcdserverpb.KV/DeleteRange";
        let call = self.shared.admit(&request, rpc, Caller::NeedsVoter).await?;
        Ok(self.delete(request.into_inner(), &call).await?)
    }

    async fn txn(
        &self,
        request: Request<pb::TxnRequest>,
    ) -> Result<Response<pb::TxnResponse>, Status> {
        let rpc = "/etcdserverpb.KV/Txn";
        let call = self.shared.admit(&request, rpc, Caller::NeedsVoter).await?;
        Ok(self.txn(request.into_inner(), &call).await?)
    }

    async fn compact(
        &self,
        request: Request<pb::CompactionRequest>,
    ) -> Result<Response<pb::CompactionResponse>, Status> {
        let rpc = "/etcdserverpb.KV/Compact";
        let call = self.shared.admit(&request, rpc, Caller::NeedsVoter).await?;
        Ok(Response::new(
            self.compact(request.into_inner(), &call).await?,
        ))
    }
}

/// A learner answers serializable reads.
fn caller_of(request: &pb::RangeRequest) -> Caller {
    match request.serializable {
        true => Caller::Anyone,
        false => Caller::NeedsVoter,
    }
}

/// Whether a limit bounds the cost of the range: it is in key order, unfiltered and at the current
/// revision.
fn is_short(request: &pb::RangeRequest) -> bool {
    let filtered = request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0;
    let in_key_order = request.sort_order == 0
        || (request.sort_target == 0
            && request.sort_order == pb::range_request::SortOrder::Ascend as i32);
    in_key_order && !filtered && request.revision <= 0
}

/// Whether all its ranges and conditions concern single keys.
fn is_short_txn(request: &pb::TxnRequest) -> bool {
    use pb::request_op::Request;
    let mut ops = request.success.iter().chain(&request.failure);
    let ranges = ops.all(|op| match &op.request {
        Some(Request::RequestRange(range)) => range.range_end.is_empty(),
        _ => true,
    });
    ranges
        && request
            .compare
            .iter()
            .all(|compare| compare.range_end.is_empty())
}

fn unexpected(reply: &Reply) -> Error {
    Error::Internal(format!("a command on keys was answered with {reply:?}"))
}
