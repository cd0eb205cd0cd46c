use std::sync::atomic::Ordering;
use std::time::Duration;

use synod_consensus_core::Algorithm;
use synod_replica::ReplicaConfig;
use synod_runtime::clock;
use synod_types::NodeId;

use crate::harness::{Cluster, eventually, soon};

on_both! {
    a_lagging_follower_gets_a_snapshot_that_survives_a_broken_transfer,
    a_transfer_whose_view_was_closed_restarts_without_its_old_sink,
    a_new_member_gets_a_snapshot_and_then_the_log_and_a_restart_keeps_both,
    the_log_on_disk_is_released_after_flushes_and_a_restart_needs_no_more,
}

/// A short log and small chunks, so that a node that was away needs a snapshot of many chunks.
fn tight(config: &mut ReplicaConfig) {
    config.compaction.max_entries = 40;
    config.compaction.keep_entries = 10;
    config.compaction.persist_bytes = 1_000;
    config.compaction.persist_interval = Duration::from_millis(20);
    config.snapshots.chunk_bytes = 256;
}

async fn fill(cluster: &Cluster, at: NodeId, name: &str) {
    for number in 0..200 {
        cluster
            .put(at, &format!("{name}{number:03}"), "a value of some length")
            .await;
    }
}

async fn a_lagging_follower_gets_a_snapshot_that_survives_a_broken_transfer(algorithm: Algorithm) {
    let mut cluster = Cluster::start_with(algorithm, 3, tight);
    let leader = cluster.leader().await;
    let lagging = cluster.follower().await;
    cluster.put(leader, "before", "1").await;
    cluster.stop(lagging).await;
    fill(&cluster, leader, "k").await;
    let leader_disk = cluster.disk(leader);
    leader_disk.fail_read_at.store(5, Ordering::Relaxed);
    cluster.restart(lagging);
    // Writes continue during the pull: the log after the snapshot must be there at the end.
    fill(&cluster, leader, "during").await;
    let disk = cluster.disk(lagging);
    eventually("the follower has everything", || {
        disk.get("k199").is_some() && disk.get("during199").is_some()
    })
    .await;
    cluster.converge().await;
    assert!(disk.installs.load(Ordering::Relaxed) >= 1);
    assert_eq!(
        leader_disk.fail_read_at.load(Ordering::Relaxed),
        0,
        "the fault was met"
    );
    assert!(
        leader_disk.chunks_read.load(Ordering::Relaxed) > 10,
        "many chunks"
    );
    // The broken stream continued where it ended: no view and no sink was opened twice.
    let snapshots = leader_disk.snapshots.load(Ordering::Relaxed);
    assert_eq!(
        disk.sinks.load(Ordering::Relaxed),
        disk.installs.load(Ordering::Relaxed)
    );
    assert_eq!(snapshots, disk.installs.load(Ordering::Relaxed));
    assert_eq!(disk.get("before").unwrap(), "1");
    cluster.stop_all().await;
}

async fn a_transfer_whose_view_was_closed_restarts_without_its_old_sink(algorithm: Algorithm) {
    let mut cluster = Cluster::start_with(algorithm, 3, |config| {
        tight(config);
        // A broken transfer finds its view closed: the leader closes views at its next tick, long
        // before the follower retries.
        config.snapshots.idle_timeout = Duration::ZERO;
        config.transport.backoff_min = Duration::from_secs(1);
    });
    let leader = cluster.leader().await;
    let lagging = cluster.follower().await;
    cluster.stop(lagging).await;
    fill(&cluster, leader, "k").await;
    cluster.restart(lagging);
    let disk = cluster.disk(lagging);
    let others: Vec<_> = cluster.nodes.keys().copied().collect();
    let others = others.into_iter().filter(|node| *node != lagging);
    let others: Vec<_> = others.map(|node| cluster.disk(node)).collect();
    // Writes continue meanwhile, so that the next view is at a later position.
    let begun_again =
        || disk.sinks.load(Ordering::Relaxed) >= disk.installs.load(Ordering::Relaxed) + 2;
    let deadline = soon();
    let mut number = 0;
    while !begun_again() {
        assert!(clock::now() < deadline, "no transfer began again");
        for other in &others {
            // Fails again after five more chunks, once the last fault occurred.
            if other.fail_read_at.load(Ordering::Relaxed) == 0 {
                let read = other.chunks_read.load(Ordering::Relaxed);
                other.fail_read_at.store(read + 5, Ordering::Relaxed);
            }
        }
        let key = format!("during{}", number % 50);
        cluster.put(leader, &key, "a value of some length").await;
        number += 1;
    }
    for other in &others {
        other.fail_read_at.store(0, Ordering::Relaxed);
    }
    cluster.put(leader, "last", "1").await;
    eventually("the follower has everything", || disk.get("last").is_some()).await;
    cluster.converge().await;
    cluster.stop_all().await;
}

async fn a_new_member_gets_a_snapshot_and_then_the_log_and_a_restart_keeps_both(
    algorithm: Algorithm,
) {
    use bytes::Bytes;
    use synod_consensus_core::Change;

    let mut cluster = Cluster::start_with(algorithm, 1, tight);
    let leader = cluster.leader().await;
    fill(&cluster, leader, "k").await;
    let joiner = cluster.join(2);
    let handle = cluster.handle(leader);
    handle
        .change_members(vec![Change::AddLearner(joiner)], Bytes::new(), soon())
        .await
        .unwrap();
    let disk = cluster.disk(joiner);
    eventually("the learner has everything", || disk.get("k199").is_some()).await;
    assert_eq!(disk.installs.load(Ordering::Relaxed), 1);
    cluster.put(leader, "after", "1").await;
    eventually("the log continues", || disk.get("after").is_some()).await;
    cluster.stop(joiner).await;
    cluster.put(leader, "while", "away").await;
    cluster.restart(joiner);
    eventually("the log continues after a restart", || {
        disk.get("while").is_some()
    })
    .await;
    cluster.converge().await;
    cluster.stop_all().await;
}

async fn the_log_on_disk_is_released_after_flushes_and_a_restart_needs_no_more(
    algorithm: Algorithm,
) {
    let mut cluster = Cluster::start_with(algorithm, 1, tight);
    let leader = cluster.leader().await;
    fill(&cluster, leader, "k").await;
    let handle = cluster.handle(leader);
    eventually("the core forgets", || {
        handle.status().start.index.get() > 100
    })
    .await;
    // Write until the log is released at a flushed position.
    let mut number = 0;
    cluster.stop(leader).await;
    cluster.restart(leader);
    cluster.leader().await;
    while cluster.handle(leader).status().start.index.get() == 0 {
        number += 1;
        assert!(number < 100, "the log is never cut");
        fill(&cluster, leader, "more").await;
        cluster.stop(leader).await;
        cluster.restart(leader);
        cluster.leader().await;
    }
    cluster.put(leader, "last", "1").await;
    assert_eq!(
        cluster.nodes[&leader].disk.get("k000").unwrap(),
        "a value of some length"
    );
    cluster.stop_all().await;
}
