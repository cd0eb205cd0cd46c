//! Random operations and queries.

use bytes::Bytes;
use proptest::prelude::*;
use synod_mvcc::{KeyRange, LeaseId, RangeQuery, Revision, RevisionBounds, SortOrder, SortTarget};

#[derive(Clone, Debug)]
pub(crate) enum Op {
    Txn(Vec<Change>),
    /// Compact at this fraction of the current revision, in thousandths.
    Compact(u16),
    Sweep(usize),
    /// With `interrupted_after`, the process ends after this many engine writes.
    DeleteLarge {
        range: KeyRange,
        interrupted_after: Option<usize>,
    },
    Commit,
    Reopen,
}

#[derive(Clone, Debug)]
pub(crate) enum Change {
    Put(Bytes, Bytes, LeaseId),
    Delete(KeyRange),
    Range(RangeQuery),
}

/// A query at a fraction of the current revision, in thousandths. A fraction above 1 is a future
/// revision.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    query: RangeQuery,
    permille: Option<u16>,
}

impl Query {
    pub(crate) fn at(&self, current: i64) -> RangeQuery {
        let at = |permille: u16| Revision::new((current * i64::from(permille) + 999) / 1000);
        RangeQuery {
            revision: self.permille.map(at),
            ..self.query.clone()
        }
    }
}

fn key() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        4 => (0_u8..12).prop_map(|n| Bytes::from(format!("k{n}"))),
        1 => prop::sample::select(vec![&b"\0"[..], b"\0\0", b"a", b"a\0", b"a\0\xff", b"\xff"])
            .prop_map(Bytes::from_static),
    ]
}

fn range() -> impl Strategy<Value = KeyRange> {
    prop_oneof![
        3 => key().prop_map(KeyRange::One),
        3 => (key(), key()).prop_map(|(start, end)| KeyRange::Span { start, end: Some(end) }),
        2 => Just(KeyRange::all()),
        1 => Just(KeyRange::prefix(Bytes::from_static(b"k1"))),
        1 => key().prop_map(|start| KeyRange::Span { start, end: None }),
    ]
}

fn bounds() -> impl Strategy<Value = RevisionBounds> {
    let bound = || prop_oneof![3 => Just(0_i64), 1 => 1_i64..30];
    (bound(), bound()).prop_map(|(min, max)| RevisionBounds {
        min: Revision::new(min),
        max: Revision::new(max),
    })
}

fn range_query() -> impl Strategy<Value = RangeQuery> {
    let target = prop::sample::select(vec![
        SortTarget::Key,
        SortTarget::Key,
        SortTarget::Key,
        SortTarget::Version,
        SortTarget::Create,
        SortTarget::Mod,
        SortTarget::Value,
    ]);
    let order = prop::sample::select(vec![SortOrder::None, SortOrder::Ascend, SortOrder::Descend]);
    let filters = prop_oneof![
        3 => Just((RevisionBounds::default(), RevisionBounds::default())),
        1 => (bounds(), bounds()),
    ];
    let flags = (prop::bool::weighted(0.2), prop::bool::weighted(0.15));
    (range(), 0_usize..6, target, order, filters, flags).prop_map(
        |(range, limit, target, order, (modified, created), (keys_only, count_only))| RangeQuery {
            limit,
            target,
            order,
            modified,
            created,
            keys_only,
            count_only,
            ..RangeQuery::new(range)
        },
    )
}

pub(crate) fn query() -> impl Strategy<Value = Query> {
    let permille = prop::option::of(0_u16..1_050);
    (range_query(), permille).prop_map(|(query, permille)| Query { query, permille })
}

fn change() -> impl Strategy<Value = Change> {
    let value = prop::sample::select(vec!["", "v", "w", "a longer value than the others"]);
    let lease = prop_oneof![2 => Just(0_i64), 1 => 1_i64..4];
    prop_oneof![
        6 => (key(), value, lease).prop_map(|(key, value, lease)| {
            Change::Put(key, Bytes::from_static(value.as_bytes()), LeaseId::new(lease))
        }),
        2 => range().prop_map(Change::Delete),
        1 => range_query().prop_map(Change::Range),
    ]
}

/// Changes to distinct keys: etcd forbids changing a key twice in a transaction.
fn changes() -> impl Strategy<Value = Vec<Change>> {
    prop::collection::vec(change(), 1..6).prop_map(|changes| {
        let mut put: Vec<Bytes> = Vec::new();
        let mut deleted: Vec<KeyRange> = Vec::new();
        let mut kept = Vec::new();
        for change in changes {
            let fits = match &change {
                Change::Put(key, ..) => {
                    !put.contains(key) && !deleted.iter().any(|range| range.contains(key))
                }
                Change::Delete(range) => !put.iter().any(|key| range.contains(key)),
                Change::Range(_) => true,
            };
            if fits {
                match &change {
                    Change::Put(key, ..) => put.push(key.clone()),
                    Change::Delete(range) => deleted.push(range.clone()),
                    Change::Range(_) => {}
                }
                kept.push(change);
            }
        }
        kept
    })
}

pub(crate) fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => changes().prop_map(Op::Txn),
        1 => (0_u16..=1_000).prop_map(Op::Compact),
        2 => (1_usize..8).prop_map(Op::Sweep),
        1 => (range(), prop::option::of(0_usize..6)).prop_map(|(range, interrupted_after)| {
            Op::DeleteLarge { range, interrupted_after }
        }),
        5 => Just(Op::Commit),
        1 => Just(Op::Reopen),
    ]
}
