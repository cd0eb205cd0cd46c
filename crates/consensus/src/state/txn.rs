//! Transactions, as in etcd: all conditions and checks see the state before the transaction, and
//! its ranges see what it wrote before them.

use bytes::Bytes;
use synod_lease::Leases;
use synod_mvcc::{
    Compare, KeyRange, LeaseId, MvccError, Put, RangeQuery, RangeResult, Revision, View, WriteTxn,
};
use synod_proto::etcd::etcdserverpb::{
    DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest, RangeResponse,
    RequestOp, ResponseHeader, ResponseOp, TxnRequest, TxnResponse, request_op::Request,
    response_op::Response,
};

use super::apply::Failure;
use crate::convert::{compare, key_range, range_query};
use crate::error::Error;

/// The most bytes of pairs that a write returns. A write over it is refused, so all members must
/// have the same bound.
pub(crate) const MAX_REPLY_BYTES: usize = 32 << 20;
/// The most bytes that a command deletes in the write of its batch, as [`WriteTxn::limit_deletes`]
/// counts them. A deletion or revocation of more is written in pieces. A transaction of more, or a
/// deletion that returns what it deletes, is refused.
pub(crate) const MAX_DELETE_BYTES: usize = 32 << 20;
/// A transaction that reads up to so many single keys reads little.
const FEW_READS: usize = 16;

/// The state that conditions, checks and ranges read.
trait Reading {
    fn holds(&self, compare: &Compare) -> Result<bool, MvccError>;
    fn answer(&self, query: &RangeQuery) -> Result<RangeResult, MvccError>;
    fn has_key(&self, key: &[u8]) -> Result<bool, MvccError>;
    fn current(&self) -> Revision;
    fn oldest(&self) -> Revision;
}

impl Reading for View {
    fn holds(&self, compare: &Compare) -> Result<bool, MvccError> {
        self.compare(compare)
    }

    fn answer(&self, query: &RangeQuery) -> Result<RangeResult, MvccError> {
        self.range(query)
    }

    fn has_key(&self, key: &[u8]) -> Result<bool, MvccError> {
        Ok(self.get(key)?.is_some())
    }

    fn current(&self) -> Revision {
        self.revision()
    }

    fn oldest(&self) -> Revision {
        self.compacted()
    }
}

impl Reading for WriteTxn<'_> {
    fn holds(&self, compare: &Compare) -> Result<bool, MvccError> {
        self.compare(compare)
    }

    fn answer(&self, query: &RangeQuery) -> Result<RangeResult, MvccError> {
        self.range(query)
    }

    fn has_key(&self, key: &[u8]) -> Result<bool, MvccError> {
        Ok(self.get(key)?.is_some())
    }

    fn current(&self) -> Revision {
        self.revision()
    }

    fn oldest(&self) -> Revision {
        self.compacted()
    }
}

/// The branch of each transaction that runs: the outer one first, then its children, depth first.
struct Path<'a>(std::slice::Iter<'a, bool>);

impl<'a> Path<'a> {
    fn new(choices: &'a [bool]) -> Self {
        Self(choices.iter())
    }

    /// The branch of the next transaction.
    fn branch<'r>(&mut self, request: &'r TxnRequest) -> (bool, &'r [RequestOp]) {
        // There is a choice for each transaction that runs: `choose` walks in the same order.
        match self.0.next() {
            Some(true) => (true, &request.success),
            Some(false) | None => (false, &request.failure),
        }
    }
}

fn choose(
    state: &impl Reading,
    request: &TxnRequest,
    choices: &mut Vec<bool>,
) -> Result<(), MvccError> {
    let mut succeeded = true;
    for condition in &request.compare {
        if !state.holds(&compare(condition))? {
            succeeded = false;
            break;
        }
    }
    choices.push(succeeded);
    let ops = if succeeded {
        &request.success
    } else {
        &request.failure
    };
    for op in ops {
        if let Some(Request::RequestTxn(child)) = &op.request {
            choose(state, child, choices)?;
        }
    }
    Ok(())
}

