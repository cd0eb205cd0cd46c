//! The reads with large results: ranges, and transactions that consist of ranges.

use std::sync::Arc;
use std::time::Instant;

use synod_mvcc::{MvccError, RangeQuery, RangeResult, View};
use synod_proto::etcd::etcdserverpb as pb;
use synod_service::{LargeRead, Place};

use crate::error::Error;
use crate::shared::ServiceContext;
use crate::state::{read_only_txn_bytes, run_read_only};

/// A range.
#[derive(Clone)]
pub(super) struct RangeRead {
    pub(super) view: View,
    pub(super) query: RangeQuery,
}

impl LargeRead for RangeRead {
    type Output = RangeResult;
    type Error = Error;

    fn read(&self, max_bytes: usize) -> Result<Option<RangeResult>, Error> {
        let result = within(self.view.range(&RangeQuery {
            max_bytes,
            ..self.query.clone()
        }))?;
        // The store does not limit the value of a single key.
        Ok(result.filter(|result| Self::size(result) <= max_bytes))
    }

    fn measure(&self) -> Result<u64, Error> {
        Ok(self.view.range_bytes(&self.query)?)
    }

    fn size(result: &RangeResult) -> usize {
        result.kvs.iter().map(bytes::Bytes::len).sum()
    }
}

/// A transaction that consists of ranges.
#[derive(Clone)]
pub(super) struct TxnRead {
    pub(super) view: View,
    pub(super) request: Arc<pb::TxnRequest>,
}

impl LargeRead for TxnRead {
    type Output = pb::TxnResponse;
    type Error = Error;

    fn read(&self, max_bytes: usize) -> Result<Option<pb::TxnResponse>, Error> {
        within(run_read_only(&self.view, &self.request, max_bytes))
    }

    fn measure(&self) -> Result<u64, Error> {
        Ok(read_only_txn_bytes(&self.view, &self.request)?)
    }

    fn size(result: &pb::TxnResponse) -> usize {
        prost::Message::encoded_len(result)
    }
}

/// `None` if the result is too large.
pub(super) fn within<T>(read: Result<T, MvccError>) -> Result<Option<T>, Error> {
    match read {
        Ok(result) => Ok(Some(result)),
        Err(MvccError::ResultTooLarge { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Reads the value of one key once there is room for it. It waits with the small responses, and not
/// with the ranges.
///
/// # Errors
/// There is no room for the value, or the engine fails.
pub(super) async fn single(
    shared: &ServiceContext,
    read: RangeRead,
    deadline: Instant,
) -> Result<(RangeResult, Place), Error> {
    let RangeRead { view, query } = &read;
    // The value is dropped during the wait and read again: nothing uncounted stays in memory.
    let bytes = RangeRead::size(&view.range(query)?);
    let place = shared.reads.budget.single(bytes, deadline).await?;
    Ok((view.range(query)?, place))
}
