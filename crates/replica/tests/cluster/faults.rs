use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use synod_consensus_core::{Algorithm, CoreConfig, Membership, ReadMode, Role, SnapshotMeta};
use synod_log::{GroupState, Log, LogConfig, Metrics as LogMetrics, SimDisk};
use synod_replica::{
    Completions, Fault, Metrics, Parts, PeerBook, ProposeError, ReadError, Replica, ReplicaConfig,
};
use synod_runtime::metrics::Registry;
use synod_runtime::{clock, task};
use synod_types::{Ballot, ClusterId, Index, LogPosition};

use crate::harness::{Cluster, GROUP, PATIENCE, SIM_DISK_PENDING_BYTES, eventually, node, soon};
use crate::toy::{Disk, Output, State};

on_both! {
    no_acknowledged_write_is_lost_when_leaders_stop,
    without_a_quorum_certain_and_unknown_failures_are_distinguished,
    proposals_and_reads_wait_for_a_leader,
    a_broken_stream_is_reconnected,
    a_foreign_cluster_is_refused_without_a_hot_loop,
    a_peer_of_the_other_algorithm_is_refused,
    a_peer_without_the_required_feature_level_is_disconnected,
    a_failed_sync_stops_the_replica_for_good,
    an_engine_may_be_ahead_of_its_log,
    proposals_over_the_limits_are_refused_with_certain_errors,
    an_idle_replica_stops_promptly_and_gives_no_answers_afterwards,
    a_leader_whose_disk_hangs_hands_over,
    a_node_with_a_hanging_disk_accepts_only_what_its_log_has_room_for,
}

async fn a_leader_whose_disk_hangs_hands_over(algorithm: Algorithm) {
    let mut cluster = Cluster::start_on_sim_disks(algorithm, 3, |config| {
        config.limits.log_stall_timeout = Duration::from_millis(300);
    });
    let leader = cluster.leader().await;
    let hanging = cluster.hang_log(leader);
    // Its followers still commit entries, which is why no other node would depose it.
    cluster.put(leader, "a", "1").await;
    let follower = cluster.nodes.keys().find(|id| **id != leader).copied();
    let mut role = cluster.handle(follower.unwrap()).watch_role();
    let elsewhere = role.wait_for(|now| now.leader.is_some_and(|now| now != leader));
    clock::timeout(PATIENCE, elsewhere).await.unwrap().unwrap();
    let new_leader = role.borrow().leader.unwrap();
    cluster.put(new_leader, "a", "2").await;
    drop(hanging);
    cluster.put(new_leader, "a", "3").await;
    cluster.converge().await;
    assert_eq!(cluster.disk(leader).get("a").unwrap(), "3");
    cluster.stop_all().await;
}

async fn a_node_with_a_hanging_disk_accepts_only_what_its_log_has_room_for(algorithm: Algorithm) {
    let mut cluster = Cluster::start_on_sim_disks(algorithm, 3, |config| {
        // No leader hands over, and no node takes over on a slow machine.
        config.limits.log_stall_timeout = PATIENCE;
        config.core.election_ticks = 1_000;
    });
    cluster.handle(node(1)).campaign();
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    let value = "v".repeat(900);
    let last = |node| cluster.handle(node).status().last.index.get();
    let room = SIM_DISK_PENDING_BYTES / 900;
    // A few more entries are in flight when the room runs out.
    let most = cluster.handle(leader).commit().get() + 2 * room;

    // A follower hangs: the others continue without it.
    let hanging = cluster.hang_log(follower);
    for number in 0..10 * room {
        cluster.put(leader, &format!("k{number}"), &value).await;
    }
    assert!(last(follower) < most, "{} entries", last(follower));
    drop(hanging);
    cluster.put(leader, "a", "1").await;
    cluster.converge().await;

    // A leader hangs: it refuses proposals with a certain error.
    let most = cluster.handle(leader).commit().get() + 2 * room;
    let hanging = cluster.hang_log(leader);
    let handle = cluster.handle(leader);
    let refused = loop {
        let data = Bytes::from(format!("k={value}"));
        let deadline = clock::now() + Duration::from_millis(300);
        match handle.propose(data, deadline).await {
            Ok(_) => assert!(last(leader) < most, "{} entries", last(leader)),
            Err(error) => break error,
        }
    };
    assert_eq!(refused, ProposeError::TooBusy);
    drop(hanging);
    cluster.put(leader, "a", "2").await;
    cluster.converge().await;
    cluster.stop_all().await;
}

