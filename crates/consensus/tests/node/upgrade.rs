//! Upgrades: two releases in one cluster, a release on an earlier one's data, and refused
//! downgrades.

use std::time::Duration;

use etcd_client::MemberAddOptions;
use synod_consensus::{Algorithm, Node};
use synod_proto::etcd::etcdserverpb as pb;
use synod_runtime::clock;

use crate::support::{SOON, again, client, config, configs, eventually, raw_kv, refused};

/// The release before the first feature level.
const OLD: u32 = 0;
/// The level from which on the response of a write is bounded.
const BOUNDED_WRITES: u32 = 1;
/// The highest level of this release.
const NEWEST: u32 = 3;

/// A write with a response over the bound.
fn large_reply() -> pb::TxnRequest {
    use pb::request_op::Request;
    let put = Request::RequestPut(pb::PutRequest {
        key: "done".into(),
        ..Default::default()
    });
    let range = Request::RequestRange(pb::RangeRequest {
        key: "k".into(),
        range_end: "l".into(),
        ..Default::default()
    });
    let ops = [put, range].map(|request| pb::RequestOp {
        request: Some(request),
    });
    pb::TxnRequest {
        success: ops.to_vec(),
        ..Default::default()
    }
}

async fn all_use(nodes: &[Node], level: u32) {
    eventually("the feature level everywhere", || async {
        let reached = nodes.iter().all(|node| node.feature_level() == level);
        reached.then_some(())
    })
    .await;
}

async fn rolling_upgrade(algorithm: Algorithm) {
    let dir = tempfile::tempdir().unwrap();
    let mut first = configs(3, dir.path());
    for config in &mut first {
        config.algorithm = Some(algorithm);
        config.feature_level = OLD;
    }
    let next: Vec<_> = first.iter().map(again).collect();
    let starts = first.into_iter().map(Node::start);
    let mut nodes = futures::future::try_join_all(starts).await.unwrap();
    nodes[0].ready(SOON).await.unwrap();
    for number in 0..34 {
        let key = format!("k{number:02}");
        let mut client = client(&nodes[0]).await;
        client.put(key, vec![7_u8; 1 << 20], None).await.unwrap();
    }
    for (at, mut config) in next.into_iter().enumerate() {
        // While a member runs the old release, entries do what they do there.
        let answer = raw_kv(&nodes[at]).await.txn(large_reply()).await.unwrap();
        assert!(answer.into_inner().succeeded, "member {at}");
        assert!(nodes.iter().all(|node| node.feature_level() == OLD));
        config.feature_level = BOUNDED_WRITES;
        nodes.remove(at).shutdown().await;
        nodes.insert(at, Node::start(config).await.unwrap());
        nodes[at].ready(SOON).await.unwrap();
    }
    all_use(&nodes, BOUNDED_WRITES).await;
    let error = raw_kv(&nodes[0])
        .await
        .txn(large_reply())
        .await
        .unwrap_err();
    assert!(error.message().contains("return fewer pairs"), "{error}");
    // All members have the same data, whichever release applied the entries.
    let mut hashes = Vec::new();
    for node in &nodes {
        node.ready(SOON).await.unwrap();
        hashes.push(client(node).await.hash_kv(0).await.unwrap().hash());
    }
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
    for node in nodes {
        node.shutdown().await;
    }
}

#[tokio::test]
async fn a_rolling_upgrade_changes_what_entries_do_once_all_members_have_it_raft() {
    Box::pin(rolling_upgrade(Algorithm::Raft)).await;
}

#[tokio::test]
async fn a_rolling_upgrade_changes_what_entries_do_once_all_members_have_it_multi_paxos() {
    Box::pin(rolling_upgrade(Algorithm::MultiPaxos)).await;
}

#[tokio::test]
async fn a_member_that_goes_back_to_an_old_release_is_refused_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let first = configs(3, dir.path());
    let next = [again(&first[2]), again(&first[2])];
    let starts = first.into_iter().map(Node::start);
    let mut nodes = futures::future::try_join_all(starts).await.unwrap();
    all_use(&nodes, NEWEST).await;
    nodes.pop().unwrap().shutdown().await;
    let [mut old, new] = next;
    old.feature_level = OLD;
    let why = refused(old).await;
    let expected = format!("uses feature level {NEWEST}, and this member has level {OLD}");
    assert!(why.contains(&expected), "{why}");
    let node = Node::start(new).await.unwrap();
    node.ready(SOON).await.unwrap();
    nodes.push(node);
    for node in nodes {
        node.shutdown().await;
    }
}

