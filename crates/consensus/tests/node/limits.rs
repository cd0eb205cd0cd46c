//! Limits: size, operations, space.

use std::time::Duration;

use etcd_client::{AlarmAction, AlarmType, DeleteOptions, GetOptions, Txn, TxnOp};
use synod_consensus::Node;
use synod_proto::etcd::etcdserverpb as pb;
use synod_runtime::clock;
use tonic::Code;

use crate::support::{Cluster, SOON, again, client, config, eventually, raw_kv, status};

#[tokio::test]
async fn requests_that_are_too_large_are_refused_by_name() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0).await;
    client.put("k", vec![0_u8; 1_500_000], None).await.unwrap();
    for bytes in [1_600_000, 2 << 20, 3 << 20] {
        let (code, text) = status(client.put("k", vec![0_u8; bytes], None).await);
        assert_eq!(
            (code, &*text),
            (Code::InvalidArgument, "etcdserver: request is too large"),
            "{bytes}"
        );
    }
    let (code, text) = status(client.put("", "v", None).await);
    assert_eq!(
        (code, &*text),
        (Code::InvalidArgument, "etcdserver: key is not provided")
    );
    let (_, text) = status(client.put(vec![b'k'; 40_000], "v", None).await);
    assert_eq!(text, "etcdserver: request is too large");
    let ops: Vec<_> = (0..129)
        .map(|n| TxnOp::put(n.to_string(), "v", None))
        .collect();
    let (code, text) = status(client.txn(Txn::new().and_then(ops)).await);
    assert_eq!(
        (code, &*text),
        (
            Code::InvalidArgument,
            "etcdserver: too many operations in txn request"
        )
    );
    cluster.stop().await;
}

#[tokio::test]
async fn a_full_quota_stops_writes_until_there_is_space_again() {
    let cluster = Cluster::start_with(1, |config| config.quota_bytes = 52 << 10).await;
    let mut client = cluster.client(0).await;
    let mut refused = None;
    for n in 0..200 {
        if let Err(error) = client.put(format!("k{n:03}"), vec![7_u8; 1000], None).await {
            refused = Some((n, error.to_string()));
            break;
        }
    }
    let (written, text) = refused.unwrap();
    assert!(
        written > 30 && text.contains("etcdserver: mvcc: database space exceeded"),
        "{written}: {text}"
    );
    let alarms = client
        .alarm(AlarmAction::Get, AlarmType::None, None)
        .await
        .unwrap();
    assert_eq!(
        alarms.alarms()[0].member_id(),
        cluster.nodes[0].member_id().get()
    );
    let put = client.put("small", "v", None).await;
    assert_eq!(
        status(put),
        (
            Code::ResourceExhausted,
            "etcdserver: mvcc: database space exceeded".into()
        )
    );
    assert_eq!(
        status(client.lease_grant(60, None).await).0,
        Code::ResourceExhausted
    );
    let txn = Txn::new().and_then(vec![TxnOp::put("t", "v", None)]);
    assert_eq!(status(client.txn(txn).await).0, Code::ResourceExhausted);

    // Deleting and compacting are allowed, and free space; the alarm goes by itself.
    let options = DeleteOptions::new().with_prefix();
    let revision = client
        .delete("k", Some(options))
        .await
        .unwrap()
        .header()
        .unwrap()
        .revision();
    client.compact(revision, None).await.unwrap();
    eventually("the alarm to go", || {
        let mut client = client.clone();
        async move { client.put("small", "v", None).await.ok().map(drop) }
    })
    .await;
    let alarms = client
        .alarm(AlarmAction::Get, AlarmType::None, None)
        .await
        .unwrap();
    assert!(alarms.alarms().is_empty());
    cluster.stop().await;
}

