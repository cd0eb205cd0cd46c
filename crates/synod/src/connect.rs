//! How commands reach the cluster.

use std::time::Duration;

use etcd_client::{Client, ConnectOptions};

/// The endpoints that were named and how long a request may take.
pub(crate) struct Target {
    pub(crate) endpoints: Vec<String>,
    pub(crate) timeout: Duration,
}

impl Target {
    /// A client that balances over all the endpoints. It connects on first use.
    ///
    /// # Errors
    /// An endpoint that is no URL.
    pub(crate) async fn client(&self) -> anyhow::Result<Client> {
        self.client_to(&self.endpoints).await
    }

    /// A client of these endpoints alone.
    ///
    /// # Errors
    /// An endpoint that is no URL.
    pub(crate) async fn client_to(&self, endpoints: &[String]) -> anyhow::Result<Client> {
        let options = ConnectOptions::new()
            .with_timeout(self.timeout)
            .with_connect_timeout(self.timeout.min(Duration::from_secs(2)));
        Ok(Client::connect(endpoints, Some(options)).await?)
    }

    /// Like [`Target::client`], without a limit on how long a stream lives.
    ///
    /// # Errors
    /// An endpoint that is no URL.
    pub(crate) async fn streaming_client(&self) -> anyhow::Result<Client> {
        let options = ConnectOptions::new()
            .with_connect_timeout(self.timeout.min(Duration::from_secs(2)))
            .with_keep_alive(Duration::from_secs(10), Duration::from_secs(5))
            .with_require_leader(true);
        Ok(Client::connect(&self.endpoints, Some(options)).await?)
    }
}

/// The endpoint as a URL, for clients that want a scheme.
pub(crate) fn url(endpoint: &str) -> String {
    if endpoint.contains("://") {
        endpoint.to_owned()
    } else {
        format!("http://{endpoint}")
    }
}
