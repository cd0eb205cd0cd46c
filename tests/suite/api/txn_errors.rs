//! Transactions that are refused as a whole.

use anyhow::{Context, Result};
use etcd_client::{DeleteOptions, GetOptions, PutOptions, Txn, TxnOp};
use synod_testkit::{Refused, refused};

use super::Case;
use crate::support::{proto, raw};

async fn refusal(case: &Case, ops: Vec<TxnOp>) -> Result<Refused> {
    refused(case.client.clone().txn(Txn::new().and_then(ops)).await)
}

async fn accepted(case: &Case, ops: Vec<TxnOp>) -> Result<()> {
    case.client.clone().txn(Txn::new().and_then(ops)).await?;
    Ok(())
}

pub(crate) async fn duplicate_keys(case: Case) -> Result<()> {
    let duplicate = Refused::with(
        "InvalidArgument",
        "etcdserver: duplicate key given in txn request",
    );
    let put = |name: &str| TxnOp::put(case.key(name), "", None);
    let delete = |name: &str| TxnOp::delete(case.key(name), None);
    let delete_all = || {
        TxnOp::delete(
            case.prefix.clone(),
            Some(DeleteOptions::new().with_prefix()),
        )
    };
    let child = |then: Vec<TxnOp>, otherwise: Vec<TxnOp>| {
        TxnOp::txn(Txn::new().and_then(then).or_else(otherwise))
    };
    for (why, ops) in [
        ("put, put", vec![put("a"), put("a")]),
        ("put, delete", vec![put("a"), delete("a")]),
        ("delete, put", vec![delete("a"), put("a")]),
        ("put, range delete", vec![put("a"), delete_all()]),
        (
            "put, child's put",
            vec![put("a"), child(vec![put("a")], vec![])],
        ),
        (
            "put, child's other put",
            vec![put("a"), child(vec![], vec![put("a")])],
        ),
        (
            "delete, child's put",
            vec![delete_all(), child(vec![put("a")], vec![])],
        ),
        (
            "put, child's delete",
            vec![put("a"), child(vec![delete("a")], vec![])],
        ),
        (
            "two children",
            vec![child(vec![put("a")], vec![]), child(vec![put("a")], vec![])],
        ),
    ] {
        assert_eq!(refusal(&case, ops).await.context(why)?, duplicate, "{why}");
    }
    for (why, ops) in [
        ("delete, delete", vec![delete("a"), delete_all()]),
        (
            "both branches of a child",
            vec![child(vec![put("a")], vec![put("a")])],
        ),
        ("neighbours", vec![put("a"), delete("b"), put("c")]),
        ("get, put", vec![TxnOp::get(case.key("a"), None), put("a")]),
    ] {
        accepted(&case, ops).await.context(why)?;
    }
    Ok(())
}

pub(crate) async fn too_many_operations(case: Case) -> Result<()> {
    let many = |count: usize| -> Vec<TxnOp> {
        (0..count)
            .map(|number| TxnOp::put(case.key(&number.to_string()), "", None))
            .collect()
    };
    let too_many = Refused::with(
        "InvalidArgument",
        "etcdserver: too many operations in txn request",
    );
    accepted(&case, many(128)).await?;
    assert_eq!(refusal(&case, many(129)).await?, too_many);
    // A child may use the operations that its parent leaves.
    let with_child = |parent: usize, child: usize| {
        let mut ops: Vec<TxnOp> = vec![TxnOp::txn(Txn::new().and_then(many(child)))];
        ops.extend((1..parent).map(|_| TxnOp::get(case.key("x"), None)));
        ops
    };
    accepted(&case, with_child(28, 100)).await?;
    assert_eq!(refusal(&case, with_child(29, 100)).await?, too_many);
    let wide = (0..129)
        .map(|_| etcd_client::Compare::version(case.key("x"), etcd_client::CompareOp::Equal, 0));
    let wide = Txn::new().when(wide.collect::<Vec<_>>());
    assert_eq!(refused(case.client.clone().txn(wide).await)?, too_many);
    Ok(())
}

pub(crate) async fn empty_operation(case: Case) -> Result<()> {
    // An operation in `success` without a request; then one with an empty key.
    let txn = |op: &[u8]| raw::call(&case.endpoint, "/etcdserverpb.KV/Txn", proto::bytes(2, op));
    assert_eq!(
        txn(b"").await?,
        Err(Refused::with(
            "InvalidArgument",
            "etcdserver: key not found"
        ))
    );
    assert_eq!(
        txn(&proto::bytes(2, b"")).await?,
        Err(Refused::with(
            "InvalidArgument",
            "etcdserver: key is not provided"
        ))
    );
    // A sort order that doesn't exist.
    let range = [proto::bytes(1, b"k"), proto::number(5, 9)].concat();
    let range = raw::call(&case.endpoint, "/etcdserverpb.KV/Range", range).await?;
    assert_eq!(
        range,
        Err(Refused::with(
            "InvalidArgument",
            "etcdserver: invalid sort option"
        ))
    );
    Ok(())
}

pub(crate) async fn failures_change_nothing(case: Case) -> Result<()> {
    let good = || TxnOp::put(case.key("good"), "", None);
    let with = |options| TxnOp::put(case.key("missing"), "", Some(options));
    assert_eq!(
        refusal(
            &case,
            vec![good(), with(PutOptions::new().with_ignore_value())]
        )
        .await?,
        Refused::with("InvalidArgument", "etcdserver: key not found")
    );
    assert_eq!(
        refusal(&case, vec![good(), with(PutOptions::new().with_lease(7))]).await?,
        Refused::with("NotFound", "etcdserver: requested lease not found")
    );
    // Checks use the state before the transaction, so a key that it writes itself doesn't count.
    let inner = Txn::new().and_then([with(PutOptions::new().with_ignore_lease())]);
    assert_eq!(
        refusal(&case, vec![good(), TxnOp::txn(inner)]).await?,
        Refused::with("InvalidArgument", "etcdserver: key not found")
    );
    let read = case.client.clone().get(case.key("good"), None).await?;
    assert_eq!(
        (
            read.kvs().len(),
            read.header().context("a header")?.revision()
        ),
        (0, case.base)
    );
    Ok(())
}

pub(crate) async fn bad_revisions(case: Case) -> Result<()> {
    case.fill(&["a", "b", "c"]).await?;
    case.client.clone().compact(case.base + 2, None).await?;
    let at = |revision| {
        vec![
            TxnOp::put(case.key("d"), "", None),
            TxnOp::get(
                case.key("a"),
                Some(GetOptions::new().with_revision(revision)),
            ),
        ]
    };
    let compacted = Refused::with(
        "OutOfRange",
        "etcdserver: mvcc: required revision has been compacted",
    );
    assert_eq!(refusal(&case, at(case.base + 1)).await?, compacted);
    // Outside a transaction a negative revision means the current one. Here it is checked.
    assert_eq!(refusal(&case, at(-1)).await?, compacted);
    assert_eq!(
        refusal(&case, at(case.base + 9)).await?,
        Refused::with(
            "OutOfRange",
            "etcdserver: mvcc: required revision is a future revision"
        )
    );
    accepted(&case, at(case.base + 2)).await
}