#[tokio::test]
async fn the_history_is_compacted_as_configured() {
    let cluster = Cluster::start_with(1, |config| {
        config.auto_compaction =
            synod_consensus::AutoCompaction::Periodic(Duration::from_millis(300));
    })
    .await;
    let mut client = cluster.client(0).await;
    for n in 0..20 {
        client.put("k", n.to_string(), None).await.unwrap();
    }
    eventually("the past to be compacted", || {
        let mut client = client.clone();
        async move {
            let options = GetOptions::new().with_revision(5);
            client.get("k", Some(options)).await.err().map(|error| {
                assert!(error.to_string().contains("compacted"), "{error}");
            })
        }
    })
    .await;
    cluster.stop().await;
}

/// A put below `levels` transactions.
fn nested(levels: usize) -> Txn {
    (0..levels).fold(
        Txn::new().and_then(vec![TxnOp::put("leaf", "v", None)]),
        |child, _| Txn::new().and_then(vec![TxnOp::txn(child)]),
    )
}

#[tokio::test]
async fn deeply_nested_transactions_are_refused_and_stop_no_member() {
    let dir = tempfile::tempdir().unwrap();
    let config = config("a", dir.path());
    let next = again(&config);
    let node = Node::start(config).await.unwrap();
    node.ready(SOON).await.unwrap();
    let mut first = client(&node).await;
    first.txn(nested(16)).await.unwrap();
    for levels in [17, 31, 32, 33, 48, 49, 50, 60] {
        let (code, text) = status(first.txn(nested(levels)).await);
        // From about 50 levels on, gRPC's decoding refuses first.
        let ours = code == Code::InvalidArgument && text.contains("at most 16 levels");
        assert!(ours || levels >= 49, "{levels}: {code:?} {text}");
        first.put("after", "v", None).await.unwrap();
    }
    node.shutdown().await;
    let node = Node::start(next).await.unwrap();
    node.ready(SOON).await.unwrap();
    let got = client(&node).await.get("leaf", None).await.unwrap();
    assert_eq!(got.count(), 1);
    node.shutdown().await;
}

#[tokio::test]
async fn backups_that_nobody_reads_hold_up_no_read_and_are_bounded() {
    let cluster = Cluster::start(1).await;
    let mut writer = cluster.client(0).await;
    for n in 0..100 {
        let value = vec![7_u8; 100_000];
        writer.put(format!("k{n}"), value, None).await.unwrap();
    }
    // A connection each: what is not read fills it.
    let mut unread = Vec::new();
    for _ in 0..8 {
        let mut client = cluster.client(0).await;
        let backup = client.snapshot().await.unwrap();
        unread.push((client, backup));
    }
    let mut reader = cluster.client(0).await;
    let hash = clock::timeout(SOON, reader.hash()).await;
    hash.expect("a long read waits for a backup").unwrap();
    let refused = match reader.snapshot().await {
        Ok(mut stream) => stream.message().await.map(|_| ()),
        Err(error) => Err(error),
    };
    assert_eq!(status(refused).0, Code::ResourceExhausted);
    let (_client, mut backup) = unread.pop().unwrap();
    let mut bytes = 0;
    while let Some(response) = backup.message().await.unwrap() {
        bytes += response.blob().len();
    }
    assert!(bytes > 10_000_000, "{bytes}");
    // Its place is free again.
    eventually("a place for a backup", || async {
        let mut stream = reader.clone().snapshot().await.ok()?;
        stream.message().await.ok()?.map(|_| ())
    })
    .await;
    drop(unread);
    cluster.stop().await;
}

