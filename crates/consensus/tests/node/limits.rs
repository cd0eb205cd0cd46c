//! Limits of size, operations, space and memory.

use std::time::Duration;

use etcd_client::{AlarmAction, AlarmType, DeleteOptions, GetOptions, Txn, TxnOp};
use synod_consensus::Node;
use synod_proto::etcd::etcdserverpb as pb;
use synod_proto::status::NOT_DONE;
use synod_runtime::clock;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::http;
use crate::support::{Cluster, SOON, Unread, again, client, config, eventually, raw_kv, status};

#[tokio::test]
async fn requests_that_are_too_large_are_refused_with_etcds_error() {
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

    // Deleting and compacting are allowed. They free space, and the alarm is disarmed.
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
        config.auto_compaction = synod_service::Retention::Period(Duration::from_millis(300));
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
        // From about 50 levels on, the decoder of gRPC refuses the request first.
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
    // A connection each, since unread responses fill it.
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
    // Its permit is free again.
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
    // There is room for one stream of a range, or for a range of 4.5 MiB.
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
    // This response is not read.
    let mut streaming = raw_kv(&cluster.nodes[0]).await;
    let request = pb::RangeRequest {
        key: "k".into(),
        range_end: "l".into(),
        ..Default::default()
    };
    let mut waiting = raw_kv(&cluster.nodes[0]).await;
    let limited = |timeout: Duration| {
        let mut request = tonic::Request::new(pb::RangeRequest {
            // More than the first attempt reads.
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
    // Client or server may notice the timeout first.
    let codes = [
        Code::ResourceExhausted,
        Code::DeadlineExceeded,
        Code::Cancelled,
    ];
    assert!(codes.contains(&refused.code()), "{refused}");
    // A write that may return much waits too, before it is proposed.
    let mut delete = tonic::Request::new(pb::DeleteRangeRequest {
        key: "k".into(),
        range_end: "l".into(),
        prev_kv: true,
    });
    delete.set_timeout(Duration::from_millis(300));
    waiting.delete_range(delete).await.unwrap_err();
    // Small requests need not wait.
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
    let delete = |options| {
        Txn::new().and_then(vec![
            TxnOp::put("x", "v", None),
            TxnOp::delete("k", Some(options)),
        ])
    };
    let unreturned = DeleteOptions::new().with_prefix();
    let (returns, deletes) = ("return fewer pairs", "the request deletes more than");
    for (refused, why) in [
        (status(client.delete("k", Some(all())).await), returns),
        (status(client.txn(txn).await), returns),
        (status(client.txn(delete(all())).await), returns),
        (status(client.txn(delete(unreturned)).await), deletes),
    ] {
        assert_eq!(refused.0, Code::ResourceExhausted, "{refused:?}");
        assert!(refused.1.contains(why), "{refused:?}");
    }
    let after = client.get("x", None).await.unwrap();
    assert_eq!((after.count(), revision(after.header())), (0, before));
    // Without the pairs the size does not matter.
    let options = DeleteOptions::new().with_prefix();
    assert_eq!(
        client.delete("k", Some(options)).await.unwrap().deleted(),
        34
    );
    cluster.stop().await;
}

fn op(request: pb::request_op::Request) -> pb::RequestOp {
    pb::RequestOp {
        request: Some(request),
    }
}

/// A write that returns what it reads.
fn put_and_read(key: &'static str, range_end: &'static str, limit: i64) -> pb::TxnRequest {
    use pb::request_op::Request;
    let put = Request::RequestPut(pb::PutRequest {
        key: "x".into(),
        ..Default::default()
    });
    let range = Request::RequestRange(pb::RangeRequest {
        key: key.into(),
        range_end: range_end.into(),
        limit,
        ..Default::default()
    });
    pb::TxnRequest {
        success: vec![op(put), op(range)],
        ..Default::default()
    }
}

/// Up to `limit` keys from "k" to "l", with a timeout.
fn range(limit: i64, timeout: Duration) -> tonic::Request<pb::RangeRequest> {
    let mut request = tonic::Request::new(pb::RangeRequest {
        key: "k".into(),
        range_end: "l".into(),
        limit,
        ..Default::default()
    });
    request.set_timeout(timeout);
    request
}

const A_MOMENT: Duration = Duration::from_millis(300);

#[tokio::test]
async fn unread_responses_of_writes_stop_other_writes_that_return_something() {
    // 1.5 MiB of it are for writes.
    let cluster = Cluster::start_with(1, |config| {
        config.response_budget_bytes = 8 * config.max_request_bytes;
    })
    .await;
    let mut client = cluster.client(0).await;
    client.put("k", vec![7_u8; 1 << 20], None).await.unwrap();
    let mut unread = Unread::connect(&cluster.nodes[0]).await;
    for _ in 0..4 {
        unread.call("KV/Txn", &put_and_read("k", "", 0)).await;
    }
    let mut writer = raw_kv(&cluster.nodes[0]).await;
    let before = client.get("x", None).await.unwrap();
    let with_previous = pb::PutRequest {
        key: "x".into(),
        prev_kv: true,
        ..Default::default()
    };
    let delete = pb::DeleteRangeRequest {
        key: "x".into(),
        prev_kv: true,
        ..Default::default()
    };
    for refused in [
        writer.put(with_previous.clone()).await.map(drop),
        writer.delete_range(delete).await.map(drop),
        writer.txn(put_and_read("k", "", 0)).await.map(drop),
        writer.txn(put_and_read("k", "l", 1)).await.map(drop),
    ] {
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
        let info = refused.get_details_error_info().unwrap();
        assert_eq!(info.reason, NOT_DONE);
    }
    let after = client.get("x", None).await.unwrap();
    assert_eq!(after.kvs()[0].version(), before.kvs()[0].version());
    // Writes that return nothing go on. The others do once the responses are gone.
    client.put("x", "v", None).await.unwrap();
    let txn = Txn::new().and_then(vec![TxnOp::put("x", "w", None)]);
    client.txn(txn).await.unwrap();
    drop(unread);
    let put = eventually("room for what a write returns", || {
        let mut writer = writer.clone();
        let put = with_previous.clone();
        async move { writer.put(put).await.ok() }
    })
    .await;
    assert!(put.into_inner().prev_kv.is_some());
    cluster.stop().await;
}

#[tokio::test]
async fn slow_readers_of_ranges_do_not_stop_transactions() {
    // 48 MiB of it are for ranges, and 8 for writes.
    let cluster = Cluster::start_with(1, |config| config.response_budget_bytes = 64 << 20).await;
    let mut client = cluster.client(0).await;
    for n in 0..10 {
        let key = format!("k{n}");
        client.put(key, vec![7_u8; 1 << 20], None).await.unwrap();
    }
    let mut unread = Unread::connect(&cluster.nodes[0]).await;
    for _ in 0..5 {
        let all = range(0, SOON).into_inner();
        unread.call("KV/RangeStream", &all).await;
    }
    let kv = raw_kv(&cluster.nodes[0]).await;
    kv.clone().range(range(10, A_MOMENT)).await.unwrap_err();
    let writes = (0..12).map(|_| {
        let mut kv = kv.clone();
        async move { kv.txn(put_and_read("k", "l", 1)).await }
    });
    for answer in futures::future::join_all(writes).await {
        assert!(answer.unwrap().into_inner().succeeded);
    }
    drop(unread);
    cluster.stop().await;
}

#[tokio::test]
async fn a_get_of_a_large_value_waits_for_other_gets_and_not_for_ranges() {
    // 9 MiB of it are for ranges: one stream. 1.5 MiB are for gets: one such value.
    let cluster = Cluster::start_with(1, |config| {
        config.response_budget_bytes = 8 * config.max_request_bytes;
    })
    .await;
    let mut client = cluster.client(0).await;
    client.put("k", vec![7_u8; 700 << 10], None).await.unwrap();
    let mut unread_range = Unread::connect(&cluster.nodes[0]).await;
    let all = range(0, SOON).into_inner();
    unread_range.call("KV/RangeStream", &all).await;
    let get = |timeout| {
        let mut request = range(0, timeout);
        request.get_mut().range_end.clear();
        request
    };
    let mut unread_get = Unread::connect(&cluster.nodes[0]).await;
    unread_get.call("KV/Range", get(SOON).get_ref()).await;
    let mut kv = raw_kv(&cluster.nodes[0]).await;
    kv.range(get(A_MOMENT)).await.unwrap_err();
    let late = kv.range(get(SOON));
    let leaving = async {
        clock::sleep(A_MOMENT).await;
        drop(unread_get);
    };
    let (late, ()) = tokio::join!(late, leaving);
    assert_eq!(late.unwrap().into_inner().kvs.len(), 1);
    drop(unread_range);
    cluster.stop().await;
}

#[tokio::test]
async fn lists_of_leases_and_of_their_keys_are_counted() {
    let cluster = Cluster::start(1).await;
    let address = cluster.nodes[0].client_addresses()[0];
    let held = async || {
        let (_, metrics) = http::get(address, "/metrics").await;
        let name = "synod_response_budget_held_bytes ";
        let value = metrics.lines().find_map(|line| line.strip_prefix(name));
        value.unwrap().parse::<u64>().unwrap()
    };
    let mut client = cluster.client(0).await;
    let lease = client.lease_grant(600, None).await.unwrap().id();
    let puts = (0..200).map(|n| {
        let mut client = client.clone();
        let options = etcd_client::PutOptions::new().with_lease(lease);
        async move { client.put(format!("{n:0>100}"), "v", Some(options)).await }
    });
    futures::future::try_join_all(puts).await.unwrap();
    let grants = (0..2_000).map(|_| {
        let mut client = client.clone();
        async move { client.lease_grant(600, None).await }
    });
    futures::future::try_join_all(grants).await.unwrap();
    assert_eq!(held().await, 0);
    let keys = pb::LeaseTimeToLiveRequest {
        id: lease,
        keys: true,
    };
    let mut unread = Unread::connect(&cluster.nodes[0]).await;
    unread.call("Lease/LeaseTimeToLive", &keys).await;
    let of_keys = held().await;
    assert!(of_keys > 20_000, "{of_keys}");
    let list = pb::LeaseLeasesRequest::default();
    unread.call("Lease/LeaseLeases", &list).await;
    let of_both = held().await;
    assert!(of_both > of_keys + 20_000, "{of_both}");
    drop(unread);
    eventually("all room to be free", || async {
        (held().await == 0).then_some(())
    })
    .await;
    cluster.stop().await;
}

#[tokio::test]
async fn a_connection_has_as_many_concurrent_streams_as_configured() {
    let status = pb::StatusRequest::default();
    for (chosen, expected) in [(None, 4_096), (Some(7), 7)] {
        let cluster = Cluster::start_with(1, |config| {
            config.max_concurrent_streams = chosen.unwrap_or(config.max_concurrent_streams);
        })
        .await;
        let mut client = Unread::connect(&cluster.nodes[0]).await;
        client.call("Maintenance/Status", &status).await;
        assert_eq!(client.max_streams(), expected);
        drop(client);
        cluster.stop().await;
    }
}

#[tokio::test]
async fn a_put_whose_alarm_cannot_be_raised_is_certainly_not_done() {
    let mut cluster = Cluster::start_with(3, |config| config.quota_bytes = 52 << 10).await;
    let mut client = cluster.client(0).await;
    client.put("k", vec![7_u8; 30_000], None).await.unwrap();
    for _ in 0..2 {
        cluster.nodes.pop().unwrap().shutdown().await;
    }
    let (code, text) = status(client.put("l", vec![7_u8; 30_000], None).await);
    assert_eq!(
        (code, &*text),
        (
            Code::ResourceExhausted,
            "etcdserver: mvcc: database space exceeded"
        )
    );
    cluster.stop().await;
}
