//! Waiting for locks: which callers are woken, which fail, and how a cancelled call is cleaned up.

use std::time::Duration;

use etcd_client::{
    Client, ConnectOptions, Error, GetOptions, LeaderKey, LockOptions, LockResponse, Permission,
    ProclaimOptions, RoleRevokePermissionOptions,
};
use synod_consensus::{Algorithm, Config, Node};
use synod_runtime::{clock, task};
use tokio::task::JoinHandle;
use tonic::Code;

use crate::http::get;
use crate::support::{Cluster, SOON, address, again, client, configs, eventually, status};

on_both! {
    a_release_wakes_waiters_on_every_member,
    leaders_change_while_a_caller_waits,
    a_member_that_stops_sends_its_waiters_away,
    a_call_that_was_given_up_does_not_take_the_lock_from_a_later_one,
    a_lease_that_ends_while_its_owner_waits_fails_the_call_at_once,
    a_deadline_ends_the_wait,
    a_holder_whose_second_call_is_cancelled_keeps_the_lock,
    a_caller_that_goes_while_there_is_no_leader_leaves_later,
    a_refused_proclaim_leaves_no_lease,
    a_waiter_whose_permission_is_revoked_does_not_get_the_lock,
}

type Locking = JoinHandle<Result<LockResponse, Error>>;

async fn lease(client: &Client) -> i64 {
    client.clone().lease_grant(600, None).await.unwrap().id()
}

fn lock(client: &Client, lease: i64) -> Locking {
    let mut client = client.clone();
    task::spawn("lock", async move {
        client
            .lock("l", Some(LockOptions::new().with_lease(lease)))
            .await
    })
}

async fn answer(locking: Locking) -> Result<LockResponse, Error> {
    clock::timeout(SOON, locking).await.unwrap().unwrap()
}

async fn queued(client: &Client, count: usize) {
    eventually("the queue to change", || async {
        let prefix = GetOptions::new().with_prefix();
        let got = client.clone().get("l/", Some(prefix)).await.unwrap();
        (got.kvs().len() == count).then_some(())
    })
    .await;
}

/// How many calls wait on the member.
async fn waiters(node: &Node) -> u64 {
    let (_, text) = get(address(node), "/metrics").await;
    let line = text
        .lines()
        .find(|line| line.starts_with("synod_lock_waiters "));
    line.unwrap().rsplit_once(' ').unwrap().1.parse().unwrap()
}

async fn waiting(node: &Node, count: u64) {
    eventually("the number of waiters", || async {
        (waiters(node).await == count).then_some(())
    })
    .await;
}

async fn a_release_wakes_waiters_on_every_member(algorithm: Algorithm) {
    let cluster = Cluster::of(algorithm, 3).await;
    let mut clients = Vec::new();
    for node in 0..3 {
        clients.push(cluster.client(node).await);
    }
    let mut calls = Vec::new();
    for turn in 0..9 {
        let client = &clients[turn % 3];
        calls.push((turn % 3, lock(client, lease(client).await)));
        queued(client, turn + 1).await;
    }
    let mut revision = 0;
    for (node, call) in calls {
        let held = answer(call).await.unwrap();
        // The header is that of a read which saw the release.
        let found = held.header().unwrap();
        assert!(found.revision() > revision, "{found:?} after {revision}");
        assert_eq!(found.member_id(), cluster.nodes[node].member_id().get());
        let released = clients[(node + 1) % 3].unlock(held.key()).await.unwrap();
        revision = released.header().unwrap().revision() - 1;
    }
    for node in &cluster.nodes {
        waiting(node, 0).await;
    }
    cluster.stop().await;
}

async fn leaders_change_while_a_caller_waits(algorithm: Algorithm) {
    let cluster = Cluster::of(algorithm, 3).await;
    let leader = cluster.leader().await;
    let (mut holder, follower) = (
        cluster.client(leader).await,
        cluster.client((leader + 1) % 3).await,
    );
    let held = answer(lock(&holder, lease(&holder).await)).await.unwrap();
    let waits = lock(&follower, lease(&follower).await);
    queued(&holder, 2).await;
    for step in 1..=2 {
        let target = cluster.nodes[(leader + step) % 3].member_id().get();
        let mut mover = cluster.client(cluster.leader().await).await;
        mover.move_leader(target).await.unwrap();
    }
    assert!(!waits.is_finished(), "the lock is held");
    holder.unlock(held.key()).await.unwrap();
    answer(waits).await.unwrap();
    cluster.stop().await;
}

