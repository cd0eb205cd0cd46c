//! Health, version and metrics over HTTP.

use std::net::SocketAddr;

use synod_rpc::Listener;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{Cluster, eventually};

pub(crate) async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let code = head.split(' ').nth(1).unwrap().parse().unwrap();
    (code, body.to_owned())
}

#[tokio::test]
async fn probes_version_and_metrics_answer_as_etcd_does() {
    let cluster = Cluster::start(1).await;
    let address = cluster.nodes[0].client_addresses()[0];
    assert_eq!(
        get(address, "/health").await,
        (200, r#"{"health":"true","reason":""}"#.into())
    );
    assert_eq!(get(address, "/livez").await, (200, "ok\n".into()));
    assert_eq!(get(address, "/readyz").await, (200, "ok\n".into()));
    assert_eq!(
        get(address, "/readyz/non_learner?verbose").await.1,
        "[+]non_learner ok\nok\n"
    );
    let (_, verbose) = get(address, "/readyz?verbose&exclude=serving").await;
    assert!(
        verbose.contains("[+]linearizable_read ok") && !verbose.contains("serving"),
        "{verbose}"
    );
    assert_eq!(get(address, "/readyz/nonsense").await.0, 404);
    eventually("the cluster's version", || async {
        let (code, text) = get(address, "/version").await;
        assert_eq!(code, 200);
        (text == r#"{"etcdserver":"3.7.0","etcdcluster":"3.7.0","storage":"3.7.0"}"#).then_some(())
    })
    .await;
    let mut client = cluster.client(0).await;
    client.put("k", "v", None).await.unwrap();
    let (code, metrics) = get(address, "/metrics").await;
    assert_eq!(code, 200);
    for line in [
        "etcd_server_has_leader 1",
        "etcd_mvcc_put_total 1",
        "etcd_debugging_mvcc_current_revision 2",
        "etcd_server_version{server_version=\"3.7.0\"} 1",
        "grpc_server_handled_total{grpc_code=\"OK\",grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"} 1",
    ] {
        assert!(
            metrics.lines().any(|found| found == line),
            "{line} in\n{metrics}"
        );
    }
    for name in [
        "etcd_disk_wal_fsync_duration_seconds_count",
        "process_resident_memory_bytes",
    ] {
        assert!(metrics.contains(name), "{name}");
    }
    cluster.stop().await;
}

#[tokio::test]
async fn a_separate_port_serves_only_probes() {
    let metrics = Listener::bind("127.0.0.1:0").unwrap();
    let address = metrics.local_addr();
    let dir = tempfile::tempdir().unwrap();
    let mut config = crate::support::config("n1", dir.path());
    config.listeners.metrics = vec![metrics];
    let node = synod_consensus::Node::start(config).await.unwrap();
    node.ready(crate::support::SOON).await.unwrap();
    assert_eq!(get(address, "/readyz").await.0, 200);
    assert_eq!(get(address, "/nothing").await.0, 404);
    node.shutdown().await;
}
