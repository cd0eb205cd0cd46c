//! Transactions: branches, compares, nesting, and the state that their parts see.

use anyhow::{Context, Result, bail};
use etcd_client::{
    Compare, CompareOp, GetOptions, PutOptions, Txn, TxnOp, TxnOpResponse, TxnResponse,
};

use super::{Case, names, shape};
use crate::support::{proto, raw};

const TXN: &str = "/etcdserverpb.KV/Txn";

async fn run(case: &Case, txn: Txn) -> Result<TxnResponse> {
    Ok(case.client.clone().txn(txn).await?)
}

async fn holds(case: &Case, compare: Compare) -> Result<bool> {
    Ok(run(case, Txn::new().when([compare])).await?.succeeded())
}

pub(crate) async fn branches(case: Case) -> Result<()> {
    let (a, b) = (case.key("a"), case.key("b"));
    let txn = || {
        Txn::new()
            .when([Compare::version(a.clone(), CompareOp::Equal, 0)])
            .and_then([
                TxnOp::put(a.clone(), "1", None),
                TxnOp::put(b.clone(), "1", None),
            ])
            .or_else([TxnOp::get(a.clone(), None), TxnOp::delete(b.clone(), None)])
    };
    let then = run(&case, txn()).await?;
    assert!(then.succeeded());
    assert_eq!(then.header().context("a header")?.revision(), case.base + 1);
    let [TxnOpResponse::Put(_), TxnOpResponse::Put(_)] = &then.op_responses()[..] else {
        bail!("two puts, not {then:?}");
    };
    let otherwise = run(&case, txn()).await?;
    assert!(!otherwise.succeeded());
    let [TxnOpResponse::Get(read), TxnOpResponse::Delete(deleted)] = &otherwise.op_responses()[..]
    else {
        bail!("a get and a delete, not {otherwise:?}");
    };
    assert_eq!(
        shape(&read.kvs()[0]),
        (case.base + 1, case.base + 1, 1, 0, &b"1"[..])
    );
    assert_eq!(deleted.deleted(), 1);
    // Without compares the first branch is executed; without operations the response is empty.
    let empty = run(&case, Txn::new()).await?;
    assert!(empty.succeeded() && empty.op_responses().is_empty());
    Ok(())
}

pub(crate) async fn compares(case: Case) -> Result<()> {
    use CompareOp::{Equal, Greater, Less, NotEqual};
    let mut client = case.client.clone();
    let key = case.key("k");
    let lease = client.lease_grant(100, None).await?.id();
    client.put(key.clone(), "b", None).await?;
    client
        .put(key.clone(), "b", Some(PutOptions::new().with_lease(lease)))
        .await?;
    let (created, modified) = (case.base + 1, case.base + 2);
    type Make = fn(&str, CompareOp, i64) -> Compare;
    let numbers: [(Make, i64); 4] = [
        (|key, op, value| Compare::version(key, op, value), 2),
        (
            |key, op, value| Compare::create_revision(key, op, value),
            created,
        ),
        (
            |key, op, value| Compare::mod_revision(key, op, value),
            modified,
        ),
        (|key, op, value| Compare::lease(key, op, value), lease),
    ];
    for (number, (compare, actual)) in numbers.into_iter().enumerate() {
        let truths = [
            (Equal, 0),
            (Greater, -1),
            (Less, 1),
            (NotEqual, 1),
            (NotEqual, -1),
        ];
        for (op, offset) in truths {
            assert!(
                holds(&case, compare(&key, op, actual + offset)).await?,
                "{number} {op:?}"
            );
        }
        for (op, offset) in [(Equal, 1), (Greater, 0), (Less, 0), (NotEqual, 0)] {
            assert!(
                !holds(&case, compare(&key, op, actual + offset)).await?,
                "{number} {op:?}"
            );
        }
    }
    let values = [
        (Equal, "b", true),
        (Equal, "a", false),
        (Greater, "a", true),
        (Greater, "b", false),
        (Less, "ba", true),
        (Less, "b", false),
        (NotEqual, "c", true),
        (NotEqual, "b", false),
    ];
    for (op, value, wanted) in values {
        let compare = Compare::value(key.clone(), op, value);
        assert_eq!(holds(&case, compare).await?, wanted, "value {op:?} {value}");
    }
    client.lease_revoke(lease).await?;
    Ok(())
}

