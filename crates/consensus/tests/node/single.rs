//! etcd's API on one node.

use etcd_client::{
    Compare, CompareOp, DeleteOptions, GetOptions, PutOptions, SortOrder, SortTarget, Txn, TxnOp,
    TxnOpResponse,
};
use synod_consensus::Node;
use tonic::Code;

use crate::support::{Cluster, SOON, again, client, config, eventually, status};

#[tokio::test]
async fn keys_are_put_read_and_deleted_under_revisions() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0).await;
    let put = client.put("k", "1", None).await.unwrap();
    let header = put.header().unwrap();
    assert_eq!(header.revision(), 2);
    assert_eq!(header.member_id(), cluster.nodes[0].member_id().get());
    assert!(header.cluster_id() != 0 && header.raft_term() >= 2);
    let options = PutOptions::new().with_prev_key();
    let put = client.put("k", "2", Some(options)).await.unwrap();
    assert_eq!(put.prev_key().unwrap().value(), b"1");
    let got = client.get("k", None).await.unwrap();
    let kv = &got.kvs()[0];
    assert_eq!(
        (
            kv.value(),
            kv.create_revision(),
            kv.mod_revision(),
            kv.version()
        ),
        (&b"2"[..], 2, 3, 2)
    );
    let old = client
        .get("k", Some(GetOptions::new().with_revision(2)))
        .await
        .unwrap();
    assert_eq!(old.kvs()[0].value(), b"1");
    assert_eq!(old.header().unwrap().revision(), 3);
    let options = DeleteOptions::new().with_prev_key();
    let deleted = client.delete("k", Some(options)).await.unwrap();
    assert_eq!(
        (deleted.deleted(), deleted.header().unwrap().revision()),
        (1, 4)
    );
    assert_eq!(deleted.prev_kvs()[0].value(), b"2");
    let nothing = client.delete("k", None).await.unwrap();
    assert_eq!(
        (nothing.deleted(), nothing.header().unwrap().revision()),
        (0, 4)
    );
    assert!(client.get("k", None).await.unwrap().kvs().is_empty());
    cluster.stop().await;
}

#[tokio::test]
async fn ranges_are_limited_sorted_and_counted() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0).await;
    for n in 0..300 {
        client
            .put(format!("p/{n:03}"), format!("{}", 1000 - n), None)
            .await
            .unwrap();
    }
    let all = client
        .get("p/", Some(GetOptions::new().with_prefix()))
        .await
        .unwrap();
    assert_eq!(
        (all.kvs().len(), all.count(), all.more()),
        (300, 300, false)
    );
    let options = GetOptions::new().with_prefix().with_limit(7);
    let some = client.get("p/", Some(options)).await.unwrap();
    assert_eq!(
        (some.kvs().len(), some.count(), some.more()),
        (7, 300, true)
    );
    let options = GetOptions::new()
        .with_prefix()
        .with_limit(2)
        .with_sort(SortTarget::Value, SortOrder::Ascend)
        .with_serializable();
    let sorted = client.get("p/", Some(options)).await.unwrap();
    assert_eq!(
        sorted.kvs()[0].key(),
        b"p/000",
        "1000 is the least of these texts"
    );
    assert!(sorted.more());
    let options = GetOptions::new().with_prefix().with_count_only();
    let count = client.get("p/", Some(options)).await.unwrap();
    assert_eq!((count.kvs().len(), count.count()), (0, 300));
    let options = GetOptions::new()
        .with_from_key()
        .with_keys_only()
        .with_limit(1);
    let keys = client.get("p/250", Some(options)).await.unwrap();
    assert_eq!((keys.kvs()[0].value(), keys.count()), (&b""[..], 50));
    cluster.stop().await;
}