async fn a_member_that_stops_sends_its_waiters_away(algorithm: Algorithm) {
    let mut cluster = Cluster::of(algorithm, 3).await;
    let leader = cluster.leader().await;
    let holder = cluster.client(leader).await;
    answer(lock(&holder, lease(&holder).await)).await.unwrap();
    let stopped = (leader + 1) % 3;
    let follower = cluster.client(stopped).await;
    let waits = lock(&follower, lease(&follower).await);
    queued(&holder, 2).await;
    let node = cluster.nodes.remove(stopped);
    node.shutdown().await;
    let (code, text) = status(answer(waits).await);
    assert_eq!(
        (code, &*text),
        (Code::Unavailable, "etcdserver: server stopped")
    );
    queued(&holder, 1).await;
    cluster.stop().await;
}

async fn a_call_that_was_given_up_does_not_take_the_lock_from_a_later_one(algorithm: Algorithm) {
    let cluster = Cluster::of(algorithm, 1).await;
    let node = &cluster.nodes[0];
    let mut client = cluster.client(0).await;
    let held = answer(lock(&client, lease(&client).await)).await.unwrap();
    let own = lease(&client).await;
    let given_up = lock(&client, own);
    waiting(node, 1).await;
    queued(&client, 2).await;
    let later = lock(&client, own);
    waiting(node, 2).await;
    // It is behind the first call: its transaction was applied.
    eventually("the later call to write the key", || async {
        let got = client
            .clone()
            .get(format!("l/{own:x}"), None)
            .await
            .unwrap();
        (got.kvs()[0].version() == 2).then_some(())
    })
    .await;
    given_up.abort();
    waiting(node, 1).await;
    client.unlock(held.key()).await.unwrap();
    let held = answer(later).await.unwrap();
    assert_eq!(held.key(), format!("l/{own:x}").as_bytes());
    // The last call leaves the queue when it is cancelled.
    let other = lock(&client, lease(&client).await);
    queued(&client, 2).await;
    other.abort();
    queued(&client, 1).await;
    waiting(node, 0).await;
    cluster.stop().await;
}

async fn a_lease_that_ends_while_its_owner_waits_fails_the_call_at_once(algorithm: Algorithm) {
    let cluster = Cluster::of(algorithm, 1).await;
    let mut client = cluster.client(0).await;
    answer(lock(&client, lease(&client).await)).await.unwrap();
    // One lease is revoked, the other expires.
    let revoked = lease(&client).await;
    let short = client.lease_grant(2, None).await.unwrap().id();
    let calls = [lock(&client, revoked), lock(&client, short)];
    queued(&client, 3).await;
    client.lease_revoke(revoked).await.unwrap();
    for call in calls {
        let (code, text) = status(answer(call).await);
        assert_eq!((code, &*text), (Code::Unknown, "mutex: session is expired"));
    }
    waiting(&cluster.nodes[0], 0).await;
    cluster.stop().await;
}

