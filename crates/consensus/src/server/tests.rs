mod permissions;

use std::path::Path;
use std::pin::pin;

use synod_proto::etcd::etcdserverpb::lease_server::Lease as _;
use synod_rpc::Listener;
use synod_runtime::shutdown::Shutdown;
use tonic::Request;

use super::*;
use crate::config::InitialCluster;

pub(crate) async fn start(dir: &Path) -> Node {
    let node = Node::start(config("n", dir)).await.unwrap();
    node.ready(Duration::from_secs(60)).await.unwrap();
    node
}

/// Three members of one cluster: a follower, and the others.
pub(crate) async fn start_three(dir: &Path, change: impl Fn(&mut Config)) -> (Node, Vec<Node>) {
    let mut configs = ["a", "b", "c"].map(|name| config(name, &dir.join(name)));
    let mut cluster = InitialCluster::new();
    for config in &mut configs {
        let urls = vec![config.listeners.peer[0].url()];
        config.initial_advertise_peer_urls.clone_from(&urls);
        config.listen_peer_urls.clone_from(&urls);
        cluster.insert(config.name.clone(), urls);
        change(config);
    }
    for config in &mut configs {
        config.initial_cluster.clone_from(&cluster);
    }
    let starting = configs.map(Node::start);
    let mut nodes = futures::future::try_join_all(starting).await.unwrap();
    for node in &nodes {
        node.ready(Duration::from_secs(60)).await.unwrap();
    }
    let follower = nodes.iter().position(|node| !node.is_leader()).unwrap();
    (nodes.remove(follower), nodes)
}

fn config(name: &str, dir: &Path) -> Config {
    let listener = || Listener::bind("127.0.0.1:0").unwrap();
    let mut config = Config::new(name);
    config.data_dir = dir.to_owned();
    config.listeners.client = vec![listener()];
    config.listeners.peer = vec![listener()];
    config
}

#[tokio::test]
async fn a_grant_counts_from_its_answer_and_not_from_its_entry() {
    let temp = tempfile::tempdir().unwrap();
    let node = start(temp.path()).await;
    let (shared, leases) = (Arc::clone(&node.shared), Arc::clone(&node.leases));
    let link = LeaderLink::new(ChannelConfig::default());
    let service = LeaseService::new(shared, leases, link, Shutdown::new());
    let left = || async {
        let request = pb::LeaseTimeToLiveRequest { id: 7, keys: false };
        let answer = service.lease_time_to_live(Request::new(request)).await;
        answer.unwrap().into_inner().ttl
    };
    // The leader answers once it keeps the leases' time.
    assert_eq!(left().await, -1);
    let mut grant =
        pin!(service.lease_grant(Request::new(pb::LeaseGrantRequest { ttl: 9, id: 7 })));
    assert!(futures::poll!(&mut grant).is_pending());
    while !node.leases.contains(7) {
        clock::sleep(Duration::from_millis(1)).await;
    }
    // The entry is applied, and the answer takes more than the second that a TTL can show.
    clock::sleep(Duration::from_millis(1100)).await;
    grant.await.unwrap();
    // Counted from the entry it would be 7 s.
    assert!(left().await >= 8);
    node.shutdown().await;
}
