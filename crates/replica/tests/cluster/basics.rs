use std::sync::atomic::Ordering;

use synod_consensus_core::{Algorithm, ReadMode, Rejected};
use synod_replica::TransferError;
use synod_types::{Index, NodeId};

use crate::harness::{Cluster, eventually, soon};

on_both! {
    one_node_elects_itself_commits_and_reads,
    three_nodes_accept_proposals_and_reads_everywhere,
    many_concurrent_proposals_and_reads_share_rounds,
    a_restart_replays_the_log,
    state_applied_by_a_killed_process_is_durable_before_it_restarts,
    leadership_is_transferred_to_the_requested_node,
}

async fn one_node_elects_itself_commits_and_reads(algorithm: Algorithm) {
    let mut cluster = Cluster::start(algorithm, 1);
    let leader = cluster.leader().await;
    let first = cluster.put(leader, "a", "1").await;
    let second = cluster.put(leader, "b", "2").await;
    assert!(second.index > first.index);
    let handle = cluster.handle(leader);
    for mode in [ReadMode::Index, ReadMode::Lease] {
        let index = handle.read(mode, soon()).await.unwrap();
        assert!(index >= second.index && handle.applied() >= index);
    }
    assert_eq!(cluster.nodes[&leader].disk.get("b").unwrap(), "2");
    assert!(cluster.nodes[&leader].metric("etcd_server_proposals_applied_total") >= 3.0);
    cluster.stop_all().await;
}

async fn three_nodes_accept_proposals_and_reads_everywhere(algorithm: Algorithm) {
    let mut cluster = Cluster::start(algorithm, 3);
    let leader = cluster.leader().await;
    let ids: Vec<NodeId> = cluster.nodes.keys().copied().collect();
    for (round, writer) in ids.iter().cycle().take(9).enumerate() {
        let value = round.to_string();
        cluster.put(*writer, "key", &value).await;
        // A read on any node sees what one node acknowledged.
        for reader in &ids {
            for mode in [ReadMode::Index, ReadMode::Lease] {
                cluster.handle(*reader).read(mode, soon()).await.unwrap();
                assert_eq!(
                    cluster.nodes[reader].disk.get("key").unwrap(),
                    value.as_str()
                );
            }
        }
    }
    cluster.converge().await;
    assert_eq!(cluster.leader().await, leader);
    let node = &cluster.nodes[&leader];
    assert!(node.metric("etcd_network_peer_sent_bytes_total") > 0.0);
    assert!(node.metric("synod_replica_stage_seconds_count{stage=\"committed\"}") > 0.0);
    cluster.stop_all().await;
}

async fn many_concurrent_proposals_and_reads_share_rounds(algorithm: Algorithm) {
    let mut cluster = Cluster::start(algorithm, 3);
    let follower = cluster.follower().await;
    let handle = cluster.handle(follower);
    let writes = (0..200).map(|number| {
        let handle = handle.clone();
        async move {
            let data = format!("k{number}=v{number}").into();
            let index = handle.propose(data, soon()).await.unwrap().index;
            let read = handle.read(ReadMode::Index, soon()).await.unwrap();
            assert!(read >= index);
            index
        }
    });
    let mut indexes: Vec<Index> = futures::future::join_all(writes).await;
    indexes.sort_unstable();
    indexes.dedup();
    assert_eq!(indexes.len(), 200, "each proposal is one entry");
    for number in 0..200 {
        let value = cluster.nodes[&follower].disk.get(&format!("k{number}"));
        assert_eq!(value.unwrap(), format!("v{number}"));
    }
    cluster.converge().await;
    cluster.stop_all().await;
}

async fn a_restart_replays_the_log(algorithm: Algorithm) {
    let mut cluster = Cluster::start(algorithm, 3);
    for node in cluster.nodes.values() {
        node.disk.never_flush.store(true, Ordering::Relaxed);
    }
    let leader = cluster.leader().await;
    for number in 0..50 {
        cluster.put(leader, &format!("k{number}"), "v").await;
    }
    cluster.converge().await;
    let before = cluster.nodes[&leader].disk.fingerprint();
    cluster.stop_all().await;
    let ids: Vec<NodeId> = cluster.nodes.keys().copied().collect();
    for id in &ids {
        cluster.restart(*id);
        assert_eq!(cluster.nodes[id].disk.fingerprint().0, Index::ZERO);
    }
    let leader = cluster.leader().await;
    let after = cluster.put(leader, "after", "restart").await;
    assert!(after.index > before.0);
    cluster.converge().await;
    for id in &ids {
        assert_eq!(cluster.nodes[id].disk.get("k49").unwrap(), "v");
    }
    cluster.stop_all().await;
}

/// The core may make the log begin after the applied position. From then on the applied state must
/// not be lost.
async fn state_applied_by_a_killed_process_is_durable_before_it_restarts(algorithm: Algorithm) {
    let mut cluster = Cluster::start(algorithm, 1);
    let leader = cluster.leader().await;
    let disk = cluster.disk(leader);
    disk.never_flush.store(true, Ordering::Relaxed);
    let written = cluster.put(leader, "a", "1").await;
    eventually("it to be applied", || disk.fingerprint().0 >= written.index).await;
    cluster.stop_all().await;
    assert!(disk.durable_index() < written.index);
    disk.killed.store(true, Ordering::Relaxed);
    disk.never_flush.store(false, Ordering::Relaxed);
    cluster.restart(leader);
    assert!(disk.durable_index() >= written.index);
    cluster.stop_all().await;
}

async fn leadership_is_transferred_to_the_requested_node(algorithm: Algorithm) {
    let mut cluster = Cluster::start(algorithm, 3);
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    cluster.put(leader, "a", "1").await;
    let error = cluster
        .handle(follower)
        .transfer(follower, soon())
        .await
        .unwrap_err();
    let not_leader = TransferError::Rejected(Rejected::NotLeader {
        leader: Some(leader),
    });
    assert_eq!(error, not_leader);
    cluster
        .handle(leader)
        .transfer(follower, soon())
        .await
        .unwrap();
    assert_eq!(cluster.leader().await, follower);
    // The old leader gave up its lease before the new one could commit.
    cluster.put(follower, "a", "2").await;
    cluster
        .handle(leader)
        .read(ReadMode::Lease, soon())
        .await
        .unwrap();
    assert_eq!(cluster.nodes[&leader].disk.get("a").unwrap(), "2");
    // To no particular node.
    cluster
        .handle(follower)
        .transfer(NodeId::NONE, soon())
        .await
        .unwrap();
    eventually("another leader", || {
        cluster
            .handle(follower)
            .watch_role()
            .borrow()
            .leader
            .is_some_and(|id| id != follower)
    })
    .await;
    cluster.stop_all().await;
}