#[tokio::test]
async fn transactions_compare_write_and_nest() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0).await;
    client.put("a", "1", None).await.unwrap();
    let nested = Txn::new()
        .when(vec![Compare::version("new", CompareOp::Equal, 0)])
        .and_then(vec![TxnOp::put("b", "nested", None)])
        .or_else(vec![TxnOp::put("c", "other", None)]);
    let txn = Txn::new()
        .when(vec![Compare::value("a", CompareOp::Equal, "1")])
        .and_then(vec![
            TxnOp::put("new", "x", None),
            TxnOp::get("new", None),
            TxnOp::delete("a", None),
            TxnOp::txn(nested),
        ])
        .or_else(vec![TxnOp::get("a", None)]);
    let done = client.txn(txn).await.unwrap();
    assert!(done.succeeded());
    assert_eq!(done.header().unwrap().revision(), 3);
    let responses = done.op_responses();
    let TxnOpResponse::Get(get) = &responses[1] else {
        panic!("{responses:?}")
    };
    assert_eq!(get.kvs()[0].value(), b"x", "ranges see earlier puts");
    assert_eq!(
        get.header().unwrap().member_id(),
        0,
        "nested headers carry a revision alone"
    );
    assert_eq!(get.header().unwrap().revision(), 3);
    let TxnOpResponse::Txn(nested) = &responses[3] else {
        panic!("{responses:?}")
    };
    assert!(
        nested.succeeded(),
        "conditions see the state before the transaction"
    );
    assert_eq!(nested.header().unwrap().revision(), 0);
    let all = client
        .get("", Some(GetOptions::new().with_all_keys()))
        .await
        .unwrap();
    let keys: Vec<_> = all
        .kvs()
        .iter()
        .map(|kv| kv.key_str().unwrap().to_owned())
        .collect();
    assert_eq!(keys, ["b", "new"]);
    assert!(
        all.kvs().iter().all(|kv| kv.mod_revision() == 3),
        "one revision a transaction"
    );

    let read_only = Txn::new().and_then(vec![TxnOp::get("b", None)]);
    let read = client.txn(read_only).await.unwrap();
    assert_eq!(read.header().unwrap().revision(), 3);
    let future = Txn::new().and_then(vec![TxnOp::get(
        "b",
        Some(GetOptions::new().with_revision(99)),
    )]);
    assert_eq!(status(client.txn(future).await).0, Code::OutOfRange);
    let duplicate =
        Txn::new().and_then(vec![TxnOp::put("d", "1", None), TxnOp::put("d", "2", None)]);
    let (code, text) = status(client.txn(duplicate).await);
    assert_eq!(
        (code, &*text),
        (
            Code::InvalidArgument,
            "etcdserver: duplicate key given in txn request"
        )
    );
    cluster.stop().await;
}

#[tokio::test]
async fn a_refused_transaction_leaves_nothing_behind() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0).await;
    client.put("a", "1", None).await.unwrap();
    let options = PutOptions::new().with_lease(12345);
    let txn = Txn::new().and_then(vec![
        TxnOp::put("a", "2", None),
        TxnOp::put("b", "2", Some(options)),
    ]);
    let (code, text) = status(client.txn(txn).await);
    assert_eq!(
        (code, &*text),
        (Code::NotFound, "etcdserver: requested lease not found")
    );
    let got = client.get("a", None).await.unwrap();
    assert_eq!(
        (got.kvs()[0].value(), got.header().unwrap().revision()),
        (&b"1"[..], 2)
    );
    cluster.stop().await;
}

#[tokio::test]
async fn a_compaction_removes_old_revisions_and_physical_waits_for_it() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0).await;
    for n in 0..50 {
        client.put("k", n.to_string(), None).await.unwrap();
    }
    let options = etcd_client::CompactionOptions::new().with_physical();
    client.compact(40, Some(options)).await.unwrap();
    let (code, text) = status(
        client
            .get("k", Some(GetOptions::new().with_revision(39)))
            .await,
    );
    assert_eq!(code, Code::OutOfRange);
    assert_eq!(
        text,
        "etcdserver: mvcc: required revision has been compacted"
    );
    let kept = client
        .get("k", Some(GetOptions::new().with_revision(40)))
        .await
        .unwrap();
    assert_eq!(kept.kvs()[0].value(), b"38");
    assert_eq!(status(client.compact(40, None).await).0, Code::OutOfRange);
    let (_, text) = status(client.compact(4000, None).await);
    assert_eq!(
        text,
        "etcdserver: mvcc: required revision is a future revision"
    );
    cluster.stop().await;
}

