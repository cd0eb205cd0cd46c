//! Connecting to the cluster.

use std::time::Duration;

use etcd_client::{Client, ConnectOptions, KvClient};

/// The endpoints and the request timeout.
pub(crate) struct Target {
    pub(crate) endpoints: Vec<String>,
    pub(crate) timeout: Duration,
}

impl Target {
    /// A client that balances over all endpoints. It connects on first use.
    ///
    /// # Errors
    /// An endpoint is not a valid URL.
    pub(crate) async fn client(&self) -> anyhow::Result<Client> {
        self.client_to(&self.endpoints).await
    }

    /// Like [`Target::client`], for keys. It accepts answers of any size: a limit would hide the
    /// result of a write.
    ///
    /// # Errors
    /// An endpoint is not a valid URL.
    pub(crate) async fn kv_client(&self) -> anyhow::Result<KvClient> {
        let client = self.client().await?;
        Ok(client.kv_client().max_decoding_message_size(usize::MAX))
    }

    /// A client of only these endpoints.
    ///
    /// # Errors
    /// An endpoint is not a valid URL.
    pub(crate) async fn client_to(&self, endpoints: &[String]) -> anyhow::Result<Client> {
        let options = ConnectOptions::new()
            .with_timeout(self.timeout)
            .with_connect_timeout(self.timeout.min(Duration::from_secs(2)));
        Ok(Client::connect(endpoints, Some(options)).await?)
    }

    /// Like [`Target::client`], without a limit on a stream's lifetime.
    ///
    /// # Errors
    /// An endpoint is not a valid URL.
    pub(crate) async fn streaming_client(&self) -> anyhow::Result<Client> {
        let options = ConnectOptions::new()
            .with_connect_timeout(self.timeout.min(Duration::from_secs(2)))
            .with_keep_alive(Duration::from_secs(10), Duration::from_secs(5))
            .with_require_leader(true);
        Ok(Client::connect(&self.endpoints, Some(options)).await?)
    }
}

/// The endpoint as a URL, for clients that require a scheme.
pub(crate) fn url(endpoint: &str) -> String {
    if endpoint.contains("://") {
        endpoint.to_owned()
    } else {
        format!("http://{endpoint}")
    }
}

#[cfg(test)]
mod tests {
    use etcd_client::{GetOptions, Txn, TxnOp};
    use synod_consensus::{Config, InitialCluster, Node};
    use synod_rpc::Listener;

    use super::*;

    #[tokio::test]
    async fn answers_may_be_larger_than_a_clients_default_limit() {
        let dir = tempfile::tempdir().unwrap();
        let client = Listener::bind("127.0.0.1:0").unwrap();
        let peer = Listener::bind("127.0.0.1:0").unwrap();
        let url = |listener: &Listener| vec![format!("http://{}", listener.local_addr())];
        let mut config = Config::new("n1");
        config.data_dir = dir.path().join("n1");
        config.advertise_client_urls = url(&client);
        config.initial_advertise_peer_urls = url(&peer);
        config.listen_client_urls = url(&client);
        config.listen_peer_urls = url(&peer);
        config.initial_cluster = InitialCluster::from([("n1".to_owned(), url(&peer))]);
        config.listeners.client = vec![client];
        config.listeners.peer = Some(peer);
        let node = Node::start(config).await.unwrap();
        let timeout = Duration::from_secs(60);
        node.ready(timeout).await.unwrap();
        let endpoints = node.client_urls();
        let target = Target { endpoints, timeout };
        let mut kv = target.kv_client().await.unwrap();
        let keys = ["k1", "k2", "k3", "k4"];
        for key in keys {
            kv.put(key, vec![7; 1_300_000], None).await.unwrap();
        }
        let prefix = GetOptions::new().with_prefix();
        assert_eq!(kv.get("k", Some(prefix)).await.unwrap().count(), 4);
        let gets: Vec<_> = keys.map(|key| TxnOp::get(key, None)).into();
        let txn = Txn::new().and_then([vec![TxnOp::put("x", "v", None)], gets].concat());
        assert_eq!(kv.txn(txn).await.unwrap().op_responses().len(), 5);
        node.shutdown().await;
    }
}