async fn a_deadline_ends_the_wait(algorithm: Algorithm) {
    let cluster = Cluster::of(algorithm, 1).await;
    let client = cluster.client(0).await;
    answer(lock(&client, lease(&client).await)).await.unwrap();
    // Sent by hand: a client's library ends the call itself.
    let stream = tokio::net::TcpStream::connect(address(&cluster.nodes[0]))
        .await
        .unwrap();
    let (requests, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = task::spawn("connection", connection);
    let request = http::Request::post("http://synod/v3lockpb.Lock/Lock")
        .header("content-type", "application/grpc")
        .header("grpc-timeout", "300m")
        .body(())
        .unwrap();
    let mut requests = requests.ready().await.unwrap();
    let (ended, mut message) = requests.send_request(request, false).unwrap();
    // The name "l", and no lease.
    let name = bytes::Bytes::from_static(b"\0\0\0\0\x03\x0a\x01l");
    message.send_data(name, true).unwrap();
    let ended = clock::timeout(SOON, ended).await.unwrap().unwrap();
    assert_eq!(ended.headers()["grpc-status"], "4", "DEADLINE_EXCEEDED");
    connection.abort();
    queued(&client, 1).await;
    waiting(&cluster.nodes[0], 0).await;
    cluster.stop().await;
}

async fn a_holder_whose_second_call_is_cancelled_keeps_the_lock(algorithm: Algorithm) {
    let cluster = Cluster::of(algorithm, 1).await;
    let mut client = cluster.client(0).await;
    let own = lease(&client).await;
    let held = answer(lock(&client, own)).await.unwrap();
    let waits = lock(&client, lease(&client).await);
    waiting(&cluster.nodes[0], 1).await;
    // At every moment of a call: before its transaction, during it, and before the answer.
    for micros in (0..6_000).step_by(30) {
        let second = lock(&client, own);
        clock::sleep(Duration::from_micros(micros)).await;
        second.abort();
    }
    // Gives those who leave some time.
    answer(lock(&client, own)).await.unwrap();
    waiting(&cluster.nodes[0], 1).await;
    assert!(!waits.is_finished(), "two holders");
    queued(&client, 2).await;
    client.unlock(held.key()).await.unwrap();
    answer(waits).await.unwrap();
    cluster.stop().await;
}

async fn a_caller_that_goes_while_there_is_no_leader_leaves_later(algorithm: Algorithm) {
    let dir = tempfile::tempdir().unwrap();
    let mut configs = configs(3, dir.path());
    for config in &mut configs {
        config.algorithm = Some(algorithm);
    }
    let later: Vec<Config> = configs[1..].iter().map(again).collect();
    let starts = configs.into_iter().map(Node::start);
    let mut nodes = futures::future::try_join_all(starts).await.unwrap();
    for node in &nodes {
        node.ready(SOON).await.unwrap();
    }
    let mut first = client(&nodes[0]).await;
    let held = answer(lock(&first, lease(&first).await)).await.unwrap();
    let gone = lock(&first, lease(&first).await);
    queued(&first, 2).await;
    for node in nodes.drain(1..) {
        node.shutdown().await;
    }
    gone.abort();
    // A put that is sent later fails later than the first attempt to leave.
    first.put("k", "", None).await.unwrap_err();
    let starts = later.into_iter().map(Node::start);
    nodes.extend(futures::future::try_join_all(starts).await.unwrap());
    for node in &nodes {
        node.ready(SOON).await.unwrap();
    }
    queued(&first, 1).await;
    waiting(&nodes[0], 0).await;
    first.unlock(held.key()).await.unwrap();
    for node in nodes {
        node.shutdown().await;
    }
}

async fn a_refused_proclaim_leaves_no_lease(algorithm: Algorithm) {
    let cluster = Cluster::of(algorithm, 1).await;
    let mut client = cluster.client(0).await;
    let own = lease(&client).await;
    let won = client.campaign("e", "", own).await.unwrap();
    let leader = won.leader().unwrap();
    // As if another term had begun: with the create revision of an earlier key.
    let former = LeaderKey::new()
        .with_name(leader.name())
        .with_key(leader.key())
        .with_rev(leader.rev() - 1);
    let options = Some(ProclaimOptions::new().with_leader(former));
    let (code, text) = status(client.proclaim("v", options).await);
    assert_eq!((code, &*text), (Code::Unknown, "election: not leader"));
    let leases = client.leases().await.unwrap();
    let ids: Vec<i64> = leases.leases().iter().map(|lease| lease.id()).collect();
    assert_eq!(ids, [own]);
    cluster.stop().await;
}

async fn a_waiter_whose_permission_is_revoked_does_not_get_the_lock(algorithm: Algorithm) {
    let cluster = Cluster::of(algorithm, 1).await;
    let mut nobody = cluster.client(0).await;
    for (name, role) in [("root", "root"), ("alice", "locks")] {
        nobody.user_add(name, "pw", None).await.unwrap();
        nobody.role_add(role).await.unwrap();
        nobody.user_grant_role(name, role).await.unwrap();
    }
    let locks = Permission::read_write("l/").with_prefix();
    nobody.role_grant_permission("locks", locks).await.unwrap();
    nobody.auth_enable().await.unwrap();
    let log_in = async |name: &str| {
        let options = ConnectOptions::new().with_user(name, "pw");
        let urls = cluster.nodes[0].client_urls();
        Client::connect(urls, Some(options)).await.unwrap()
    };
    let (mut root, alice) = (log_in("root").await, log_in("alice").await);
    let held = answer(lock(&alice, lease(&alice).await)).await.unwrap();
    let waits = lock(&alice, lease(&alice).await);
    waiting(&cluster.nodes[0], 1).await;
    let whole = RoleRevokePermissionOptions::new().with_prefix();
    root.role_revoke_permission("locks", "l/", Some(whole))
        .await
        .unwrap();
    root.unlock(held.key()).await.unwrap();
    let (code, text) = status(answer(waits).await);
    assert_eq!(code, Code::PermissionDenied, "{text}");
    // The member leaves the queue in its own name.
    queued(&root, 0).await;
    cluster.stop().await;
}
