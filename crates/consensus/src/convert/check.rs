//! Checks of requests that need nothing but the request, as etcd makes them before it proposes.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use bytes::Bytes;
use synod_proto::etcd::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
    compare::{CompareResult, CompareTarget},
    range_request::{SortOrder, SortTarget},
    request_op::Request,
};

use crate::error::Error;

/// The most levels of transactions inside a transaction. Protobuf decodes at most 100 nested
/// messages. A level takes two of them, and the log adds one.
const MAX_DEPTH: usize = 16;

/// # Errors
/// An empty key, or an unknown sort order or target.
pub(crate) fn check_range(request: &RangeRequest) -> Result<(), Error> {
    if request.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    if SortOrder::try_from(request.sort_order).is_err()
        || SortTarget::try_from(request.sort_target).is_err()
    {
        return Err(Error::InvalidSortOption);
    }
    Ok(())
}

/// Checks a RangeStream. It supports no filters, and no explicit order but ascending by key.
///
/// # Errors
/// As [`check_range`], or an order or a filter that is not supported.
pub(crate) fn check_range_stream(request: &RangeRequest) -> Result<(), Error> {
    check_range(request)?;
    let default_order = request.sort_order == SortOrder::None as i32
        || (request.sort_target == SortTarget::Key as i32
            && request.sort_order == SortOrder::Ascend as i32);
    if !default_order {
        return Err(Error::RangeStreamUnsupported("custom sort orders"));
    }
    if request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0
    {
        return Err(Error::RangeStreamUnsupported("revision filters"));
    }
    Ok(())
}

/// # Errors
/// An empty key, or a value or lease together with the flag that ignores it.
pub(crate) fn check_put(request: &PutRequest) -> Result<(), Error> {
    if request.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(Error::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Error::LeaseProvided);
    }
    Ok(())
}

/// # Errors
/// An empty key.
pub(crate) fn check_delete(request: &DeleteRangeRequest) -> Result<(), Error> {
    match request.key.is_empty() {
        true => Err(Error::EmptyKey),
        false => Ok(()),
    }
}

/// # Errors
/// Too many operations or levels, an empty operation, or keys that are written twice.
pub(crate) fn check_txn(request: &TxnRequest, max_ops: usize) -> Result<(), Error> {
    check_ops(request, max_ops, 0)?;
    // The number of operations is checked first, as it bounds the cost of finding overlaps.
    written(&request.success)?;
    written(&request.failure)?;
    Ok(())
}

fn check_ops(request: &TxnRequest, max_ops: usize, depth: usize) -> Result<(), Error> {
    let longest = request
        .compare
        .len()
        .max(request.success.len())
        .max(request.failure.len());
    if longest > max_ops {
        return Err(Error::TooManyOps);
    }
    if depth > MAX_DEPTH {
        return Err(Error::TxnTooDeep {
            max_depth: MAX_DEPTH,
        });
    }
    for compare in &request.compare {
        check_compare(compare)?;
    }
    for op in request.success.iter().chain(&request.failure) {
        match &op.request {
            Some(Request::RequestRange(range)) => check_range(range)?,
            Some(Request::RequestPut(put)) => check_put(put)?,
            Some(Request::RequestDeleteRange(delete)) => check_delete(delete)?,
            // A child may have as many operations as its parent leaves.
            Some(Request::RequestTxn(txn)) => check_ops(txn, max_ops - longest, depth + 1)?,
            None => return Err(Error::KeyNotFound),
        }
    }
    Ok(())
}

fn check_compare(compare: &Compare) -> Result<(), Error> {
    if compare.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    CompareResult::try_from(compare.result).map_err(|_| Error::UnknownEnum {
        what: "compare result",
    })?;
    CompareTarget::try_from(compare.target).map_err(|_| Error::UnknownEnum {
        what: "compare target",
    })?;
    Ok(())
}

/// What a list of operations writes, its children's included.
#[derive(Default)]
struct Written {
    puts: HashMap<Bytes, ()>,
    deletes: Intervals,
}