/// Checks all that can fail, before anything is changed.
fn check(
    state: &impl Reading,
    leases: &Leases,
    request: &TxnRequest,
    path: &mut Path<'_>,
) -> Result<(), Failure> {
    let (_, ops) = path.branch(request);
    for op in ops {
        match &op.request {
            Some(Request::RequestRange(range)) => check_revision(state, range.revision)?,
            Some(Request::RequestPut(put)) => {
                if put.lease != 0 && !leases.contains(put.lease) {
                    return Err(Error::LeaseNotFound.into());
                }
                if (put.ignore_value || put.ignore_lease) && !state.has_key(&put.key)? {
                    return Err(Error::KeyNotFound.into());
                }
            }
            Some(Request::RequestTxn(child)) => check(state, leases, child, path)?,
            Some(Request::RequestDeleteRange(_)) | None => {}
        }
    }
    Ok(())
}

/// Inside a transaction a negative revision counts as compacted, and not as the current one.
fn check_revision(state: &impl Reading, revision: i64) -> Result<(), MvccError> {
    let (current, compacted) = (state.current(), state.oldest());
    if revision == 0 {
        Ok(())
    } else if revision > current.get() {
        Err(MvccError::FutureRevision { current })
    } else if revision < compacted.get().max(0) {
        Err(MvccError::Compacted { compacted })
    } else {
        Ok(())
    }
}

/// Runs the transaction of a log entry.
///
/// # Errors
/// It is refused, on all members alike and without effect, or the store fails.
pub(super) fn run(
    txn: &mut WriteTxn<'_>,
    leases: &Leases,
    request: &TxnRequest,
    max_bytes: usize,
) -> Result<TxnResponse, Failure> {
    let mut choices = Vec::with_capacity(1);
    choose(txn, request, &mut choices)?;
    check(txn, leases, request, &mut Path::new(&choices))?;
    let mut room = Room(max_bytes);
    let mut response = execute(txn, request, &mut Path::new(&choices), &mut room)?;
    response.header = Some(header(txn.revision().get()));
    Ok(response)
}

/// How many bytes of pairs a response may still hold.
struct Room(usize);

impl Room {
    /// Subtracts the size of `pairs`.
    fn take<'a>(&mut self, pairs: impl IntoIterator<Item = &'a Bytes>) -> Result<(), MvccError> {
        let bytes = pairs.into_iter().map(Bytes::len).sum();
        let left = self.0.checked_sub(bytes);
        self.0 = left.ok_or(MvccError::ResultTooLarge { max_bytes: self.0 })?;
        Ok(())
    }
}

fn execute(
    txn: &mut WriteTxn<'_>,
    request: &TxnRequest,
    path: &mut Path<'_>,
    room: &mut Room,
) -> Result<TxnResponse, Failure> {
    let (succeeded, ops) = path.branch(request);
    let mut responses = Vec::with_capacity(ops.len());
    for op in ops {
        let response = match &op.request {
            Some(Request::RequestRange(range)) => {
                Some(Response::ResponseRange(read(txn, range, room)?))
            }
            Some(Request::RequestPut(request)) => {
                let response = put(txn, request)?;
                room.take(&response.prev_kv)?;
                Some(Response::ResponsePut(response))
            }
            Some(Request::RequestDeleteRange(request)) => Some(Response::ResponseDeleteRange(
                delete_within(txn, request, room)?,
            )),
            Some(Request::RequestTxn(child)) => {
                let mut response = execute(txn, child, path, room)?;
                response.header = Some(ResponseHeader::default());
                Some(Response::ResponseTxn(response))
            }
            None => None,
        };
        responses.push(ResponseOp { response });
    }
    Ok(TxnResponse {
        header: None,
        succeeded,
        responses,
    })
}