#[tokio::test]
async fn everything_acknowledged_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let first = config("n1", dir.path());
    let second = again(&first);
    let node = Node::start(first).await.unwrap();
    node.ready(SOON).await.unwrap();
    let mut before = client(&node).await;
    for n in 0..100 {
        before.put(format!("k{n}"), "v", None).await.unwrap();
    }
    let lease = before.lease_grant(600, None).await.unwrap().id();
    before
        .put("leased", "v", Some(PutOptions::new().with_lease(lease)))
        .await
        .unwrap();
    let hash = before.hash_kv(0).await.unwrap().hash();
    let id = node.member_id();
    drop(before);
    node.shutdown().await;

    let node = Node::start(second).await.unwrap();
    node.ready(SOON).await.unwrap();
    assert_eq!(node.member_id(), id);
    let mut after = client(&node).await;
    assert_eq!(after.hash_kv(0).await.unwrap().hash(), hash);
    let all = after
        .get("", Some(GetOptions::new().with_all_keys()))
        .await
        .unwrap();
    assert_eq!((all.count(), all.header().unwrap().revision()), (101, 102));
    let left = eventually("the lease's clock", || {
        let mut client = after.clone();
        async move {
            client
                .lease_time_to_live(lease, None)
                .await
                .ok()
                .filter(|l| l.ttl() > 0)
        }
    })
    .await;
    assert_eq!(left.granted_ttl(), 600);
    after.lease_revoke(lease).await.unwrap();
    assert!(after.get("leased", None).await.unwrap().kvs().is_empty());
    node.shutdown().await;
}

#[tokio::test]
async fn maintenance_answers() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0).await;
    assert!(
        client.status().await.unwrap().db_size() > 0,
        "etcdctl divides by it"
    );
    client.put("k", vec![7_u8; 100_000], None).await.unwrap();
    let status_of = client.status().await.unwrap();
    assert_eq!(status_of.version(), "3.7.0");
    assert_eq!(status_of.leader(), cluster.nodes[0].member_id().get());
    assert!(status_of.db_size() > 100_000 && status_of.raft_applied_index() > 0);
    client.defragment().await.unwrap();
    let mut snapshot = client.snapshot().await.unwrap();
    let mut file = Vec::new();
    while let Some(chunk) = snapshot.message().await.unwrap() {
        file.extend_from_slice(chunk.blob());
    }
    assert_eq!(file.len() % 512, 32);
    let alarms = client.alarm(
        etcd_client::AlarmAction::Get,
        etcd_client::AlarmType::None,
        None,
    );
    assert!(alarms.await.unwrap().alarms().is_empty());
    let (code, _) = status(client.move_leader(1).await);
    assert_eq!(code, Code::FailedPrecondition);
    let (code, _) = status(client.auth_enable().await);
    assert_eq!(code, Code::FailedPrecondition);
    cluster.stop().await;
}

#[tokio::test]
async fn a_range_stream_sends_everything_at_one_revision() {
    use synod_proto::etcd::etcdserverpb::RangeRequest;
    use synod_proto::etcd::etcdserverpb::kv_client::KvClient;

    const LARGE: usize = 200_000;
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0).await;
    for n in 0..30 {
        client
            .put(format!("p/{n:02}"), vec![b'v'; LARGE], None)
            .await
            .unwrap();
    }
    let url = cluster.nodes[0].client_urls()[0].clone();
    let channel = synod_rpc::ChannelConfig::default()
        .connect(&url)
        .await
        .unwrap();
    let mut raw = KvClient::new(channel);
    let request = RangeRequest {
        key: "p/".into(),
        range_end: "p0".into(),
        limit: 25,
        ..Default::default()
    };
    let mut stream = raw
        .range_stream(request.clone())
        .await
        .unwrap()
        .into_inner();
    let mut chunks = Vec::new();
    while let Some(chunk) = stream.message().await.unwrap() {
        // Later writes are not part of the stream.
        client.put("p/29", "changed", None).await.unwrap();
        chunks.push(chunk.range_response.unwrap());
    }
    assert!(chunks.len() > 1, "5 MB in one message");
    assert_eq!(
        chunks.iter().map(|chunk| chunk.kvs.len()).sum::<usize>(),
        25
    );
    let (last, before) = chunks.split_last().unwrap();
    assert!(
        before
            .iter()
            .all(|chunk| chunk.header.is_none() && chunk.count == 0)
    );
    assert_eq!((last.count, last.more), (30, true));
    assert_eq!(last.header.unwrap().revision, 31);
    let sorted = RangeRequest {
        sort_target: 1,
        sort_order: 2,
        ..request
    };
    let refused = raw.range_stream(sorted).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
    cluster.stop().await;
}
