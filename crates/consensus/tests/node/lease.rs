//! Leases through the client.

use std::time::Duration;

use etcd_client::{
    Client, EventType, LeaseGrantOptions, LeaseTimeToLiveOptions, PutOptions, WatchOptions,
};
use synod_consensus::Algorithm;
use synod_runtime::clock;
use tonic::Code;

use crate::support::{Cluster, SOON, eventually, status};

on_both! {
    what_is_left_of_a_lease_survives_a_change_of_leader,
    leases_end_even_if_the_leader_that_granted_them_is_gone,
}

async fn put_with_lease(client: &mut Client, key: &str, lease: i64) {
    client
        .put(key, "v", Some(PutOptions::new().with_lease(lease)))
        .await
        .unwrap();
}

async fn remaining(client: &mut Client, lease: i64) -> i64 {
    client.lease_time_to_live(lease, None).await.unwrap().ttl()
}

#[tokio::test]
async fn grants_and_revocations() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0).await;
    let chosen = |id| Some(LeaseGrantOptions::new().with_id(id));
    let granted = client.lease_grant(60, chosen(42)).await.unwrap();
    assert_eq!((granted.id(), granted.ttl(), granted.error()), (42, 60, ""));
    assert_eq!(
        granted.header().unwrap().revision(),
        1,
        "a lease is no change of a key"
    );
    let (code, text) = status(client.lease_grant(60, chosen(42)).await);
    assert_eq!(
        (code, &*text),
        (Code::FailedPrecondition, "etcdserver: lease already exists")
    );
    let (code, text) = status(client.lease_grant(9_000_000_001, None).await);
    assert_eq!(
        (code, &*text),
        (Code::OutOfRange, "etcdserver: too large lease TTL")
    );
    // At least one and a half election timeouts in whole seconds, also for zero or less.
    for asked in [1, 0, -5] {
        assert_eq!(
            client
                .lease_grant(asked, chosen(100 + asked))
                .await
                .unwrap()
                .ttl(),
            2
        );
    }
    let picked = client.lease_grant(60, None).await.unwrap();
    assert!(picked.id() > 0);

    put_with_lease(&mut client, "b", 42).await;
    put_with_lease(&mut client, "a", 42).await;
    put_with_lease(&mut client, "c", 42).await;
    client.put("c", "detached", None).await.unwrap();
    let keys = LeaseTimeToLiveOptions::new().with_keys();
    let described = client.lease_time_to_live(42, Some(keys)).await.unwrap();
    assert_eq!((described.id(), described.granted_ttl()), (42, 60));
    assert!((55..=60).contains(&described.ttl()));
    assert_eq!(described.keys(), [b"a", b"b"]);
    let (code, text) = status(
        client
            .put("d", "v", Some(PutOptions::new().with_lease(43)))
            .await,
    );
    assert_eq!(
        (code, &*text),
        (Code::NotFound, "etcdserver: requested lease not found")
    );

    let mut stream = client
        .watch("", Some(WatchOptions::new().with_all_keys()))
        .await
        .unwrap();
    assert!(stream.message().await.unwrap().unwrap().created());
    let revoked = client.lease_revoke(42).await.unwrap();
    assert_eq!(revoked.header().unwrap().revision(), 6);
    let response = clock::timeout(SOON, stream.message())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    let deleted: Vec<_> = response
        .events()
        .iter()
        .map(|event| {
            assert_eq!(event.event_type(), EventType::Delete);
            let kv = event.kv().unwrap();
            (kv.key_str().unwrap().to_owned(), kv.mod_revision())
        })
        .collect();
    assert_eq!(
        deleted,
        [("a".to_owned(), 6), ("b".to_owned(), 6)],
        "sorted, in one revision"
    );
    let (code, text) = status(client.lease_revoke(42).await);
    assert_eq!(
        (code, &*text),
        (Code::NotFound, "etcdserver: requested lease not found")
    );
    let gone = client.lease_time_to_live(42, None).await.unwrap();
    assert_eq!((gone.id(), gone.ttl(), gone.granted_ttl()), (42, -1, 0));
    let left: Vec<i64> = client
        .leases()
        .await
        .unwrap()
        .leases()
        .iter()
        .map(|l| l.id())
        .collect();
    assert!(left.contains(&picked.id()) && !left.contains(&42));
    cluster.stop().await;
}

#[tokio::test]
async fn a_lease_that_is_not_renewed_ends_with_its_keys_and_a_renewed_one_lives() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0).await;
    let begun = clock::now();
    let silent = client.lease_grant(2, None).await.unwrap().id();
    let living = client.lease_grant(2, None).await.unwrap().id();
    put_with_lease(&mut client, "silent", silent).await;
    put_with_lease(&mut client, "living", living).await;
    let options = WatchOptions::new().with_all_keys();
    let mut stream = client.watch("", Some(options)).await.unwrap();
    assert!(stream.message().await.unwrap().unwrap().created());
    let (mut keeper, mut answers) = client.lease_keep_alive(living).await.unwrap();
    let keeping = async {
        loop {
            keeper.keep_alive().await.unwrap();
            assert_eq!(answers.message().await.unwrap().unwrap().ttl(), 2);
            clock::sleep(Duration::from_millis(200)).await;
        }
    };
    let ended = tokio::select! {
        ended = clock::timeout(SOON, stream.message()) => ended.unwrap().unwrap().unwrap(),
        () = keeping => unreachable!("the keeper goes on for ever"),
    };
    let kv = ended.events()[0].kv().unwrap();
    assert_eq!((ended.events().len(), kv.key()), (1, &b"silent"[..]));
    assert!(
        clock::now() - begun >= Duration::from_secs(2),
        "not before its time"
    );
    // The client reports a TTL of zero like this.
    let dead = client.lease_keep_alive(silent).await.unwrap_err();
    assert!(
        matches!(dead, etcd_client::Error::LeaseKeepAliveError(_)),
        "{dead}"
    );
    assert_eq!(client.leases().await.unwrap().leases().len(), 1);
    cluster.stop().await;
}

