//! Clusters of three nodes.

use std::time::Duration;

use etcd_client::{Client, Compare, CompareOp, GetOptions, Txn};
use synod_consensus::{Algorithm, Node};
use synod_runtime::clock;
use tonic::Code;

use crate::support::{Cluster, SOON, again, configs, eventually, status};

on_both! {
    every_member_writes_and_reads_its_own_and_the_others_writes,
    leadership_moves_on_request_and_when_the_leader_stops,
    a_hand_over_that_timed_out_may_still_happen,
    without_a_quorum_nothing_is_acknowledged_and_serializable_reads_go_on,
    a_member_that_was_away_catches_up_by_entries_or_by_a_snapshot,
    writes_go_on_while_leaders_come_and_go,
    requests_that_require_a_leader_fail_at_once_without_one,
}

async fn every_member_writes_and_reads_its_own_and_the_others_writes(algorithm: Algorithm) {
    let cluster = Cluster::of(algorithm, 3).await;
    let mut clients = Vec::new();
    for node in 0..3 {
        clients.push(cluster.client(node).await);
    }
    for round in 0..30 {
        let (writer, reader) = (round % 3, (round + 1) % 3);
        let value = round.to_string();
        let put = clients[writer].put("k", value.clone(), None).await.unwrap();
        let got = clients[reader].get("k", None).await.unwrap();
        assert_eq!(
            got.kvs()[0].value(),
            value.as_bytes(),
            "a linearizable read sees every finished write"
        );
        assert_eq!(
            put.header().unwrap().member_id(),
            cluster.nodes[writer].member_id().get()
        );
    }
    let mut hashes = Vec::new();
    for client in &mut clients {
        client.get("k", None).await.unwrap();
        hashes.push(client.hash_kv(0).await.unwrap().hash());
    }
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
    cluster.stop().await;
}

async fn leadership_moves_on_request_and_when_the_leader_stops(algorithm: Algorithm) {
    let mut cluster = Cluster::of(algorithm, 3).await;
    let leader = cluster.leader().await;
    let other = (leader + 1) % 3;
    let target = cluster.nodes[other].member_id().get();
    let mut client = cluster.client(leader).await;
    let (code, text) = status(cluster.client(other).await.move_leader(target).await);
    assert_eq!(
        (code, &*text),
        (Code::FailedPrecondition, "etcdserver: not leader")
    );
    client.move_leader(target).await.unwrap();
    eventually("the leadership to move", || async {
        cluster.nodes[other].is_leader().then_some(())
    })
    .await;

    client.put("k", "before", None).await.unwrap();
    let old = cluster.nodes.remove(other);
    old.shutdown().await;
    // The leadership is handed over, so that no election is waited for. Nothing is lost.
    let mut client = cluster.client(0).await;
    let got = client.get("k", None).await.unwrap();
    assert_eq!(got.kvs()[0].value(), b"before");
    client.put("k", "after", None).await.unwrap();
    cluster.stop().await;
}

async fn a_hand_over_that_timed_out_may_still_happen(algorithm: Algorithm) {
    let mut cluster = Cluster::of(algorithm, 3).await;
    let leader = cluster.leader().await;
    let mut client = cluster.client(leader).await;
    let mut mover = cluster.client(leader).await;
    let away = cluster.nodes.remove((leader + 1) % 3);
    let target = away.member_id().get();
    away.shutdown().await;
    let moving = mover.move_leader(target);
    // The target is removed between two attempts. The second one is refused, but the outcome of the
    // first one is unknown.
    let removing = async {
        clock::sleep(Duration::from_millis(300)).await;
        client.member_remove(target).await.unwrap();
    };
    let (moved, ()) = tokio::join!(moving, removing);
    let (code, text) = status(moved);
    assert_eq!(
        (code, &*text),
        (
            Code::Unknown,
            "etcdserver: request timed out, waiting for leader transfer took too long"
        )
    );
    cluster.stop().await;
}