async fn no_acknowledged_write_is_lost_when_leaders_stop(algorithm: Algorithm) {
    let mut cluster = Cluster::start(algorithm, 3);
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    let acknowledged: Arc<Mutex<BTreeMap<String, Index>>> = Arc::default();
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let handle = cluster.handle(follower);
            let acknowledged = Arc::clone(&acknowledged);
            task::spawn("writer", async move {
                for number in 0..100 {
                    let key = format!("w{writer}-{number}");
                    let deadline = clock::now() + Duration::from_secs(30);
                    match handle.propose(format!("{key}=v").into(), deadline).await {
                        Ok(output) => drop(acknowledged.lock().insert(key, output.index)),
                        Err(error) => assert!(!error.is_certain(), "{error}"),
                    }
                }
            })
        })
        .collect();
    eventually("some writes", || acknowledged.lock().len() > 100).await;
    cluster.stop(leader).await;
    for writer in writers {
        writer.await.unwrap();
    }
    let new_leader = cluster.leader().await;
    assert_ne!(new_leader, leader);
    cluster.restart(leader);
    cluster.put(new_leader, "last", "1").await;
    cluster.converge().await;
    let acknowledged = std::mem::take(&mut *acknowledged.lock());
    // The outcome of proposals in flight when the leader stopped may be unknown: one per writer.
    // The others waited for the new leader.
    assert!(acknowledged.len() >= 8 * 99, "{}", acknowledged.len());
    for running in cluster.running() {
        for key in acknowledged.keys() {
            assert!(running.disk.get(key).is_some(), "{key} is lost");
        }
    }
    cluster.stop_all().await;
}

async fn without_a_quorum_certain_and_unknown_failures_are_distinguished(algorithm: Algorithm) {
    let mut cluster = Cluster::start(algorithm, 3);
    let leader = cluster.leader().await;
    cluster.put(leader, "a", "1").await;
    cluster.isolate(leader, true);
    let handle = cluster.handle(leader);
    // It still leads for a while. The proposal is in its log, and its outcome is unknown.
    let deadline = clock::now() + Duration::from_secs(2);
    let unknown = handle
        .propose(Bytes::from_static(b"a=2"), deadline)
        .await
        .unwrap_err();
    assert_eq!(unknown, ProposeError::Timeout);
    assert!(!unknown.is_certain());
    // Then it steps down, and later proposals are never sent to another node.
    let mut role = handle.watch_role();
    role.wait_for(|now| now.role != Role::Leader && now.leader.is_none())
        .await
        .unwrap();
    let deadline = clock::now() + Duration::from_millis(200);
    let certain = handle
        .propose(Bytes::from_static(b"a=3"), deadline)
        .await
        .unwrap_err();
    assert_eq!(certain, ProposeError::NoLeader);
    assert!(certain.is_certain());
    for mode in [ReadMode::Index, ReadMode::Lease] {
        let deadline = clock::now() + Duration::from_millis(200);
        assert_eq!(
            handle.read(mode, deadline).await.unwrap_err(),
            ReadError::NoLeader
        );
    }
    // The others have a new leader, and the old one rejoins them.
    cluster.isolate(leader, false);
    cluster.leader().await;
    cluster.put(leader, "a", "4").await;
    cluster.converge().await;
    for running in cluster.running() {
        assert_eq!(running.disk.get("a").unwrap(), "4");
    }
    cluster.stop_all().await;
}

async fn proposals_and_reads_wait_for_a_leader(algorithm: Algorithm) {
    let mut cluster = Cluster::start(algorithm, 3);
    // There is no leader yet.
    let handle = cluster.handle(node(2));
    let (written, read) = tokio::join!(
        handle.propose(Bytes::from_static(b"early=1"), soon()),
        handle.read(ReadMode::Index, soon()),
    );
    written.unwrap();
    read.unwrap();
    cluster.stop_all().await;
}

async fn a_broken_stream_is_reconnected(algorithm: Algorithm) {
    let mut cluster = Cluster::start(algorithm, 3);
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    cluster.isolate(follower, true);
    for number in 0..50 {
        cluster.put(leader, &format!("k{number}"), "v").await;
    }
    assert!(cluster.nodes[&follower].disk.get("k49").is_none());
    cluster.isolate(follower, false);
    let disk = cluster.disk(follower);
    eventually("it caught up", || disk.get("k49").is_some()).await;
    assert_eq!(
        cluster.leader().await,
        leader,
        "PreVote keeps a node that was away from disturbing"
    );
    cluster.stop_all().await;
}

