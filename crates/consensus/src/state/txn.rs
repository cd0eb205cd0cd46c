//! Transactions, as etcd runs them: all conditions and checks see the state before the transaction, ranges inside see
//! what was written before them.

use synod_mvcc::{
    Compare, KeyRange, LeaseId, MvccError, Put, RangeQuery, RangeResult, View, WriteTxn,
};
use synod_proto::etcd::etcdserverpb::{
    DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest, RangeResponse,
    RequestOp, ResponseHeader, ResponseOp, TxnRequest, TxnResponse, request_op::Request,
    response_op::Response,
};

use super::apply::Failure;
use crate::convert::{compare, key_range, range_query};
use crate::error::Error;
use crate::lease::Leases;

/// What conditions, checks and ranges read.
trait Reading {
    fn holds(&self, compare: &Compare) -> Result<bool, MvccError>;
    fn answer(&self, query: &RangeQuery) -> Result<RangeResult, MvccError>;
    fn has_key(&self, key: &[u8]) -> Result<bool, MvccError>;
    fn current(&self) -> i64;
    fn oldest(&self) -> i64;
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

    fn current(&self) -> i64 {
        self.revision().get()
    }

    fn oldest(&self) -> i64 {
        self.compacted().get()
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

    fn current(&self) -> i64 {
        self.revision().get()
    }

    fn oldest(&self) -> i64 {
        self.compacted().get()
    }
}

/// Which branch each transaction takes: the outer one first, then its children that run, depth first.
struct Path<'a>(std::slice::Iter<'a, bool>);

impl<'a> Path<'a> {
    fn new(choices: &'a [bool]) -> Self {
        Self(choices.iter())
    }

    /// The branch of the next transaction.
    fn branch<'r>(&mut self, request: &'r TxnRequest) -> (bool, &'r [RequestOp]) {
        // There is one for each transaction that runs: the same walk over the same request made them.
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

/// Checks everything that could fail before anything is changed.
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

/// Inside a transaction a negative revision is compacted, not the current one.
fn check_revision(state: &impl Reading, revision: i64) -> Result<(), Error> {
    if revision == 0 {
        Ok(())
    } else if revision > state.current() {
        Err(Error::FutureRevision)
    } else if revision < state.oldest().max(0) {
        Err(Error::Compacted)
    } else {
        Ok(())
    }
}

/// Runs a transaction of a log entry.
///
/// # Errors
/// A refusal, the same on all members and without any effect, or a failure of the store.
pub(super) fn run(
    txn: &mut WriteTxn<'_>,
    leases: &Leases,
    request: &TxnRequest,
) -> Result<TxnResponse, Failure> {
    let mut choices = Vec::with_capacity(1);
    choose(txn, request, &mut choices)?;
    check(txn, leases, request, &mut Path::new(&choices))?;
    let mut response = execute(txn, request, &mut Path::new(&choices))?;
    response.header = Some(header(txn.revision().get()));
    Ok(response)
}

fn execute(
    txn: &mut WriteTxn<'_>,
    request: &TxnRequest,
    path: &mut Path<'_>,
) -> Result<TxnResponse, Failure> {
    let (succeeded, ops) = path.branch(request);
    let mut responses = Vec::with_capacity(ops.len());
    for op in ops {
        let response = match &op.request {
            Some(Request::RequestRange(range)) => Some(Response::ResponseRange(read(txn, range)?)),
            Some(Request::RequestPut(request)) => Some(Response::ResponsePut(put(txn, request)?)),
            Some(Request::RequestDeleteRange(request)) => {
                Some(Response::ResponseDeleteRange(delete_range(txn, request)?))
            }
            Some(Request::RequestTxn(child)) => {
                let mut response = execute(txn, child, path)?;
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

/// Runs a transaction that only reads, on one view. The caller has checked that it does.
///
/// # Errors
/// The revisions', or the engine's.
pub(crate) fn run_read_only(view: &View, request: &TxnRequest) -> Result<TxnResponse, Error> {
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
    let responses = ranges()
        .map(|range| {
            let response = Some(Response::ResponseRange(read(view, range)?));
            Ok(ResponseOp { response })
        })
        .collect::<Result<_, MvccError>>()?;
    Ok(TxnResponse {
        header: Some(header(view.revision().get())),
        succeeded,
        responses,
    })
}

fn read(state: &impl Reading, request: &RangeRequest) -> Result<RangeResponse, MvccError> {
    let result = state.answer(&range_query(request))?;
    Ok(RangeResponse {
        header: Some(header(result.revision.get())),
        kvs: result.kvs,
        more: result.more,
        count: i64::try_from(result.count).unwrap_or(i64::MAX),
    })
}

/// A put, inside a transaction or alone. The lease must have been checked.
///
/// # Errors
/// A missing key that should keep its value or lease, or the engine's.
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

/// A delete, inside a transaction or alone.
///
/// # Errors
/// The engine's.
pub(super) fn delete_range(
    txn: &mut WriteTxn<'_>,
    request: &DeleteRangeRequest,
) -> Result<DeleteRangeResponse, MvccError> {
    let range: KeyRange = key_range(&request.key, &request.range_end);
    let deleted = txn.delete_range(&range, request.prev_kv)?;
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

/// Whether a transaction consists of ranges alone, so that it needs no log entry.
pub(crate) fn is_read_only(request: &TxnRequest) -> bool {
    all_ops(request, |op| matches!(op, Some(Request::RequestRange(_))))
}

/// Whether all its ranges may be answered from this member's state.
pub(crate) fn is_serializable(request: &TxnRequest) -> bool {
    all_ops(request, |op| match op {
        Some(Request::RequestRange(range)) => range.serializable,
        _ => false,
    })
}

fn all_ops(request: &TxnRequest, test: impl Fn(&Option<Request>) -> bool) -> bool {
    let ops = request.success.iter().chain(&request.failure);
    ops.map(|op| &op.request).all(test)
}

/// Whether any branch at any depth puts something.
pub(crate) fn puts_anything(request: &TxnRequest) -> bool {
    let mut ops = request.success.iter().chain(&request.failure);
    ops.any(|op| match &op.request {
        Some(Request::RequestPut(_)) => true,
        Some(Request::RequestTxn(child)) => puts_anything(child),
        _ => false,
    })
}

/// An upper bound of what a transaction's puts add, in bytes.
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

/// What a put adds, in bytes: etcd's estimate.
pub(crate) fn put_cost(put: &PutRequest) -> u64 {
    256 + (put.key.len() + put.value.len()) as u64
}