/// Refuses a key that is put twice, or put and deleted. Deletions may overlap. So may the two
/// branches of a child, since only one of them runs.
fn written(ops: &[RequestOp]) -> Result<Written, Error> {
    let mut all = Written::default();
    for op in ops {
        if let Some(Request::RequestDeleteRange(delete)) = &op.request {
            all.deletes.insert(delete.key.clone(), end_of(delete));
        }
    }
    for op in ops {
        let Some(Request::RequestTxn(child)) = &op.request else {
            continue;
        };
        let then = written(&child.success)?;
        let otherwise = written(&child.failure)?;
        for key in then.puts.keys() {
            all.put(key)?;
        }
        for key in otherwise.puts.keys() {
            if then.puts.contains_key(key) {
                continue;
            }
            all.put(key)?;
        }
        all.deletes.extend(then.deletes);
        all.deletes.extend(otherwise.deletes);
    }
    for op in ops {
        if let Some(Request::RequestPut(put)) = &op.request {
            all.put(&put.key)?;
        }
    }
    Ok(all)
}

impl Written {
    fn put(&mut self, key: &Bytes) -> Result<(), Error> {
        if self.deletes.contains(key) || self.puts.insert(key.clone(), ()).is_some() {
            return Err(Error::DuplicateKey);
        }
        Ok(())
    }
}

/// The end of the range that a delete covers. As in etcd's check, a range to the end of all keys
/// ("\0") covers nothing.
fn end_of(delete: &DeleteRangeRequest) -> Bytes {
    if !delete.range_end.is_empty() {
        return delete.range_end.clone();
    }
    let mut end = Vec::with_capacity(delete.key.len() + 1);
    end.extend_from_slice(&delete.key);
    end.push(0);
    end.into()
}

/// Disjoint half-open intervals of keys.
#[derive(Default)]
struct Intervals(BTreeMap<Bytes, Bytes>);

impl Intervals {
    fn insert(&mut self, mut start: Bytes, mut end: Bytes) {
        if start >= end {
            return;
        }
        // An interval merges with this one if they overlap or touch.
        while let Some((s, e)) = self
            .0
            .range::<Bytes, _>((Bound::Unbounded, Bound::Included(&end)))
            .next_back()
            .map(|(s, e)| (s.clone(), e.clone()))
        {
            if e < start {
                break;
            }
            self.0.remove(&s);
            start = start.min(s);
            end = end.max(e);
        }
        self.0.insert(start, end);
    }

    fn contains(&self, key: &Bytes) -> bool {
        self.0
            .range::<Bytes, _>((Bound::Unbounded, Bound::Included(key)))
            .next_back()
            .is_some_and(|(_, end)| key < end)
    }

