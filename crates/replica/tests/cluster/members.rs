use bytes::Bytes;
use synod_consensus_core::{Algorithm, Change, ChangeError, Rejected};
use synod_replica::ProposeError;

use crate::harness::{Cluster, eventually, soon};

on_both! {
    a_learner_is_added_promoted_and_a_voter_removed,
    an_invalid_change_is_refused_everywhere_with_a_certain_error,
}

async fn a_learner_is_added_promoted_and_a_voter_removed(algorithm: Algorithm) {
    let mut cluster = Cluster::start(algorithm, 3);
    let leader = cluster.leader().await;
    for number in 0..20 {
        cluster.put(leader, &format!("k{number}"), "v").await;
    }
    let joiner = cluster.join(4);
    let handle = cluster.handle(leader);
    let context = Bytes::from_static(b"its name");
    handle
        .change_members(vec![Change::AddLearner(joiner)], context, soon())
        .await
        .unwrap();
    let disk = cluster.disk(joiner);
    eventually("the learner has everything", || {
        let live = disk.live.lock();
        live.map.contains_key(b"k19".as_slice()) && live.meta.membership.learners.contains(&joiner)
    })
    .await;

    let promote = || handle.change_members(vec![Change::Promote(joiner)], Bytes::new(), soon());
    loop {
        match promote().await {
            Ok(_) => break,
            Err(ProposeError::Rejected(
                Rejected::LearnerNotReady | Rejected::ConfigChangeInFlight,
            )) => tokio::task::yield_now().await,
            Err(other) => panic!("{other}"),
        }
    }
    eventually("four voters", || {
        disk.live.lock().meta.membership.voters.len() == 4
    })
    .await;

    let gone = cluster
        .nodes
        .keys()
        .copied()
        .find(|id| *id != leader && *id != joiner)
        .unwrap();
    let remove = || handle.change_members(vec![Change::Remove(gone)], Bytes::new(), soon());
    while let Err(error) = remove().await {
        assert_eq!(
            error,
            ProposeError::Rejected(Rejected::ConfigChangeInFlight)
        );
        tokio::task::yield_now().await;
    }
    eventually("three voters again", || {
        let live = disk.live.lock();
        let membership = &live.meta.membership;
        membership.voters.len() == 3 && !membership.is_joint() && !membership.contains(gone)
    })
    .await;
    // It learns of its removal and reports it.
    let removed = cluster.handle(gone);
    eventually("the removed node knows", || removed.status().removed).await;
    cluster.isolate(gone, true);
    cluster.stop(gone).await;
    cluster.put(joiner, "after", "removal").await;
    cluster.converge().await;
    cluster.stop_all().await;
}

async fn an_invalid_change_is_refused_everywhere_with_a_certain_error(algorithm: Algorithm) {
    let mut cluster = Cluster::start(algorithm, 3);
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    for at in [leader, follower] {
        let twice = vec![Change::AddVoter(follower)];
        let error = cluster
            .handle(at)
            .change_members(twice, Bytes::new(), soon())
            .await
            .unwrap_err();
        let reason = Rejected::InvalidChange(ChangeError::AlreadyMember(follower));
        assert_eq!(error, ProposeError::Rejected(reason));
        assert!(error.is_certain());
    }
    cluster.stop_all().await;
}