async fn a_foreign_cluster_is_refused_without_a_hot_loop(algorithm: Algorithm) {
    let mut ours = Cluster::start(algorithm, 1);
    let leader = ours.leader().await;
    let stranger = ours.join(2);
    ours.stop(stranger).await;
    ours.id = ClusterId::new(0xbad);
    let began = clock::now();
    ours.restart(stranger);
    // The node with the lower id dials and learns the reason.
    let refused = "synod_replica_peer_refused_total";
    eventually("refusals", || ours.nodes[&leader].metric(refused) >= 4.0).await;
    // At least three delays of half the longest back-off each.
    assert!(clock::now() - began >= Duration::from_millis(300));
    assert!(ours.nodes[&stranger].metric(refused) >= 4.0);
    assert!(ours.nodes[&leader].metric("etcd_network_active_peers") < 1.0);
    ours.put(leader, "a", "1").await;
    ours.stop_all().await;
}

async fn a_peer_of_the_other_algorithm_is_refused(algorithm: Algorithm) {
    let mut ours = Cluster::start(algorithm, 1);
    let leader = ours.leader().await;
    let stranger = ours.join(2);
    ours.stop(stranger).await;
    let mut others = Algorithm::ALL.into_iter();
    ours.algorithm = others.find(|other| *other != algorithm).unwrap();
    ours.restart(stranger);
    let refused = "synod_replica_peer_refused_total";
    eventually("refusals on both sides", || {
        let counts = |id| ours.nodes[&id].metric(refused) >= 1.0;
        counts(leader) && counts(stranger)
    })
    .await;
    assert!(ours.nodes[&leader].metric("etcd_network_active_peers") < 1.0);
    ours.put(leader, "a", "1").await;
    ours.stop_all().await;
}

async fn a_peer_without_the_required_feature_level_is_disconnected(algorithm: Algorithm) {
    let mut cluster = Cluster::start_with(algorithm, 3, |config| {
        config.feature_level = u32::from(config.core.id != node(3));
        config.transport.ping_interval = Duration::from_millis(50);
    });
    let leader = cluster.leader().await;
    let newer = [node(1), node(2)];
    let connected = |id| {
        let book = &cluster.nodes[&id].book;
        (book.is_connected(node(1)), book.is_connected(node(3)))
    };
    eventually("all streams", || {
        connected(node(2)) == (true, true) && connected(node(1)).1
    })
    .await;
    // All nodes have connected before.
    for id in newer {
        cluster.nodes[&id].book.require_feature_level(1);
    }
    eventually("the old one to be left by both", || {
        newer.iter().all(|id| !connected(*id).1)
    })
    .await;
    // It stays away, and the others continue.
    let refused = |id| cluster.nodes[&id].metric("synod_replica_peer_refused_total");
    eventually("refusals", || newer.iter().all(|id| refused(*id) >= 2.0)).await;
    assert_eq!(connected(node(2)), (true, false));
    let at = newer.into_iter().find(|id| *id != leader).unwrap();
    cluster.put(at, "a", "1").await;
    assert!(cluster.disk(node(3)).get("a").is_none());
    cluster.stop_all().await;
}

struct Single {
    replica: Replica<Output>,
    log: Log,
    log_disk: SimDisk,
    disk: Arc<Disk>,
}

/// One node with a simulated log disk. `before` may write to the log first.
fn single(algorithm: Algorithm, disk: Arc<Disk>, before: fn(&Log) -> Option<GroupState>) -> Single {
    let id = node(1);
    let log_disk = SimDisk::new();
    let completions = Completions::new();
    let (log, mut recovered) = Log::open_on(
        Arc::new(log_disk.clone()),
        &LogConfig::new("unused".into()),
        Arc::new(LogMetrics::default()),
        Arc::clone(&completions) as _,
    )
    .unwrap();
    let recovered = recovered.groups.remove(&GROUP).or_else(|| before(&log));
    let parts = Parts {
        log: log.clone(),
        recovered,
        completions,
        listeners: Vec::new(),
        peers: PeerBook::new(),
        metrics: Metrics::register(&Registry::new(), id).unwrap(),
    };
    let core = CoreConfig::new(id, 1);
    let mut config = ReplicaConfig::new(ClusterId::new(1), GROUP, core, Some(Membership::of([id])));
    config.algorithm = algorithm;
    let replica = Replica::start(config, parts, disk.machine()).unwrap();
    Single {
        replica,
        log,
        log_disk,
        disk,
    }
}

