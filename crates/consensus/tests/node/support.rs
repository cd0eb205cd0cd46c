//! Clusters of embedded nodes.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use etcd_client::Client;
use prost::Message;
use synod_consensus::{Algorithm, Config, InitialCluster, Node};
use synod_proto::etcd::etcdserverpb::kv_client::KvClient;
use synod_rpc::Listener;
use synod_runtime::{clock, task};
use tempfile::TempDir;
use tonic::transport::Channel;

/// The time limit for what should happen soon.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// The configuration of a cluster of one, on free ports that are bound already.
pub(crate) fn config(name: &str, dir: &Path) -> Config {
    let client = Listener::bind("127.0.0.1:0").unwrap();
    let peer = Listener::bind("127.0.0.1:0").unwrap();
    let url = |listener: &Listener| vec![listener.url()];
    let mut config = Config::new(name);
    config.data_dir = dir.join(name);
    config.advertise_client_urls = url(&client);
    config.initial_advertise_peer_urls = url(&peer);
    config.listen_client_urls = url(&client);
    config.listen_peer_urls = url(&peer);
    config.initial_cluster = InitialCluster::from([(name.to_owned(), url(&peer))]);
    config.listeners.client = vec![client];
    config.listeners.peer = vec![peer];
    config.heartbeat = Duration::from_millis(100);
    config.election_timeout = Duration::from_secs(1);
    config
}

/// The configuration of a node that starts again on the same ports.
pub(crate) fn again(config: &Config) -> Config {
    let mut next = Config::new(&config.name);
    next.data_dir.clone_from(&config.data_dir);
    next.advertise_client_urls
        .clone_from(&config.advertise_client_urls);
    next.initial_advertise_peer_urls
        .clone_from(&config.initial_advertise_peer_urls);
    next.listen_client_urls
        .clone_from(&config.listen_client_urls);
    next.listen_peer_urls.clone_from(&config.listen_peer_urls);
    next.initial_cluster.clone_from(&config.initial_cluster);
    next.initial_cluster_state = config.initial_cluster_state;
    next.heartbeat = config.heartbeat;
    next.election_timeout = config.election_timeout;
    next.feature_level = config.feature_level;
    next
}

/// Configurations of `count` nodes that make a cluster together.
pub(crate) fn configs(count: usize, dir: &Path) -> Vec<Config> {
    let mut configs: Vec<Config> = (1..=count).map(|n| config(&format!("n{n}"), dir)).collect();
    join(&mut configs);
    configs
}

/// Tells each of the nodes about all of them.
pub(crate) fn join(configs: &mut [Config]) {
    let member = |config: &Config| {
        let urls = config.initial_advertise_peer_urls.clone();
        (config.name.clone(), urls)
    };
    let cluster: InitialCluster = configs.iter().map(member).collect();
    for config in configs {
        config.initial_cluster.clone_from(&cluster);
    }
}

/// Where a node's first client listener is.
pub(crate) fn address(node: &Node) -> SocketAddr {
    node.client_urls()[0]
        .trim_start_matches("http://")
        .parse()
        .unwrap()
}

/// A cluster, with its data.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    pub(crate) dir: TempDir,
}

impl Cluster {
    pub(crate) async fn start(count: usize) -> Self {
        Self::start_with(count, |_| {}).await
    }

    pub(crate) async fn of(algorithm: Algorithm, count: usize) -> Self {
        Self::start_with(count, |config| config.algorithm = Some(algorithm)).await
    }

    pub(crate) async fn start_with(count: usize, change: impl Fn(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut configs = configs(count, dir.path());
        configs.iter_mut().for_each(change);
        let starts = configs.into_iter().map(Node::start);
        let nodes = futures::future::try_join_all(starts).await.unwrap();
        for node in &nodes {
            node.ready(SOON).await.unwrap();
        }
        let cluster = Self { nodes, dir };
        cluster.published().await;
        cluster
    }

    /// Waits until all members know the names of all.
    async fn published(&self) {
        for node in 0..self.nodes.len() {
            let client = self.client(node).await;
            eventually("all members to be published", || async {
                let members = client.cluster_client().member_list().await.ok()?;
                let members = members.members();
                let known = members.iter().all(|m| !m.client_urls().is_empty());
                (known && members.len() == self.nodes.len()).then_some(())
            })
            .await;
        }
    }

    pub(crate) async fn client(&self, node: usize) -> Client {
        client(&self.nodes[node]).await
    }

    pub(crate) async fn leader(&self) -> usize {
        eventually("a leader", || async {
            self.nodes.iter().position(Node::is_leader)
        })
        .await
    }

    pub(crate) async fn stop(self) {
        for node in self.nodes {
            node.shutdown().await;
        }
    }
}

pub(crate) async fn client(node: &Node) -> Client {
    Client::connect(node.client_urls(), None).await.unwrap()
}

/// The generated client: etcd-client has no RangeStream and limits the size of responses.
pub(crate) async fn raw_kv(node: &Node) -> KvClient<Channel> {
    let url = node.client_urls()[0].clone();
    let client = KvClient::connect(url).await.unwrap();
    client.max_decoding_message_size(usize::MAX)
}

/// A client that reads no responses: its flow control windows are empty.
pub(crate) struct Unread {
    requests: h2::client::SendRequest<Bytes>,
    url: String,
    answers: Vec<h2::RecvStream>,
}

impl Unread {
    pub(crate) async fn connect(node: &Node) -> Self {
        let address = address(node);
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(0);
        let (requests, connection) = builder.handshake(stream).await.unwrap();
        // Ends with the requests and answers.
        task::spawn("unread", async move {
            let _closed = connection.await;
        });
        Self {
            requests,
            url: format!("http://{address}"),
            answers: Vec::new(),
        }
    }

    /// Calls `Service/Method`, and waits for the headers of the response.
    pub(crate) async fn call(&mut self, method: &str, message: &impl Message) {
        let mut body = BytesMut::new();
        body.put_u8(0);
        body.put_u32(u32::try_from(message.encoded_len()).unwrap());
        message.encode(&mut body).unwrap();
        let request = http::Request::post(format!("{}/etcdserverpb.{method}", self.url))
            .header("content-type", "application/grpc")
            .body(())
            .unwrap();
        let mut requests = self.requests.clone().ready().await.unwrap();
        let (answer, mut sending) = requests.send_request(request, false).unwrap();
        sending.send_data(body.freeze(), true).unwrap();
        self.answers.push(answer.await.unwrap().into_body());
    }

    /// How many streams the server takes at once.
    pub(crate) fn max_streams(&self) -> usize {
        self.requests.current_max_send_streams()
    }
}

/// Why a node does not start.
pub(crate) async fn refused(config: Config) -> String {
    match Node::start(config).await {
        Err(error) => error.to_string(),
        Ok(node) => {
            node.shutdown().await;
            panic!("it started");
        }
    }
}

/// Repeats `attempt` until it returns something.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut attempt: impl FnMut() -> F,
) -> T {
    let deadline = clock::now() + SOON;
    loop {
        if let Some(result) = attempt().await {
            return result;
        }
        assert!(clock::now() < deadline, "waited in vain for {what}");
        clock::sleep(Duration::from_millis(20)).await;
    }
}

/// The status of a call that must fail.
pub(crate) fn status<T: std::fmt::Debug>(
    result: Result<T, etcd_client::Error>,
) -> (tonic::Code, String) {
    match result {
        Err(etcd_client::Error::GRpcStatus(status)) => (status.code(), status.message().to_owned()),
        other => panic!("expected a status, got {other:?}"),
    }
}