async fn without_a_quorum_nothing_is_acknowledged_and_serializable_reads_go_on(
    algorithm: Algorithm,
) {
    let mut cluster = Cluster::of(algorithm, 3).await;
    let mut client = cluster.client(0).await;
    client.put("k", "v", None).await.unwrap();
    for _ in 0..2 {
        cluster.nodes.pop().unwrap().shutdown().await;
    }
    let (code, text) = status(client.put("k", "w", None).await);
    assert_eq!(code, Code::Unavailable, "{text}");
    let (code, text) = status(client.get("k", None).await);
    assert_eq!(code, Code::Unavailable, "{text}");
    let is_v = Compare::value("k", CompareOp::Equal, "v");
    let (code, text) = status(client.txn(Txn::new().when([is_v])).await);
    assert_eq!(
        code,
        Code::Unavailable,
        "comparisons are linearizable: {text}"
    );
    let options = GetOptions::new().with_serializable();
    let got = client.get("k", Some(options)).await.unwrap();
    assert_eq!(got.kvs()[0].value(), b"v");
    cluster.stop().await;
}

async fn a_member_that_was_away_catches_up_by_entries_or_by_a_snapshot(algorithm: Algorithm) {
    let dir = tempfile::tempdir().unwrap();
    let mut configs = configs(3, dir.path());
    for config in &mut configs {
        config.algorithm = Some(algorithm);
        config.snapshot_count = 100;
        config.snapshot_catchup_entries = 20;
    }
    let mut late = again(&configs[2]);
    late.snapshot_count = 100;
    late.snapshot_catchup_entries = 20;
    let starts = configs.into_iter().map(Node::start);
    let mut nodes = futures::future::try_join_all(starts).await.unwrap();
    nodes[0].ready(SOON).await.unwrap();
    let away = nodes.pop().unwrap();
    away.ready(SOON).await.unwrap();
    away.shutdown().await;

    let mut client = Client::connect(nodes[0].client_urls(), None).await.unwrap();
    for n in 0..1000 {
        client
            .put(format!("k{}", n % 300), vec![b'x'; 200], None)
            .await
            .unwrap();
    }
    let lease = client.lease_grant(600, None).await.unwrap().id();
    let hash = client.hash_kv(0).await.unwrap().hash();

    let back = Node::start(late).await.unwrap();
    back.ready(SOON).await.unwrap();
    let mut client = Client::connect(back.client_urls(), None).await.unwrap();
    assert_eq!(client.hash_kv(0).await.unwrap().hash(), hash);
    assert_eq!(client.leases().await.unwrap().leases()[0].id(), lease);
    client.put("after", "snapshot", None).await.unwrap();
    back.shutdown().await;
    for node in nodes {
        node.shutdown().await;
    }
}

async fn writes_go_on_while_leaders_come_and_go(algorithm: Algorithm) {
    let cluster = Cluster::of(algorithm, 3).await;
    let mut client = cluster.client(0).await;
    let mut written = 0;
    for round in 0..4 {
        let leader = cluster.leader().await;
        let target = cluster.nodes[(leader + 1) % 3].member_id().get();
        let mut mover = cluster.client(leader).await;
        let moving = async move { mover.move_leader(target).await };
        let writing = async {
            for _ in 0..50 {
                client.put("k", written.to_string(), None).await.unwrap();
                written += 1;
            }
        };
        let (moved, ()) = futures::future::join(moving, writing).await;
        moved.unwrap_or_else(|error| panic!("round {round}: {error}"));
    }
    let got = client.get("k", None).await.unwrap();
    assert_eq!(got.kvs()[0].version(), written);
    assert_eq!(written, 200);
    cluster.stop().await;
}

async fn requests_that_require_a_leader_fail_at_once_without_one(algorithm: Algorithm) {
    let mut cluster = Cluster::of(algorithm, 3).await;
    for _ in 0..2 {
        cluster.nodes.pop().unwrap().shutdown().await;
    }
    let options = etcd_client::ConnectOptions::new().with_require_leader(true);
    let urls = cluster.nodes[0].client_urls();
    let client = Client::connect(urls, Some(options)).await.unwrap();
    let answer = eventually("the leader to be missed", || {
        let mut client = client.clone();
        async move {
            client
                .get("k", Some(GetOptions::new().with_serializable()))
                .await
                .err()
        }
    });
    let error = clock::timeout(Duration::from_secs(10), answer)
        .await
        .unwrap();
    assert!(
        error.to_string().contains("etcdserver: no leader"),
        "{error}"
    );
    cluster.stop().await;
}
