//! A node that does not start leaves nothing behind. The test has a process of its own, since it
//! counts threads.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests may fail loudly"
)]

use std::fs;
use std::path::Path;
use std::time::Duration;

use synod_consensus::{Config, InitialCluster, Node};
use synod_consensus_core::{Membership, SnapshotMeta};
use synod_log::{Log, LogConfig};
use synod_replica::Completions;
use synod_rpc::Listener;
use synod_runtime::clock;
use synod_types::{Ballot, GroupId, Index, LogPosition, NodeId};

const SOON: Duration = Duration::from_secs(60);

fn config(data_dir: &Path) -> Config {
    let listener = || Listener::bind("127.0.0.1:0").unwrap();
    let url = |listener: &Listener| vec![format!("http://{}", listener.local_addr())];
    let (client, peer) = (listener(), listener());
    let mut config = Config::new("n");
    config.data_dir = data_dir.to_owned();
    config.advertise_client_urls = url(&client);
    config.initial_advertise_peer_urls = url(&peer);
    config.initial_cluster = InitialCluster::from([("n".to_owned(), url(&peer))]);
    config.listeners.client = vec![client];
    config.listeners.peer = Some(peer);
    config
}

async fn refused(config: Config) -> String {
    match Node::start(config).await {
        Err(error) => error.to_string(),
        Ok(_) => panic!("it started"),
    }
}

/// The names of the running threads that a node started.
fn threads() -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("comm")).ok());
    let ours = |name: &String| name.starts_with("synod-") || name.starts_with("fjall");
    names.filter(ours).collect()
}

async fn wait_for_no_threads() {
    let deadline = clock::now() + SOON;
    while !threads().is_empty() {
        assert!(clock::now() < deadline, "still there: {:?}", threads());
        clock::sleep(Duration::from_millis(10)).await;
    }
}

/// Makes the log begin after what the engine has, as if the engine were restored from an old copy.
fn forget_entries(data_dir: &Path, member: NodeId) {
    let dir = data_dir.join("log");
    fs::remove_dir_all(&dir).unwrap();
    fs::create_dir(&dir).unwrap();
    let (log, _) = Log::open(LogConfig::new(dir), Completions::new()).unwrap();
    let start = SnapshotMeta {
        last: LogPosition {
            ballot: Ballot::term(1),
            index: Index::new(1_000_000),
        },
        membership: Membership::of([member]),
    };
    log.bootstrap(GroupId::new(1), start).unwrap();
    log.close().unwrap();
}

/// One test for all, since threads belong to the process.
#[tokio::test]
async fn a_node_that_does_not_start_ends_its_threads_and_frees_its_directory() {
    let temp = tempfile::tempdir().unwrap();
    let data_dir = temp.path().join("data");

    // Ports are bound first. If one is taken nothing else is done.
    let taken = Listener::bind("127.0.0.1:0").unwrap();
    let mut second_port = config(&data_dir);
    let free = "http://127.0.0.1:0".to_owned();
    second_port.listeners.client.clear();
    second_port.listen_client_urls = vec![free, format!("http://{}", taken.local_addr())];
    let text = refused(second_port).await;
    assert!(text.contains(&taken.local_addr().to_string()), "{text}");
    assert_eq!(threads(), [""; 0]);
    assert!(!data_dir.exists());

    let node = Node::start(config(&data_dir)).await.unwrap();
    node.ready(SOON).await.unwrap();
    assert!(threads().len() > 5, "{:?}", threads());
    let member = node.member_id();
    node.shutdown().await;
    wait_for_no_threads().await;

    // The replica refuses this after the log, the serving threads, the watch hub and the sweeper
    // have started.
    forget_entries(&data_dir, member);
    let first_refusal = refused(config(&data_dir)).await;
    assert!(
        first_refusal.contains("the engine's data is older than the log"),
        "{first_refusal}"
    );
    // Nothing holds the directory.
    assert_eq!(refused(config(&data_dir)).await, first_refusal);
    wait_for_no_threads().await;
}
