//! Members come and go.

use std::collections::BTreeMap;
use std::time::Duration;

use etcd_client::MemberAddOptions;
use synod_consensus::{Algorithm, ClusterState, Config, JOINING_METADATA, Node};
use synod_proto::etcd::etcdserverpb::{MemberListRequest, cluster_client::ClusterClient};
use synod_runtime::clock;
use tonic::Code;

use crate::http::get;
use crate::support::{Cluster, SOON, address, again, client, config, eventually, status};

on_both! {
    a_cluster_of_one_grows_by_a_voter_and_shrinks_again,
    a_learner_copies_refuses_and_is_promoted,
    a_new_voter_says_when_it_counts,
    a_removal_waits_for_the_new_voter,
    removals_at_once_leave_a_quorum,
}

/// The configuration of a node that joins `cluster`.
async fn joiner(cluster: &Cluster, name: &str) -> Config {
    let mut config = config(name, cluster.dir.path());
    let members = cluster.client(0).await.member_list().await.unwrap();
    let mut list: BTreeMap<String, Vec<String>> = members
        .members()
        .iter()
        .filter(|member| !member.name().is_empty())
        .map(|member| (member.name().to_owned(), member.peer_urls().to_vec()))
        .collect();
    list.insert(name.to_owned(), config.initial_advertise_peer_urls.clone());
    config.initial_cluster = list;
    config.initial_cluster_state = ClusterState::Existing;
    config
}

async fn a_cluster_of_one_grows_by_a_voter_and_shrinks_again(algorithm: Algorithm) {
    let mut cluster = Cluster::of(algorithm, 1).await;
    let mut first = cluster.client(0).await;
    for n in 0..100 {
        first.put(format!("k{n}"), "v", None).await.unwrap();
    }
    let mut config = joiner(&cluster, "n2").await;
    let urls = config.initial_advertise_peer_urls.clone();
    let added = first.member_add(urls.clone(), None).await.unwrap();
    assert!(!added.member().unwrap().is_learner());
    assert_eq!(added.member_list().len(), 2);
    assert_eq!(
        added.header().unwrap().revision(),
        0,
        "member responses carry no revision"
    );
    // The new member does not run yet, and nothing waits for it.
    first.put("between", "v", None).await.unwrap();
    let (code, _) = status(first.member_add(urls, None).await);
    assert_eq!(code, Code::FailedPrecondition);

    let mut others = Algorithm::ALL.into_iter();
    config.algorithm = others.find(|other| *other != algorithm);
    let next = again(&config);
    let refused = Node::start(config).await.err().unwrap();
    let said = refused.to_string();
    assert!(
        said.contains(&format!("the cluster runs {algorithm}")),
        "{said}"
    );
    let second = Node::start(next).await.unwrap();
    second.ready(SOON).await.unwrap();
    // Without the flag it takes the algorithm of its cluster.
    assert_eq!(second.algorithm(), algorithm);
    let mut to_second = client(&second).await;
    let got = to_second.get("between", None).await.unwrap();
    assert_eq!(got.kvs().len(), 1);
    to_second.put("from the second", "v", None).await.unwrap();
    // Once it has caught up it votes, and the quorum needs both.
    let id = second.member_id().get();
    eventually("the new member to vote", || {
        let mut client = to_second.clone();
        async move {
            client
                .status()
                .await
                .ok()
                .filter(|status| !status.is_learner())
                .map(drop)
        }
    })
    .await;
    let listed = to_second.member_list().await.unwrap();
    assert_eq!(listed.members().len(), 2);

    let removed = first.member_remove(id).await.unwrap();
    assert_eq!(removed.members().len(), 1);
    assert!(matches!(
        second.ended().await,
        synod_consensus::Ended::Removed
    ));
    second.shutdown().await;
    first.put("alone again", "v", None).await.unwrap();
    let (code, text) = status(first.member_remove(id).await);
    assert_eq!(
        (code, &*text),
        (Code::NotFound, "etcdserver: member not found")
    );
    cluster.nodes.pop().unwrap().shutdown().await;
}

/// The members that a node names as not counting yet.
async fn joining(node: &Node) -> String {
    let mut raw = ClusterClient::connect(node.client_urls()[0].clone())
        .await
        .unwrap();
    let request = MemberListRequest { linearizable: true };
    let list = raw.member_list(request).await.unwrap();
    let ids = list.metadata().get(JOINING_METADATA);
    ids.map_or(String::new(), |ids| ids.to_str().unwrap().to_owned())
}

