//! Converts requests of the etcd API into queries of the keyspace. `check` holds the checks that
//! need only the request.

mod check;

use bytes::Bytes;
use synod_mvcc::{
    Compare, CompareOp, CompareTarget, KeyRange, LeaseId, RangeQuery, Revision, RevisionBounds,
    SortOrder, SortTarget,
};
use synod_proto::etcd::etcdserverpb::{
    self as pb, compare::CompareResult, compare::CompareTarget as WireTarget, compare::TargetUnion,
    range_request,
};

pub(crate) use check::{check_delete, check_put, check_range, check_range_stream, check_txn};

/// The query of a checked range request.
pub(crate) fn range_query(request: &pb::RangeRequest) -> RangeQuery {
    let mut query = RangeQuery::new(key_range(&request.key, &request.range_end));
    query.revision = (request.revision > 0).then(|| Revision::new(request.revision));
    query.limit = limit(request.limit);
    query.target = match range_request::SortTarget::try_from(request.sort_target) {
        Ok(range_request::SortTarget::Version) => SortTarget::Version,
        Ok(range_request::SortTarget::Create) => SortTarget::Create,
        Ok(range_request::SortTarget::Mod) => SortTarget::Mod,
        Ok(range_request::SortTarget::Value) => SortTarget::Value,
        Ok(range_request::SortTarget::Key) | Err(_) => SortTarget::Key,
    };
    query.order = match range_request::SortOrder::try_from(request.sort_order) {
        Ok(range_request::SortOrder::Ascend) => SortOrder::Ascend,
        Ok(range_request::SortOrder::Descend) => SortOrder::Descend,
        Ok(range_request::SortOrder::None) | Err(_) => SortOrder::None,
    };
    query.keys_only = request.keys_only;
    query.count_only = request.count_only;
    query.modified = bounds(request.min_mod_revision, request.max_mod_revision);
    query.created = bounds(request.min_create_revision, request.max_create_revision);
    query
}

/// The range of etcd's pair of key and range end.
pub(crate) fn key_range(key: &Bytes, range_end: &Bytes) -> KeyRange {
    KeyRange::from_wire(key.clone(), range_end.clone())
}

/// The condition of a checked comparison. An operand that is missing, or does not fit the target,
/// counts as zero or empty.
pub(crate) fn compare(wire: &pb::Compare) -> Compare {
    macro_rules! operand {
        ($kind:ident) => {
            match wire.target_union.clone() {
                Some(TargetUnion::$kind(operand)) => operand,
                Some(_) | None => Default::default(),
            }
        };
    }
    let target = match WireTarget::try_from(wire.target) {
        Ok(WireTarget::Create) => CompareTarget::Create(Revision::new(operand!(CreateRevision))),
        Ok(WireTarget::Mod) => CompareTarget::Mod(Revision::new(operand!(ModRevision))),
        Ok(WireTarget::Lease) => CompareTarget::Lease(LeaseId::new(operand!(Lease))),
        Ok(WireTarget::Value) => CompareTarget::Value(operand!(Value)),
        Ok(WireTarget::Version) | Err(_) => CompareTarget::Version(operand!(Version)),
    };
    let op = match CompareResult::try_from(wire.result) {
        Ok(CompareResult::Greater) => CompareOp::Greater,
        Ok(CompareResult::Less) => CompareOp::Less,
        Ok(CompareResult::NotEqual) => CompareOp::NotEqual,
        Ok(CompareResult::Equal) | Err(_) => CompareOp::Equal,
    };
    Compare {
        range: key_range(&wire.key, &wire.range_end),
        target,
        op,
    }
}

fn bounds(min: i64, max: i64) -> RevisionBounds {
    RevisionBounds {
        min: Revision::new(min),
        max: Revision::new(max),
    }
}

/// Zero or less means no limit.
fn limit(wire: i64) -> usize {
    usize::try_from(wire).unwrap_or(0)
}