pub(crate) async fn missing_keys_compare_as_zero(case: Case) -> Result<()> {
    let key = case.key("missing");
    let equal = CompareOp::Equal;
    for compare in [
        Compare::version(key.clone(), equal, 0),
        Compare::create_revision(key.clone(), equal, 0),
        Compare::mod_revision(key.clone(), equal, 0),
        Compare::lease(key.clone(), equal, 0),
        Compare::mod_revision(key.clone(), CompareOp::Less, 1),
    ] {
        assert!(holds(&case, compare.clone()).await?, "{compare:?}");
    }
    // A missing key has no value, so every compare of its value fails.
    for op in [
        equal,
        CompareOp::NotEqual,
        CompareOp::Greater,
        CompareOp::Less,
    ] {
        assert!(
            !holds(&case, Compare::value(key.clone(), op, "v")).await?,
            "{op:?}"
        );
    }
    assert!(!holds(&case, Compare::value(key, equal, "")).await?);
    Ok(())
}

pub(crate) async fn range_compares(case: Case) -> Result<()> {
    case.fill(&["a", "b"]).await?;
    let first = case.base + 1;
    let all =
        |op, revision| Compare::create_revision(case.prefix.clone(), op, revision).with_prefix();
    assert!(holds(&case, all(CompareOp::Greater, case.base)).await?);
    // One key that differs is enough.
    assert!(!holds(&case, all(CompareOp::Greater, first)).await?);
    assert!(!holds(&case, all(CompareOp::Equal, first)).await?);
    // The end is exclusive.
    let only_a =
        Compare::create_revision(case.key("a"), CompareOp::Equal, first).with_range(case.key("b"));
    assert!(holds(&case, only_a).await?);
    // An empty range counts as one missing key.
    let none = |op| Compare::version(case.key("x"), op, 0).with_prefix();
    assert!(holds(&case, none(CompareOp::Equal)).await?);
    assert!(!holds(&case, none(CompareOp::Greater)).await?);
    Ok(())
}

pub(crate) async fn nested(case: Case) -> Result<()> {
    let (a, b) = (case.key("a"), case.key("b"));
    case.fill(&["a"]).await?;
    let inner = Txn::new()
        .when([Compare::version(b.clone(), CompareOp::Equal, 0)])
        .and_then([
            TxnOp::put(b.clone(), "1", None),
            TxnOp::get(b.clone(), None),
        ])
        .or_else([TxnOp::get(a.clone(), None)]);
    let outer = Txn::new()
        .when([Compare::value(a.clone(), CompareOp::Equal, "a")])
        .and_then([
            TxnOp::put(a.clone(), "2", None),
            TxnOp::txn(inner),
            TxnOp::get(a.clone(), None),
        ]);
    let done = run(&case, outer).await?;
    let [
        TxnOpResponse::Put(_),
        TxnOpResponse::Txn(inner),
        TxnOpResponse::Get(read),
    ] = &done.op_responses()[..]
    else {
        bail!("put, txn, get, not {done:?}");
    };
    assert!(done.succeeded() && inner.succeeded());
    let [TxnOpResponse::Put(_), TxnOpResponse::Get(inside)] = &inner.op_responses()[..] else {
        bail!("put, get, not {inner:?}");
    };
    // All changes are in one revision.
    let revision = case.base + 2;
    assert_eq!(
        shape(&inside.kvs()[0]),
        (revision, revision, 1, 0, &b"1"[..])
    );
    assert_eq!(
        shape(&read.kvs()[0]),
        (case.base + 1, revision, 2, 0, &b"2"[..])
    );
    assert_eq!(done.header().context("a header")?.revision(), revision);
    Ok(())
}

pub(crate) async fn revisions_inside(case: Case) -> Result<()> {
    let (a, b) = (case.key("a"), case.key("b"));
    let revision = |response: &TxnResponse| response.header().map_or(0, |header| header.revision());
    // Reads alone use no revision, and neither does a deletion that matches nothing.
    let read = Txn::new().and_then([TxnOp::get(a.clone(), None), TxnOp::delete(b.clone(), None)]);
    assert_eq!(revision(&run(&case, read).await?), case.base);
    let both = Txn::new().and_then([
        TxnOp::put(a.clone(), "", None),
        TxnOp::put(b.clone(), "", None),
    ]);
    assert_eq!(revision(&run(&case, both).await?), case.base + 1);
    // Two deletions of the same key are allowed; the second one finds nothing.
    let deletes = Txn::new().and_then([
        TxnOp::delete(a.clone(), None),
        TxnOp::delete(a.clone(), None),
    ]);
    let deleted = run(&case, deletes).await?;
    let counts: Vec<i64> = deleted
        .op_responses()
        .iter()
        .map(|op| {
            if let TxnOpResponse::Delete(one) = op {
                one.deleted()
            } else {
                -1
            }
        })
        .collect();
    assert_eq!((counts, revision(&deleted)), (vec![1, 0], case.base + 2));
    // Old revisions can be read in a transaction.
    let old = GetOptions::new().with_revision(case.base + 1);
    let read = run(&case, Txn::new().and_then([TxnOp::get(a, Some(old))])).await?;
    let [TxnOpResponse::Get(read)] = &read.op_responses()[..] else {
        bail!("a get")
    };
    assert_eq!(read.kvs().len(), 1);
    Ok(())
}