async fn a_new_voter_says_when_it_counts(algorithm: Algorithm) {
    let cluster = Cluster::of(algorithm, 1).await;
    let mut first = cluster.client(0).await;
    assert_eq!(joining(&cluster.nodes[0]).await, "");
    let config = joiner(&cluster, "n2").await;
    let urls = config.initial_advertise_peer_urls.clone();
    let added = first.member_add(urls, None).await.unwrap();
    let id = added.member().unwrap().id();
    // etcd's field says how the member was added.
    let listed = first.member_list().await.unwrap();
    assert!(listed.members().iter().all(|member| !member.is_learner()));
    assert_eq!(joining(&cluster.nodes[0]).await, format!("{id:x}"));
    let address = address(&cluster.nodes[0]);
    let (_, metrics) = get(address, "/metrics").await;
    for line in ["synod_members_joining 1", "synod_member_votes 1"] {
        assert!(metrics.lines().any(|l| l == line), "{line} in {metrics}");
    }

    let second = Node::start(config).await.unwrap();
    let to_second = client(&second).await;
    eventually("the new member to count", || {
        let mut client = to_second.clone();
        async move {
            let status = client.status().await.ok()?;
            (!status.is_learner()).then_some(())
        }
    })
    .await;
    // From now on the quorum needs both.
    assert_eq!(joining(&second).await, "");
    second.shutdown().await;
    let write = clock::timeout(Duration::from_secs(2), first.put("k", "v", None)).await;
    assert!(!matches!(write, Ok(Ok(_))), "one of two wrote: {write:?}");
    cluster.stop().await;
}

async fn a_removal_waits_for_the_new_voter(algorithm: Algorithm) {
    let mut cluster = Cluster::of(algorithm, 3).await;
    let mut first = cluster.client(0).await;
    for n in 0..50 {
        let key = format!("k{n}");
        first.put(key, vec![1_u8; 100_000], None).await.unwrap();
    }
    let config = joiner(&cluster, "n4").await;
    let urls = config.initial_advertise_peer_urls.clone();
    first.member_add(urls, None).await.unwrap();
    let fourth = Node::start(config).await.unwrap();
    eventually("the new member to be known", || {
        let mut client = first.clone();
        async move {
            let list = client.member_list().await.ok()?;
            let known = list.members().iter().all(|m| !m.client_urls().is_empty());
            known.then_some(())
        }
    })
    .await;
    let leader = cluster.leader().await;
    let gone = (leader + 1) % 3;
    let id = cluster.nodes[gone].member_id().get();
    let mut to_leader = cluster.client(leader).await;
    to_leader.member_remove(id).await.unwrap();
    assert_eq!(joining(&cluster.nodes[leader]).await, "");
    cluster.nodes.remove(gone).shutdown().await;
    fourth.shutdown().await;
    cluster.stop().await;
}

/// Of four members three run. One removal leaves a quorum; two would leave one member that runs and
/// one that does not.
async fn removals_at_once_leave_a_quorum(algorithm: Algorithm) {
    let mut cluster = Cluster::start_with(4, |config| {
        config.algorithm = Some(algorithm);
        // All three that run are needed: a busy machine must not make the leader step down.
        config.election_timeout = Duration::from_secs(3);
    })
    .await;
    let leader = cluster.leader().await;
    cluster.nodes.remove((leader + 1) % 4).shutdown().await;
    let leader = cluster.leader().await;
    let address = address(&cluster.nodes[leader]);
    eventually("the leader to miss the fourth", || async {
        let (_, metrics) = get(address, "/metrics").await;
        let connected =
            |line: &&str| line.starts_with("etcd_network_active_peers") && line.ends_with(" 1");
        (metrics.lines().filter(connected).count() == 2).then_some(())
    })
    .await;
    let others = cluster.nodes.iter().filter(|node| !node.is_leader());
    let ids: Vec<u64> = others.map(|node| node.member_id().get()).collect();
    let client = cluster.client(leader).await;
    let removals = ids.iter().map(|id| {
        let mut client = client.clone();
        async move { client.member_remove(*id).await }
    });
    let removed = futures::future::join_all(removals).await;
    // A change of the leader may leave an outcome unknown, but never two members removed.
    let done = removed.iter().filter(|removed| removed.is_ok()).count();
    assert!(done <= 1, "{removed:?}");
    eventually("a write", || async {
        let mut client = client.clone();
        client.put("k", "v", None).await.ok()
    })
    .await;
    let members = client.clone().member_list().await.unwrap();
    assert!(members.members().len() >= 3, "{removed:?}");
    cluster.stop().await;
}

