//! Connecting to the cluster.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use etcd_client::{Certificate, Client, ConnectOptions, Identity, KvClient, TlsOptions};
use futures::future;
use synod_rpc::{
    CertificateFiles, ChannelConfig, ClientTls, ClientTlsConfig, Protocol, ServerTrust, Trust,
};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

use crate::login::{LoginFlags, Token};

/// A channel whose requests are made by the user who is logged in, if any.
pub(crate) type Connection = InterceptedService<Channel, Token>;

/// The endpoints and the request timeout.
pub(crate) struct Target {
    pub(crate) endpoints: Vec<String>,
    pub(crate) timeout: Duration,
    pub(crate) tls: TlsFiles,
    pub(crate) login: LoginFlags,
}

/// With an authority's certificate, endpoints without a scheme are `https://`.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct TlsFiles {
    // Global arguments must not share the names of the commands' own, such as `key`.
    /// The certificate of the authority that servers are verified with (PEM)
    #[arg(
        id = "tls_cacert",
        long = "cacert",
        global = true,
        env = "SYNOD_CACERT",
        value_name = "FILE"
    )]
    cacert: Option<PathBuf>,
    /// This client's certificate (PEM)
    #[arg(
        id = "tls_cert",
        long = "cert",
        global = true,
        env = "SYNOD_CERT",
        value_name = "FILE",
        requires_all = ["tls_key", "tls_cacert"]
    )]
    cert: Option<PathBuf>,
    /// The key of this client's certificate (PEM)
    #[arg(
        id = "tls_key",
        long = "key",
        global = true,
        env = "SYNOD_KEY",
        value_name = "FILE",
        requires = "tls_cert"
    )]
    key: Option<PathBuf>,
}

impl TlsFiles {
    /// Whether endpoints without a scheme are `http://`.
    pub(crate) fn is_plaintext(&self) -> bool {
        self.cacert.is_none()
    }

    /// For the clients of the crate etcd-client; `None` without an authority.
    fn options(&self) -> anyhow::Result<Option<TlsOptions>> {
        let read = |path: &PathBuf| {
            fs::read(path).with_context(|| format!("cannot read {}", path.display()))
        };
        let Some(authority) = &self.cacert else {
            return Ok(None);
        };
        let mut options = TlsOptions::new().ca_certificate(Certificate::from_pem(read(authority)?));
        if let (Some(certificate), Some(key)) = (&self.cert, &self.key) {
            options = options.identity(Identity::from_pem(read(certificate)?, read(key)?));
        }
        Ok(Some(options))
    }

    /// For our own channels; `None` without an authority.
    ///
    /// # Errors
    /// A file can't be read.
    pub(crate) fn channel(&self) -> anyhow::Result<Option<ClientTls>> {
        let Some(authority) = &self.cacert else {
            return Ok(None);
        };
        let certificate = self.cert.clone().zip(self.key.clone());
        let certificate =
            certificate.map(|(certificate, key)| CertificateFiles { certificate, key });
        let tls = ClientTls::load(ClientTlsConfig {
            certificate,
            servers: ServerTrust::Verified(Trust::new(authority.clone())),
            protocol: Protocol::default(),
        })?;
        Ok(Some(tls))
    }
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
        let options = self.options()?.with_timeout(self.timeout);
        Ok(Client::connect(endpoints, Some(options)).await?)
    }

    /// Like [`Target::client`], without a limit on a stream's lifetime.
    ///
    /// # Errors
    /// An endpoint is not a valid URL.
    pub(crate) async fn streaming_client(&self) -> anyhow::Result<Client> {
        let options = self
            .options()?
            .with_keep_alive(Duration::from_secs(10), Duration::from_secs(5))
            .with_require_leader(true);
        Ok(Client::connect(&self.endpoints, Some(options)).await?)
    }

    /// A channel to one endpoint, for what etcd's clients have no place for.
    ///
    /// # Errors
    /// An endpoint that can't be reached, files that can't be read, and a login that is refused.
    pub(crate) async fn channel(&self, endpoint: &str) -> anyhow::Result<Connection> {
        let channels = self.channels(&[endpoint]).await?;
        channels
            .into_iter()
            .next()
            .context("one channel an endpoint")
    }

    /// A channel to each of the endpoints, with one login for all.
    ///
    /// # Errors
    /// As [`Target::channel`].
    pub(crate) async fn channels(&self, endpoints: &[&str]) -> anyhow::Result<Vec<Connection>> {
        let config = ChannelConfig {
            tls: self.tls.channel()?,
            connect_timeout: self.timeout,
            ..ChannelConfig::default()
        };
        let urls: Vec<String> = endpoints
            .iter()
            .map(|endpoint| self.url(endpoint))
            .collect();
        let channels = future::try_join_all(urls.iter().map(|url| config.connect(url))).await?;
        let Some(first) = channels.first() else {
            return Ok(Vec::new());
        };
        let token = self.login.log_in(first).await?;
        let with_token = |channel| InterceptedService::new(channel, token.clone());
        Ok(channels.into_iter().map(with_token).collect())
    }

    fn options(&self) -> anyhow::Result<ConnectOptions> {
        let mut options =
            ConnectOptions::new().with_connect_timeout(self.timeout.min(Duration::from_secs(2)));
        if let Some((name, password)) = self.login.credentials()? {
            options = options.with_user(name, password);
        }
        Ok(match self.tls.options()? {
            Some(tls) => options.with_tls(tls),
            None => options,
        })
    }

    /// The endpoint as a URL, for clients that want a scheme.
    pub(crate) fn url(&self, endpoint: &str) -> String {
        match (endpoint.contains("://"), self.tls.is_plaintext()) {
            (true, _) => endpoint.to_owned(),
            (false, true) => format!("http://{endpoint}"),
            (false, false) => format!("https://{endpoint}"),
        }
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
        let url = |listener: &Listener| vec![listener.url()];
        let mut config = Config::new("n1");
        config.data_dir = dir.path().join("n1");
        config.advertise_client_urls = url(&client);
        config.initial_advertise_peer_urls = url(&peer);
        config.listen_client_urls = url(&client);
        config.listen_peer_urls = url(&peer);
        config.initial_cluster = InitialCluster::from([("n1".to_owned(), url(&peer))]);
        config.listeners.client = vec![client];
        config.listeners.peer = vec![peer];
        let node = Node::start(config).await.unwrap();
        let timeout = Duration::from_secs(60);
        node.ready(timeout).await.unwrap();
        let endpoints = node.client_urls().to_vec();
        let target = Target {
            endpoints,
            timeout,
            tls: TlsFiles::default(),
            login: LoginFlags::default(),
        };
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