#[tokio::test]
async fn many_leases_that_run_out_together_are_all_revoked() {
    const LEASES: usize = 2500;
    let cluster = Cluster::start(1).await;
    let client = cluster.client(0).await;
    let grants = (0..LEASES).map(|_| {
        let mut client = client.clone();
        async move { client.lease_grant(1, None).await.unwrap().id() }
    });
    futures::future::join_all(grants).await;
    eventually("all leases to end", || {
        let mut client = client.clone();
        async move {
            client
                .leases()
                .await
                .unwrap()
                .leases()
                .is_empty()
                .then_some(())
        }
    })
    .await;
    cluster.stop().await;
}

#[tokio::test]
async fn followers_pass_renewals_and_questions_on_to_the_leader() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let mut client = cluster.client((leader + 1) % 3).await;
    let lease = client.lease_grant(2, None).await.unwrap().id();
    put_with_lease(&mut client, "k", lease).await;
    let (mut keeper, mut answers) = client.lease_keep_alive(lease).await.unwrap();
    let begun = clock::now();
    while clock::now() - begun < Duration::from_secs(4) {
        keeper.keep_alive().await.unwrap();
        let answer = answers.message().await.unwrap().unwrap();
        assert_eq!((answer.id(), answer.ttl()), (lease, 2));
        let described = client.lease_time_to_live(lease, None).await.unwrap();
        assert!((1..=2).contains(&described.ttl()), "{}", described.ttl());
        let member = cluster.nodes[(leader + 1) % 3].member_id().get();
        assert_eq!(described.header().unwrap().member_id(), member);
        clock::sleep(Duration::from_millis(300)).await;
    }
    assert_eq!(client.get("k", None).await.unwrap().kvs().len(), 1);
    client.lease_revoke(lease).await.unwrap();
    keeper.keep_alive().await.unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap().ttl(), 0);
    // When the node stops its streams end with that error.
    let ((), ended) = futures::future::join(cluster.stop(), answers.message()).await;
    assert_eq!(
        status(ended),
        (Code::Unavailable, "etcdserver: server stopped".to_owned())
    );
}

async fn what_is_left_of_a_lease_survives_a_change_of_leader(algorithm: Algorithm) {
    let cluster = Cluster::of(algorithm, 3).await;
    let leader = cluster.leader().await;
    let mut client = cluster.client(leader).await;
    let lease = client.lease_grant(60, None).await.unwrap().id();
    eventually("three seconds of it to pass", || {
        let mut client = client.clone();
        async move { (remaining(&mut client, lease).await <= 57).then_some(()) }
    })
    .await;
    let next = (leader + 1) % 3;
    client
        .move_leader(cluster.nodes[next].member_id().get())
        .await
        .unwrap();
    eventually("the leadership to move", || async {
        cluster.nodes[next].is_leader().then_some(())
    })
    .await;
    // A new leader extends leases by a second, and the rest is rounded up.
    let mut client = cluster.client(next).await;
    let left = remaining(&mut client, lease).await;
    assert!((30..=59).contains(&left), "{left}");

    // A renewal resets the recorded time: the next leader starts with the full TTL.
    let (mut keeper, mut answers) = client.lease_keep_alive(lease).await.unwrap();
    let renewed = clock::now();
    keeper.keep_alive().await.unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap().ttl(), 60);
    client
        .move_leader(cluster.nodes[leader].member_id().get())
        .await
        .unwrap();
    let left = remaining(&mut client, lease).await;
    let passed = i64::try_from((clock::now() - renewed).as_secs()).unwrap() + 1;
    assert!(
        (60 - passed..=60).contains(&left),
        "{left} after {passed} s"
    );
    cluster.stop().await;
}

async fn leases_end_even_if_the_leader_that_granted_them_is_gone(algorithm: Algorithm) {
    let mut cluster = Cluster::of(algorithm, 3).await;
    let leader = cluster.leader().await;
    let mut client = cluster.client(leader).await;
    let lease = client.lease_grant(3, None).await.unwrap().id();
    put_with_lease(&mut client, "k", lease).await;
    cluster.nodes.remove(leader).shutdown().await;
    let client = cluster.client(0).await;
    eventually("the key to go with its lease", || {
        let mut client = client.clone();
        async move {
            client
                .get("k", None)
                .await
                .unwrap()
                .kvs()
                .is_empty()
                .then_some(())
        }
    })
    .await;
    cluster.stop().await;
}
