//! Bounds what a write returns, before it is proposed.

use synod_proto::etcd::etcdserverpb as pb;
use synod_proto::etcd::etcdserverpb::request_op::Request;

use crate::state::MAX_REPLY_BYTES;

/// The size of a pair without its key and value is below this.
const PAIR_OVERHEAD_BYTES: usize = 256;

/// The most bytes of pairs that a transaction can return; zero if it returns none. No request, and
/// so no pair, is larger than `max_request_bytes`.
pub(super) fn txn_returns(request: &pb::TxnRequest, max_request_bytes: usize) -> usize {
    returns(request, max_request_bytes + PAIR_OVERHEAD_BYTES).min(MAX_REPLY_BYTES)
}

fn returns(request: &pb::TxnRequest, pair_bytes: usize) -> usize {
    let branch = |ops: &[pb::RequestOp]| {
        ops.iter()
            .map(|op| op_returns(op, pair_bytes))
            .fold(0, usize::saturating_add)
    };
    branch(&request.success).max(branch(&request.failure))
}

fn op_returns(op: &pb::RequestOp, pair_bytes: usize) -> usize {
    match &op.request {
        Some(Request::RequestRange(range)) if range.count_only => 0,
        Some(Request::RequestRange(range)) => {
            let pairs = match range.range_end.is_empty() {
                true => Some(1),
                // Zero or less means no limit.
                false => usize::try_from(range.limit).ok().filter(|limit| *limit > 0),
            };
            pairs.map_or(MAX_REPLY_BYTES, |pairs| pairs.saturating_mul(pair_bytes))
        }
        Some(Request::RequestPut(put)) if put.prev_kv => pair_bytes,
        Some(Request::RequestDeleteRange(delete)) if delete.prev_kv => {
            match delete.range_end.is_empty() {
                true => pair_bytes,
                false => MAX_REPLY_BYTES,
            }
        }
        Some(Request::RequestTxn(child)) => returns(child, pair_bytes),
        Some(Request::RequestPut(_) | Request::RequestDeleteRange(_)) | None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_REQUEST: usize = 1 << 20;
    const PAIR: usize = MAX_REQUEST + PAIR_OVERHEAD_BYTES;

    fn op(request: Request) -> pb::RequestOp {
        pb::RequestOp {
            request: Some(request),
        }
    }

    fn range(end: &'static str, limit: i64) -> pb::RequestOp {
        op(Request::RequestRange(pb::RangeRequest {
            key: "k".into(),
            range_end: end.into(),
            limit,
            ..Default::default()
        }))
    }

    fn delete(end: &'static str, prev_kv: bool) -> pb::RequestOp {
        op(Request::RequestDeleteRange(pb::DeleteRangeRequest {
            key: "k".into(),
            range_end: end.into(),
            prev_kv,
        }))
    }

    fn put(prev_kv: bool) -> pb::RequestOp {
        op(Request::RequestPut(pb::PutRequest {
            prev_kv,
            ..Default::default()
        }))
    }

    fn txn(success: Vec<pb::RequestOp>, failure: Vec<pb::RequestOp>) -> pb::TxnRequest {
        pb::TxnRequest {
            success,
            failure,
            ..Default::default()
        }
    }

    #[test]
    fn limits_and_branches_bound_what_a_transaction_returns() {
        for (request, most) in [
            (txn(vec![put(false), delete("z", false)], vec![]), 0),
            (txn(vec![put(false)], vec![range("", 0)]), PAIR),
            (txn(vec![range("z", 3)], vec![range("", 0)]), 3 * PAIR),
            (txn(vec![put(true), delete("", true)], vec![]), 2 * PAIR),
            (txn(vec![range("z", 0)], vec![]), MAX_REPLY_BYTES),
            (txn(vec![range("z", -1)], vec![]), MAX_REPLY_BYTES),
            (txn(vec![range("z", i64::MAX)], vec![]), MAX_REPLY_BYTES),
            (txn(vec![delete("z", true)], vec![]), MAX_REPLY_BYTES),
        ] {
            assert_eq!(txn_returns(&request, MAX_REQUEST), most, "{request:?}");
            let outer = txn(vec![op(Request::RequestTxn(request.clone()))], vec![]);
            assert_eq!(txn_returns(&outer, MAX_REQUEST), most, "nested {request:?}");
        }
    }
}