#[tokio::test]
async fn the_level_waits_for_members_that_were_added_and_never_connected() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = config("a", dir.path());
    first.feature_level = OLD;
    let mut next = again(&first);
    next.feature_level = BOUNDED_WRITES;
    let node = Node::start(first).await.unwrap();
    node.ready(SOON).await.unwrap();
    // The new member does not run, so it stays a learner.
    let options = MemberAddOptions::new().with_is_learner();
    let adding = client(&node)
        .await
        .member_add(["http://127.0.0.1:1"], Some(options))
        .await;
    let learner = adding.unwrap().member().unwrap().id();
    node.shutdown().await;

    let node = Node::start(next).await.unwrap();
    node.ready(SOON).await.unwrap();
    // The leader looks twice a second, and nothing shows that it left the level as it is.
    let enough = clock::now() + Duration::from_millis(1_500);
    while clock::now() < enough {
        assert_eq!(node.feature_level(), OLD);
        clock::sleep(Duration::from_millis(20)).await;
    }
    client(&node).await.member_remove(learner).await.unwrap();
    all_use(std::slice::from_ref(&node), BOUNDED_WRITES).await;
    node.shutdown().await;
}

/// Starts this release on the data of another one.
async fn reads_data_of(release: &str, algorithm: Algorithm) {
    let dir = tempfile::tempdir().unwrap();
    let name = format!("{release}-{algorithm}");
    let archive = format!(
        "{}/tests/fixtures/{name}.tar.gz",
        env!("CARGO_MANIFEST_DIR")
    );
    let archive = std::fs::File::open(archive).unwrap();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(archive));
    archive.unpack(dir.path()).unwrap();
    let mut config = config("fixture", dir.path());
    config.data_dir = dir.path().join(&name);
    let next = again(&config);
    let node = Node::start(config).await.unwrap();
    node.ready(SOON).await.unwrap();
    assert_eq!(node.algorithm(), algorithm);
    let mut client = client(&node).await;
    let reader = client.clone();
    let value = async |key: &str, revision: i64| {
        let options = etcd_client::GetOptions::new().with_revision(revision);
        let mut client = reader.clone();
        let got = client.get(key, Some(options)).await.unwrap();
        got.kvs()
            .first()
            .map(|kv| kv.value_str().unwrap().to_owned())
    };
    assert_eq!(value("key-1", 0).await.as_deref(), Some("value-1-b"));
    assert_eq!(value("key-15", 0).await.as_deref(), Some("value-15-a"));
    assert_eq!(value("txn", 0).await.as_deref(), Some("yes"));
    assert_eq!(value("key-20", 0).await, None);
    let now = client.get("txn", None).await.unwrap();
    let last = now.kvs()[0].mod_revision();
    // By the transaction, the deletion, and the first put of the second round.
    assert_eq!(
        value("key-20", last - 2).await.as_deref(),
        Some("value-20-a")
    );
    assert_eq!(
        value("key-1", last - 12).await.as_deref(),
        Some("value-1-a")
    );
    client.put("new", "1", None).await.unwrap();
    all_use(std::slice::from_ref(&node), NEWEST).await;
    node.shutdown().await;

    let node = Node::start(next).await.unwrap();
    node.ready(SOON).await.unwrap();
    let mut client = crate::support::client(&node).await;
    assert_eq!(client.get("new", None).await.unwrap().count(), 1);
    node.shutdown().await;
}

#[tokio::test]
async fn the_data_of_release_0_1_0_is_read_raft() {
    Box::pin(reads_data_of("0.1.0", Algorithm::Raft)).await;
}

#[tokio::test]
async fn the_data_of_release_0_1_0_is_read_multi_paxos() {
    Box::pin(reads_data_of("0.1.0", Algorithm::MultiPaxos)).await;
}
