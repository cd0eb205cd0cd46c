//! Reads whose responses may be large: beside the serving threads, and within the budget of
//! responses.

use std::sync::Arc;
use std::time::Instant;

use synod_mvcc::{MvccError, RangeQuery, RangeResult, View};
use synod_proto::etcd::etcdserverpb as pb;

use crate::budget::Place;
use crate::error::Error;
use crate::shared::ServiceContext;
use crate::state::{read_only_txn_bytes, run_read_only};

/// Tried without asking how large a response is: most of the large ones are smaller.
const FIRST_TRY_BYTES: usize = 4 << 20;

/// A read at one state of the keyspace.
pub(super) trait LargeRead: Clone + Send + 'static {
    /// What is read.
    type Result: Send + 'static;

    /// Reads; an error of [`MvccError::ResultTooLarge`] where it would gather more than
    /// `max_bytes`.
    fn read(&self, max_bytes: usize) -> Result<Self::Result, MvccError>;

    /// How many bytes it gathers. Reads them all, but keeps none.
    fn bytes(&self) -> Result<u64, MvccError>;

    /// How large a response is, in bytes.
    fn size(result: &Self::Result) -> usize;
}

/// A range.
#[derive(Clone)]
pub(super) struct RangeRead {
    pub(super) view: View,
    pub(super) query: RangeQuery,
}

impl LargeRead for RangeRead {
    type Result = RangeResult;

    fn read(&self, max_bytes: usize) -> Result<RangeResult, MvccError> {
        let result = self.view.range(&RangeQuery {
            max_bytes,
            ..self.query.clone()
        })?;
        // The store bounds what it gathers from a range; a single key's value comes as it is.
        match Self::size(&result) <= max_bytes {
            true => Ok(result),
            false => Err(MvccError::ResultTooLarge { max_bytes }),
        }
    }

    fn bytes(&self) -> Result<u64, MvccError> {
        self.view.range_bytes(&self.query)
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
    type Result = pb::TxnResponse;

    fn read(&self, max_bytes: usize) -> Result<pb::TxnResponse, MvccError> {
        run_read_only(&self.view, &self.request, max_bytes)
    }

    fn bytes(&self) -> Result<u64, MvccError> {
        read_only_txn_bytes(&self.view, &self.request)
    }

    fn size(result: &pb::TxnResponse) -> usize {
        prost::Message::encoded_len(result)
    }
}

/// Reads when there is room for the response and it is its turn.
///
/// # Errors
/// [`Error::ResponseTooLarge`] where there can't be room, [`Error::ResponsesBusy`] where there was
/// none in time, and what the read fails with.
pub(super) async fn run<R: LargeRead>(
    shared: &ServiceContext,
    read: R,
    deadline: Instant,
) -> Result<(R::Result, Place), Error> {
    let budget = &shared.responses;
    let first_try = FIRST_TRY_BYTES.min(budget.largest());
    let place = budget.large(first_try, deadline).await?;
    if let Some(done) = attempt(shared, &read, first_try, place).await? {
        return Ok(done);
    }
    let measured = read.clone();
    let bytes = shared.scans.run(move || Ok(measured.bytes()?)).await?;
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    let place = budget.large(bytes, deadline).await?;
    attempt(shared, &read, bytes, place)
        .await?
        .ok_or_else(|| Error::Internal(format!("a result of {bytes} bytes grew at one revision")))
}

/// Reads one key's value that found no room among the small responses at first. It waits with
/// those, and not with the ranges.
///
/// # Errors
/// As [`run`].
pub(super) async fn single(
    shared: &ServiceContext,
    read: RangeRead,
    deadline: Instant,
) -> Result<(RangeResult, Place), Error> {
    let RangeRead { view, query } = &read;
    // Read again once there is a place: a value must not be kept uncounted during the wait.
    let bytes = RangeRead::size(&view.range(query)?);
    let place = shared.responses.single(bytes, deadline).await?;
    Ok((view.range(query)?, place))
}

/// Nothing where the response is too large.
async fn attempt<R: LargeRead>(
    shared: &ServiceContext,
    read: &R,
    max_bytes: usize,
    mut place: Place,
) -> Result<Option<(R::Result, Place)>, Error> {
    let read = read.clone();
    // The place goes along: a read that nobody waits for any more goes on to its end.
    let reading = shared.scans.run(move || match read.read(max_bytes) {
        Ok(result) => {
            place.shrink(R::size(&result));
            Ok(Some((result, place)))
        }
        Err(MvccError::ResultTooLarge { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    });
    reading.await
}