#[tokio::test]
async fn large_responses_share_a_budget_and_small_requests_go_on() {
    // Room for one stream of a range, or for a range of 4.5 MiB.
    let cluster = Cluster::start_with(1, |config| {
        config.response_budget_bytes = 8 * config.max_request_bytes;
    })
    .await;
    let mut client = cluster.client(0).await;
    for n in 0..40 {
        let key = format!("k{n:02}");
        client.put(key, vec![7_u8; 256 << 10], None).await.unwrap();
    }
    let all = || GetOptions::new().with_prefix();
    let (code, text) = status(client.get("k", Some(all())).await);
    assert_eq!(code, Code::ResourceExhausted);
    assert!(
        text.contains("is larger than") && text.contains("RangeStream"),
        "{text}"
    );
    let txn = Txn::new().and_then(vec![TxnOp::get("k", Some(all()))]);
    assert_eq!(status(client.txn(txn).await).0, Code::ResourceExhausted);
    // Nobody reads this one.
    let mut streaming = raw_kv(&cluster.nodes[0]).await;
    let request = pb::RangeRequest {
        key: "k".into(),
        range_end: "l".into(),
        ..Default::default()
    };
    let mut waiting = raw_kv(&cluster.nodes[0]).await;
    let limited = |timeout: Duration| {
        let mut request = tonic::Request::new(pb::RangeRequest {
            // More than is tried without being measured.
            limit: 17,
            ..request.clone()
        });
        request.set_timeout(timeout);
        request
    };
    let half = waiting.range(limited(SOON)).await.unwrap();
    assert_eq!(half.into_inner().kvs.len(), 17);
    let unread = streaming.range_stream(request.clone()).await.unwrap();
    let refused = waiting.range(limited(Duration::from_millis(300))).await;
    let refused = refused.unwrap_err();
    // Either side may notice first that the time is over.
    let codes = [
        Code::ResourceExhausted,
        Code::DeadlineExceeded,
        Code::Cancelled,
    ];
    assert!(codes.contains(&refused.code()), "{refused}");
    // A write that returns much waits too, before anything is done.
    let mut delete = tonic::Request::new(pb::DeleteRangeRequest {
        key: "k".into(),
        range_end: "l".into(),
        prev_kv: true,
    });
    delete.set_timeout(Duration::from_millis(300));
    waiting.delete_range(delete).await.unwrap_err();
    // Small requests go on.
    client.put("small", "v", None).await.unwrap();
    let small = client.get("k00", None).await.unwrap();
    assert_eq!(small.kvs()[0].value().len(), 256 << 10);
    let count = GetOptions::new().with_prefix().with_count_only();
    assert_eq!(client.get("k", Some(count)).await.unwrap().count(), 40);

    let late = waiting.range(limited(SOON));
    let (late, ()) = tokio::join!(late, async { drop((unread, streaming)) });
    assert_eq!(late.unwrap().into_inner().kvs.len(), 17);
    cluster.stop().await;
}

#[tokio::test]
async fn what_a_write_returns_is_bounded_and_a_refused_one_has_no_effect() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0).await;
    for n in 0..34 {
        let key = format!("k{n:02}");
        client.put(key, vec![7_u8; 1 << 20], None).await.unwrap();
    }
    eventually("the feature level that bounds them", || async {
        (cluster.nodes[0].feature_level() >= 1).then_some(())
    })
    .await;
    let revision = |response: Option<&etcd_client::ResponseHeader>| response.unwrap().revision();
    let before = revision(client.get("k00", None).await.unwrap().header());
    let all = || DeleteOptions::new().with_prefix().with_prev_key();
    let everything = GetOptions::new().with_prefix();
    let txn = Txn::new().and_then(vec![
        TxnOp::put("x", "v", None),
        TxnOp::get("k", Some(everything)),
    ]);
    let delete = Txn::new().and_then(vec![
        TxnOp::put("x", "v", None),
        TxnOp::delete("k", Some(all())),
    ]);
    for refused in [
        status(client.delete("k", Some(all())).await),
        status(client.txn(txn).await),
        status(client.txn(delete).await),
    ] {
        assert_eq!(refused.0, Code::ResourceExhausted, "{refused:?}");
        assert!(refused.1.contains("return fewer pairs"), "{refused:?}");
    }
    let after = client.get("x", None).await.unwrap();
    assert_eq!((after.count(), revision(after.header())), (0, before));
    // Without the pairs it is no matter of size.
    let options = DeleteOptions::new().with_prefix();
    assert_eq!(
        client.delete("k", Some(options)).await.unwrap().deleted(),
        34
    );
    cluster.stop().await;
}