pub(crate) async fn reads_see_earlier_puts(case: Case) -> Result<()> {
    case.fill(&["a", "b"]).await?;
    let prefix = || Some(GetOptions::new().with_prefix());
    let txn = Txn::new().and_then([
        TxnOp::get(case.prefix.clone(), prefix()),
        TxnOp::put(case.key("c"), "", None),
        TxnOp::delete(case.key("a"), None),
        TxnOp::get(case.prefix.clone(), prefix()),
        TxnOp::get(
            case.prefix.clone(),
            Some(GetOptions::new().with_prefix().with_count_only()),
        ),
    ]);
    let done = run(&case, txn).await?;
    let reads: Vec<_> = done
        .op_responses()
        .into_iter()
        .filter_map(|op| {
            if let TxnOpResponse::Get(read) = op {
                Some(read)
            } else {
                None
            }
        })
        .collect();
    assert_eq!(names(reads[0].kvs(), &case)?, ["a", "b"]);
    assert_eq!(
        (names(reads[1].kvs(), &case)?, reads[1].count()),
        (vec!["b", "c"], 2)
    );
    assert_eq!(reads[2].count(), 2);
    Ok(())
}

pub(crate) async fn compares_come_first(case: Case) -> Result<()> {
    // The inner compare is evaluated before the outer put is executed.
    let key = case.key("k");
    let inner = Txn::new()
        .when([Compare::version(key.clone(), CompareOp::Equal, 0)])
        .and_then([TxnOp::put(case.key("saw-nothing"), "", None)])
        .or_else([TxnOp::put(case.key("saw-the-put"), "", None)]);
    let outer = Txn::new().and_then([TxnOp::put(key, "v", None), TxnOp::txn(inner)]);
    assert!(run(&case, outer).await?.succeeded());
    let read = case
        .client
        .clone()
        .get(case.key("saw"), Some(GetOptions::new().with_prefix()))
        .await?;
    assert_eq!(names(read.kvs(), &case)?, ["saw-nothing"]);
    Ok(())
}

/// In a transaction, the headers of puts, ranges and deletions contain only the revision, and the
/// header of a nested transaction is empty.
pub(crate) async fn headers_inside(case: Case) -> Result<()> {
    let put = |name: &str| proto::bytes(2, &proto::bytes(1, case.key(name).as_bytes()));
    let get = proto::bytes(1, &proto::bytes(1, case.key("a").as_bytes()));
    let inner = proto::bytes(4, &proto::bytes(2, &put("b")));
    let request = [put("a"), get, inner]
        .map(|op| proto::bytes(2, &op))
        .concat();
    let answer = raw::call(&case.endpoint, TXN, request).await?;
    let Ok(answer) = answer else {
        bail!("refused: {answer:?}")
    };
    let revision = case.base + 1;
    // Response 3; put 2, range 1, txn 4; header 1; revision 3.
    let parts = proto::bytes_of(&answer, 3);
    let [put, range, txn] = &parts[..] else {
        bail!("three answers, not {parts:?}")
    };
    let only_revision = vec![proto::number(3, revision)];
    assert_eq!(
        proto::bytes_of(&proto::bytes_of(put, 2)[0], 1),
        only_revision
    );
    assert_eq!(
        proto::bytes_of(&proto::bytes_of(range, 1)[0], 1),
        only_revision
    );
    let txn = &proto::bytes_of(txn, 4)[0];
    let header = proto::bytes_of(txn, 1);
    assert!(
        header.is_empty() || header == [Vec::<u8>::new()],
        "an empty header, not {header:?}"
    );
    let inner_put = &proto::bytes_of(&proto::bytes_of(txn, 3)[0], 2)[0];
    assert_eq!(proto::bytes_of(inner_put, 1), only_revision);
    Ok(())
}