async fn a_failed_sync_stops_the_replica_for_good(algorithm: Algorithm) {
    let single = single(algorithm, Disk::new(), |_| None);
    let handle = single.replica.handle();
    handle
        .propose(Bytes::from_static(b"a=1"), soon())
        .await
        .unwrap();
    single.log_disk.fail_sync_after(0);
    let error = handle
        .propose(Bytes::from_static(b"a=2"), soon())
        .await
        .unwrap_err();
    assert_eq!(error, ProposeError::Stopped, "its outcome is unknown");
    let fault = handle
        .watch_fault()
        .wait_for(Option::is_some)
        .await
        .unwrap()
        .clone();
    assert!(matches!(fault, Some(Fault::Log(_))), "{fault:?}");
    // No caller is answered any more, and reads don't fall back to a lease.
    let later = handle
        .propose(Bytes::from_static(b"a=3"), soon())
        .await
        .unwrap_err();
    assert_eq!(later, ProposeError::NotRunning);
    for mode in [ReadMode::Index, ReadMode::Lease] {
        assert_eq!(
            handle.read(mode, soon()).await.unwrap_err(),
            ReadError::Stopped
        );
    }
    assert_eq!(single.disk.get("a").unwrap(), "1");
    single.replica.stop().await;
    assert!(single.log.close().is_err());
}

async fn an_engine_may_be_ahead_of_its_log(algorithm: Algorithm) {
    // A crash after a snapshot was installed and before the log was reset.
    let disk = Disk::new();
    disk.put_durable(State {
        meta: SnapshotMeta {
            last: LogPosition {
                ballot: Ballot::term(7),
                index: Index::new(500),
            },
            membership: Membership::of([node(1)]),
        },
        ..State::default()
    });
    let single = single(algorithm, disk, |log| {
        let start = SnapshotMeta {
            membership: Membership::of([node(1)]),
            ..SnapshotMeta::default()
        };
        log.bootstrap(GROUP, start.clone()).unwrap();
        Some(GroupState {
            start: Some(start),
            ..GroupState::default()
        })
    });
    let handle = single.replica.handle();
    let output = handle
        .propose(Bytes::from_static(b"a=1"), soon())
        .await
        .unwrap();
    assert_eq!(
        output.index,
        Index::new(502),
        "a no-op of the new term, then this"
    );
    assert!(handle.status().ballot > Ballot::term(7));
    single.replica.stop().await;
    single.log.close().unwrap();
}

async fn proposals_over_the_limits_are_refused_with_certain_errors(algorithm: Algorithm) {
    let mut cluster = Cluster::start_with(algorithm, 3, |config| {
        config.limits.max_proposal_bytes = 1_000;
        config.limits.max_pending_proposals = 4;
        config.limits.max_pending_reads = 4;
    });
    let leader = cluster.leader().await;
    let handle = cluster.handle(leader);
    let large = handle
        .propose(Bytes::from(vec![0; 1_001]), soon())
        .await
        .unwrap_err();
    assert_eq!(
        large,
        ProposeError::TooLarge {
            bytes: 1_001,
            limit: 1_000
        }
    );
    cluster.isolate(leader, true);
    let mut role = handle.watch_role();
    role.wait_for(|now| now.leader.is_none()).await.unwrap();
    let deadline = clock::now() + Duration::from_millis(300);
    let attempts = (0..10).map(|_| handle.propose(Bytes::from_static(b"a=1"), deadline));
    let results = futures::future::join_all(attempts).await;
    let count = |error: &ProposeError| {
        results
            .iter()
            .filter(|result| result.as_ref().is_err_and(|found| found == error))
            .count()
    };
    assert_eq!(count(&ProposeError::TooBusy), 6);
    assert_eq!(count(&ProposeError::NoLeader), 4);
    let reads = (0..10).map(|_| handle.read(ReadMode::Index, deadline));
    let results = futures::future::join_all(reads).await;
    assert_eq!(
        results
            .iter()
            .filter(|result| **result == Err(ReadError::TooBusy))
            .count(),
        6
    );
    // The answered requests made room.
    cluster.isolate(leader, false);
    for _ in 0..10 {
        cluster.put(leader, "a", "2").await;
        handle.read(ReadMode::Index, soon()).await.unwrap();
    }
    cluster.stop_all().await;
}

async fn an_idle_replica_stops_promptly_and_gives_no_answers_afterwards(algorithm: Algorithm) {
    let single = single(algorithm, Disk::new(), |_| None);
    let handle = single.replica.handle();
    handle
        .propose(Bytes::from_static(b"a=1"), soon())
        .await
        .unwrap();
    single.replica.stop().await;
    let error = handle
        .propose(Bytes::from_static(b"a=2"), soon())
        .await
        .unwrap_err();
    assert!(error.is_certain());
    assert_eq!(error, ProposeError::NotRunning);
    let error = handle
        .wait_applied(Index::new(1_000), soon())
        .await
        .unwrap_err();
    assert_eq!(error, ReadError::Stopped);
    assert!(handle.watch_fault().borrow().is_none());
    single.log.close().unwrap();
}