async fn a_learner_copies_refuses_and_is_promoted(algorithm: Algorithm) {
    let cluster = Cluster::of(algorithm, 3).await;
    let mut first = cluster.client(0).await;
    for n in 0..200 {
        first
            .put(format!("k{n}"), vec![1_u8; 1000], None)
            .await
            .unwrap();
    }
    let config = joiner(&cluster, "n4").await;
    let urls = config.initial_advertise_peer_urls.clone();
    let options = MemberAddOptions::new().with_is_learner();
    let added = first.member_add(urls, Some(options)).await.unwrap();
    let id = added.member().unwrap().id();
    assert!(added.member().unwrap().is_learner());
    let other = vec!["http://127.0.0.1:1".to_owned()];
    let options = MemberAddOptions::new().with_is_learner();
    let (_, text) = status(first.member_add(other, Some(options)).await);
    assert_eq!(text, "etcdserver: too many learner members in cluster");
    let (_, text) = status(first.member_promote(id).await);
    assert_eq!(
        text,
        "etcdserver: can only promote a learner member which is in sync with leader"
    );

    let learner = Node::start(config).await.unwrap();
    let mut to_learner = client(&learner).await;
    eventually("the learner to copy", || {
        let mut client = to_learner.clone();
        async move {
            let options = etcd_client::GetOptions::new().with_serializable();
            let got = client.get("k199", Some(options)).await.ok()?;
            (!got.kvs().is_empty()).then_some(())
        }
    })
    .await;
    let (code, text) = status(to_learner.get("k1", None).await);
    assert_eq!(
        (code, &*text),
        (
            Code::FailedPrecondition,
            "etcdserver: rpc not supported for learner"
        )
    );
    assert!(to_learner.status().await.unwrap().is_learner());

    // Any member accepts the request.
    for node in 0..3 {
        let mut client = cluster.client(node).await;
        let promoted = eventually("the promotion", || {
            let mut client = client.clone();
            async move {
                match client.member_promote(id).await {
                    Ok(_) => Some(true),
                    Err(error)
                        if error
                            .to_string()
                            .contains("only promote a learner member which") =>
                    {
                        None
                    }
                    Err(error) => {
                        assert!(
                            error
                                .to_string()
                                .contains("can only promote a learner member"),
                            "{error}"
                        );
                        Some(false)
                    }
                }
            }
        })
        .await;
        assert_eq!(promoted, node == 0, "once");
        client.get("k1", None).await.unwrap();
    }
    learner.ready(SOON).await.unwrap();
    to_learner.put("from the fourth", "v", None).await.unwrap();
    learner.shutdown().await;
    cluster.stop().await;
}

#[tokio::test]
async fn a_node_that_nobody_added_and_one_that_lost_its_data_are_refused() {
    let mut cluster = Cluster::start(1).await;
    let stranger = joiner(&cluster, "n2").await;
    let error = Node::start(stranger).await.err().unwrap().to_string();
    assert!(error.contains("member add"), "{error}");

    let config = joiner(&cluster, "n3").await;
    let urls = config.initial_advertise_peer_urls.clone();
    let mut first = cluster.client(0).await;
    first.member_add(urls, None).await.unwrap();
    let mut lost = again(&config);
    lost.data_dir = cluster.dir.path().join("empty");
    let node = Node::start(config).await.unwrap();
    node.ready(SOON).await.unwrap();
    let id = node.member_id().get();
    eventually("the member to be published", || {
        let mut client = first.clone();
        async move {
            let members = client.member_list().await.ok()?;
            let published = members
                .members()
                .iter()
                .all(|m| !m.client_urls().is_empty());
            published.then_some(())
        }
    })
    .await;
    node.shutdown().await;
    let error = Node::start(lost).await.err().unwrap().to_string();
    assert!(
        error.contains("its data directory is empty") && error.contains(&format!("{id:x}")),
        "{error}"
    );
    cluster.nodes.pop().unwrap().shutdown().await;
}

#[tokio::test]
async fn peer_urls_are_updated_and_bad_ones_refused() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0).await;
    let id = cluster.nodes[0].member_id().get();
    let (code, text) = status(client.member_update(id, vec!["nonsense".to_owned()]).await);
    assert_eq!(
        (code, &*text),
        (
            Code::InvalidArgument,
            "etcdserver: given member URLs are invalid"
        )
    );
    client
        .member_update(id, vec!["http://127.0.0.1:1234".to_owned()])
        .await
        .unwrap();
    let members = client.member_list().await.unwrap();
    assert_eq!(members.members()[0].peer_urls(), ["http://127.0.0.1:1234"]);
    let (code, _) = status(
        client
            .member_update(77, vec!["http://127.0.0.1:1".to_owned()])
            .await,
    );
    assert_eq!(code, Code::NotFound);
    let (_, text) = status(client.member_remove(id).await);
    assert_eq!(
        text,
        "etcdserver: re-configuration failed due to not enough started members"
    );
    cluster.stop().await;
}

#[tokio::test]
async fn of_two_members_with_one_url_only_one_is_added() {
    let cluster = Cluster::start(3).await;
    let add = |node: usize| {
        let cluster = &cluster;
        async move {
            let mut client = cluster.client(node).await;
            let urls = vec!["http://127.0.0.1:1".to_owned()];
            client.member_add(urls, None).await
        }
    };
    let (one, two) = Box::pin(futures::future::join(add(0), add(1))).await;
    assert_eq!(
        u8::from(one.is_ok()) + u8::from(two.is_ok()),
        1,
        "{one:?} {two:?}"
    );
    let mut client = cluster.client(2).await;
    let members = client.member_list().await.unwrap();
    assert_eq!(members.members().len(), 4);
    let added = one.or(two).unwrap().member().unwrap().id();
    client.member_remove(added).await.unwrap();
    assert_eq!(client.member_list().await.unwrap().members().len(), 3);
    cluster.stop().await;
}