    fn extend(&mut self, other: Self) {
        for (start, end) in other.0 {
            self.insert(start, end);
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use synod_proto::consensus::v1::{Command, command};

    use super::*;

    fn put(key: &str) -> RequestOp {
        op(Request::RequestPut(PutRequest {
            key: Bytes::copy_from_slice(key.as_bytes()),
            ..Default::default()
        }))
    }

    fn delete(key: &str, end: &str) -> RequestOp {
        op(Request::RequestDeleteRange(DeleteRangeRequest {
            key: Bytes::copy_from_slice(key.as_bytes()),
            range_end: Bytes::copy_from_slice(end.as_bytes()),
            ..Default::default()
        }))
    }

    fn nested(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> RequestOp {
        op(Request::RequestTxn(txn(success, failure)))
    }

    fn op(request: Request) -> RequestOp {
        RequestOp {
            request: Some(request),
        }
    }

    fn txn(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> TxnRequest {
        TxnRequest {
            compare: Vec::new(),
            success,
            failure,
        }
    }

    #[test]
    fn overlapping_writes_are_refused_as_etcd_does() {
        let refused: Vec<(&str, Vec<RequestOp>)> = vec![
            ("put put", vec![put("a"), put("a")]),
            ("put delete", vec![put("a"), delete("a", "")]),
            ("put in deleted range", vec![delete("a", "c"), put("b")]),
            (
                "child's put",
                vec![put("a"), nested(vec![put("a")], vec![])],
            ),
            (
                "child's delete",
                vec![put("b"), nested(vec![], vec![delete("a", "c")])],
            ),
            (
                "two children",
                vec![
                    nested(vec![put("a")], vec![]),
                    nested(vec![], vec![put("a")]),
                ],
            ),
            (
                "a later child's put under an earlier child's delete",
                vec![
                    nested(vec![delete("a", "")], vec![]),
                    nested(vec![put("a")], vec![]),
                ],
            ),
        ];
        for (what, ops) in refused {
            assert_eq!(
                check_txn(&txn(ops, vec![]), 128),
                Err(Error::DuplicateKey),
                "{what}"
            );
        }
        let allowed: Vec<(&str, Vec<RequestOp>)> = vec![
            ("delete delete", vec![delete("a", ""), delete("a", "z")]),
            ("neighbours", vec![delete("a", "b"), put("b")]),
            (
                "then and else",
                vec![nested(vec![put("a")], vec![put("a")])],
            ),
            (
                "children's deletes",
                vec![nested(vec![delete("a", "")], vec![delete("a", "")])],
            ),
        ];
        for (what, ops) in allowed {
            assert_eq!(check_txn(&txn(ops, vec![]), 128), Ok(()), "{what}");
        }
    }

    #[test]
    fn limits_count_the_longest_list_and_leave_the_rest_to_children() {
        let ops = |n: usize| (0..n).map(|i| put(&i.to_string())).collect::<Vec<_>>();
        assert_eq!(check_txn(&txn(ops(4), ops(4)), 4), Ok(()));
        assert_eq!(check_txn(&txn(ops(5), vec![]), 4), Err(Error::TooManyOps));
        let child = |n| txn(vec![nested(ops(n), vec![])], vec![]);
        assert_eq!(check_txn(&child(3), 4), Ok(()));
        assert_eq!(check_txn(&child(4), 4), Err(Error::TooManyOps));
    }

    #[test]
    fn empty_operations_and_keys_are_refused() {
        let empty = RequestOp { request: None };
        assert_eq!(
            check_txn(&txn(vec![empty], vec![]), 9),
            Err(Error::KeyNotFound)
        );
        assert_eq!(
            check_txn(&txn(vec![], vec![put("")]), 9),
            Err(Error::EmptyKey)
        );
    }

    #[test]
    fn the_depth_is_limited_well_below_what_can_be_decoded() {
        let deep = |levels| {
            (0..levels).fold(txn(vec![put("leaf")], vec![]), |child, _| {
                txn(vec![op(Request::RequestTxn(child))], vec![])
            })
        };
        let too_deep = Err(Error::TxnTooDeep {
            max_depth: MAX_DEPTH,
        });
        assert_eq!(check_txn(&deep(MAX_DEPTH), 10_000), Ok(()));
        for levels in [MAX_DEPTH + 1, 49, 50, 200] {
            assert_eq!(check_txn(&deep(levels), 10_000), too_deep, "{levels}");
        }
        // A transaction that passes can be read back from the log.
        let command = Command {
            command: Some(command::Command::Txn(deep(MAX_DEPTH))),
            requester: None,
        };
        assert!(Command::decode(Bytes::from(command.encode_to_vec())).is_ok());
    }

    #[test]
    fn intervals_merge() {
        let mut intervals = Intervals::default();
        let mut insert = |a: &str, b: &str| {
            intervals.insert(
                Bytes::copy_from_slice(a.as_bytes()),
                Bytes::copy_from_slice(b.as_bytes()),
            );
        };
        insert("a", "c");
        insert("e", "g");
        insert("x", "b");
        insert("b", "f");
        assert_eq!(intervals.0.len(), 1);
        assert!(intervals.contains(&Bytes::from_static(b"d")));
        assert!(!intervals.contains(&Bytes::from_static(b"g")));
    }
}
