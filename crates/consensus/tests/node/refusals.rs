//! Starts that must fail with an error that says what to do.

use std::fs;

use synod_consensus::Node;

use crate::support::{SOON, again, client, config, refused};

#[tokio::test]
async fn a_data_directory_of_another_cluster_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let first = config("n1", dir.path());
    let mut other_token = again(&first);
    other_token.initial_cluster_token = "another".to_owned();
    other_token.initial_cluster_given = true;
    let mut other_urls = config("n1", dir.path());
    other_urls.initial_cluster_given = true;
    let same = again(&first);
    Node::start(first).await.unwrap().shutdown().await;

    let text = refused(other_token).await;
    assert!(
        text.contains("belongs to cluster") && text.contains("--initial-cluster-token"),
        "{text}"
    );
    let text = refused(other_urls).await;
    assert!(
        text.contains("belongs to cluster") && text.contains("--data-dir"),
        "{text}"
    );
    Node::start(same).await.unwrap().shutdown().await;
}

#[tokio::test]
async fn a_directory_in_use_a_busy_port_and_a_file_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let first = config("n1", dir.path());
    let mut busy = config("n2", dir.path());
    busy.listeners = synod_consensus::Listeners::default();
    busy.listen_client_urls
        .clone_from(&first.listen_client_urls);
    let mut same_dir = config("n3", dir.path());
    same_dir.data_dir.clone_from(&first.data_dir);
    let node = Node::start(first).await.unwrap();
    let text = refused(busy).await;
    assert!(text.contains("already in use"), "{text}");
    assert!(!dir.path().join("n2").exists(), "ports come before data");
    let text = refused(same_dir).await;
    assert!(text.contains("in use by another process"), "{text}");
    node.shutdown().await;

    let mut file = config("n4", dir.path());
    fs::write(&file.data_dir, b"").unwrap();
    file.initial_cluster_given = false;
    assert!(refused(file).await.contains("is a file"));
    let stock = config("n5", dir.path());
    fs::create_dir_all(stock.data_dir.join("member/snap")).unwrap();
    assert!(refused(stock).await.contains("stock etcd"));
}

#[tokio::test]
async fn lost_and_damaged_parts_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let first = config("n1", dir.path());
    let (second, third) = (again(&first), again(&first));
    let data = first.data_dir.clone();
    let node = Node::start(first).await.unwrap();
    node.ready(SOON).await.unwrap();
    client(&node).await.put("k", "v", None).await.unwrap();
    node.shutdown().await;

    let log = data.join("log");
    let aside = dir.path().join("log-aside");
    fs::rename(&log, &aside).unwrap();
    let text = refused(second).await;
    assert!(text.contains("lost its log"), "{text}");
    fs::create_dir(&log).unwrap();
    let text = refused(third).await;
    assert!(text.contains("lost its log"), "{text}");
}