/// Runs a transaction on a view. It must be read-only.
///
/// # Errors
/// A revision is not available, the pairs have more than `max_bytes`
/// ([`MvccError::ResultTooLarge`]), or the engine fails.
pub(crate) fn run_read_only(
    view: &View,
    request: &TxnRequest,
    max_bytes: usize,
) -> Result<TxnResponse, MvccError> {
    let (succeeded, ranges) = ranges_of_read_only(view, request)?;
    let mut room = Room(max_bytes);
    let responses = ranges
        .map(|range| {
            let response = Some(Response::ResponseRange(read(view, range, &mut room)?));
            Ok(ResponseOp { response })
        })
        .collect::<Result<_, MvccError>>()?;
    Ok(TxnResponse {
        header: Some(header(view.revision().get())),
        succeeded,
        responses,
    })
}

/// The size of the pairs that [`run_read_only`] returns, in bytes. Reads them, but keeps none.
///
/// # Errors
/// A revision is not available, or the engine fails.
pub(crate) fn read_only_txn_bytes(view: &View, request: &TxnRequest) -> Result<u64, MvccError> {
    let (_, ranges) = ranges_of_read_only(view, request)?;
    ranges
        .map(|range| view.range_bytes(&range_query(range)))
        .sum()
}

/// Whether the conditions hold, and the ranges of the branch that runs.
fn ranges_of_read_only<'r>(
    view: &View,
    request: &'r TxnRequest,
) -> Result<(bool, impl Iterator<Item = &'r RangeRequest> + use<'r>), MvccError> {
    let mut choices = Vec::with_capacity(1);
    choose(view, request, &mut choices)?;
    let (succeeded, ops) = Path::new(&choices).branch(request);
    let ranges = || {
        ops.iter().filter_map(|op| match &op.request {
            Some(Request::RequestRange(range)) => Some(range),
            _ => None,
        })
    };
    for range in ranges() {
        check_revision(view, range.revision)?;
    }
    Ok((succeeded, ranges()))
}

fn read(
    state: &impl Reading,
    request: &RangeRequest,
    room: &mut Room,
) -> Result<RangeResponse, MvccError> {
    let result = state.answer(&RangeQuery {
        max_bytes: room.0,
        ..range_query(request)
    })?;
    room.take(&result.kvs)?;
    Ok(RangeResponse {
        header: Some(header(result.revision.get())),
        kvs: result.kvs,
        more: result.more,
        count: i64::try_from(result.count).unwrap_or(i64::MAX),
    })
}

/// A put, inside a transaction or alone. The caller has checked the lease.
///
/// # Errors
/// The key should keep its value or lease and does not exist, or the engine fails.
pub(super) fn put(txn: &mut WriteTxn<'_>, request: &PutRequest) -> Result<PutResponse, MvccError> {
    let displaced = txn.put(&Put {
        key: request.key.clone(),
        value: request.value.clone(),
        lease: LeaseId::new(request.lease),
        ignore_value: request.ignore_value,
        ignore_lease: request.ignore_lease,
    })?;
    Ok(PutResponse {
        header: Some(header(txn.revision().get())),
        prev_kv: displaced.filter(|_| request.prev_kv),
    })
}

/// A delete.
///
/// # Errors
/// The deleted pairs are to be returned and have more than `max_bytes`
/// ([`MvccError::ResultTooLarge`]), or the engine fails.
pub(super) fn delete_range(
    txn: &mut WriteTxn<'_>,
    request: &DeleteRangeRequest,
    max_bytes: usize,
) -> Result<DeleteRangeResponse, MvccError> {
    delete_within(txn, request, &mut Room(max_bytes))
}

fn delete_within(
    txn: &mut WriteTxn<'_>,
    request: &DeleteRangeRequest,
    room: &mut Room,
) -> Result<DeleteRangeResponse, MvccError> {
    let range: KeyRange = key_range(&request.key, &request.range_end);
    let max_prev_bytes = request.prev_kv.then_some(room.0);
    let deleted = txn.delete_range(&range, max_prev_bytes)?;
    room.take(&deleted.prev_kvs)?;
    Ok(DeleteRangeResponse {
        header: Some(header(txn.revision().get())),
        deleted: i64::try_from(deleted.count).unwrap_or(i64::MAX),
        prev_kvs: deleted.prev_kvs,
    })
}

fn header(revision: i64) -> ResponseHeader {
    ResponseHeader {
        revision,
        ..Default::default()
    }
}

/// Whether a transaction consists of ranges only, so that it needs no log entry.
pub(crate) fn is_read_only(request: &TxnRequest) -> bool {
    all_ops(request, |op| matches!(op, Some(Request::RequestRange(_))))
}

/// Whether a transaction may be served without the leader: it has ranges, and all are serializable.
/// A transaction with comparisons only is linearizable: it can't ask for less, and its answer must
/// be current.
pub(crate) fn is_serializable(request: &TxnRequest) -> bool {
    let has_ops = !request.success.is_empty() || !request.failure.is_empty();
    has_ops
        && all_ops(request, |op| match op {
            Some(Request::RequestRange(range)) => range.serializable,
            _ => false,
        })
}

fn all_ops(request: &TxnRequest, test: impl Fn(&Option<Request>) -> bool) -> bool {
    let ops = request.success.iter().chain(&request.failure);
    ops.map(|op| &op.request).all(test)
}

/// Whether a delete may return much.
pub(crate) fn delete_reads_much(request: &DeleteRangeRequest) -> bool {
    request.prev_kv && !request.range_end.is_empty()
}

/// Whether a transaction may return much: a range of keys, or many single keys.
pub(crate) fn txn_reads_much(request: &TxnRequest) -> bool {
    single_reads(request).is_none_or(|reads| reads > FEW_READS)
}

/// How many single keys it may return; `None` if it may return a range.
fn single_reads(request: &TxnRequest) -> Option<usize> {
    let mut reads = 0;
    for op in request.success.iter().chain(&request.failure) {
        reads += match &op.request {
            Some(Request::RequestRange(range)) if range.count_only => 0,
            Some(Request::RequestRange(range)) if range.range_end.is_empty() => 1,
            Some(Request::RequestRange(_)) => return None,
            Some(Request::RequestPut(put)) => usize::from(put.prev_kv),
            Some(Request::RequestDeleteRange(delete)) if delete_reads_much(delete) => return None,
            Some(Request::RequestDeleteRange(delete)) => usize::from(delete.prev_kv),
            Some(Request::RequestTxn(child)) => single_reads(child)?,
            None => 0,
        };
    }
    Some(reads)
}

/// Whether any branch, at any depth, has a put.
pub(crate) fn puts_anything(request: &TxnRequest) -> bool {
    let mut ops = request.success.iter().chain(&request.failure);
    ops.any(|op| match &op.request {
        Some(Request::RequestPut(_)) => true,
        Some(Request::RequestTxn(child)) => puts_anything(child),
        _ => false,
    })
}

/// An upper bound of the bytes that the puts of `ops` add.
pub(crate) fn put_bytes(ops: &[RequestOp]) -> u64 {
    ops.iter()
        .map(|op| match &op.request {
            Some(Request::RequestPut(put)) => put_cost(put),
            Some(Request::RequestTxn(child)) => {
                put_bytes(&child.success).max(put_bytes(&child.failure))
            }
            _ => 0,
        })
        .sum()
}

/// The bytes that a put adds, by etcd's estimate.
pub(crate) fn put_cost(put: &PutRequest) -> u64 {
    256 + (put.key.len() + put.value.len()) as u64
}

#[cfg(test)]
mod tests {
    use synod_proto::etcd::etcdserverpb::{Compare, RangeRequest, RequestOp};

    use super::*;

    #[test]
    fn only_ranges_ask_for_serializable_transactions() {
        let of = |serializable: &[bool]| TxnRequest {
            compare: vec![Compare::default()],
            failure: serializable
                .iter()
                .map(|serializable| RequestOp {
                    request: Some(Request::RequestRange(RangeRequest {
                        serializable: *serializable,
                        ..RangeRequest::default()
                    })),
                })
                .collect(),
            ..TxnRequest::default()
        };
        assert!(is_serializable(&of(&[true, true])));
        assert!(!is_serializable(&of(&[true, false])));
        assert!(!is_serializable(&of(&[])), "a stale verdict");
    }
}
