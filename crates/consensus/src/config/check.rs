//! Checks of the flags against each other.

use std::time::Duration;

use synod_rpc::TlsError;
use synod_service::config::ConfigError;
use synod_service::config::value::is_tls;

use super::{ClusterState, Config, MAX_REQUEST_BYTES};
use crate::version::FEATURE_LEVEL;

/// At least so many requests of the largest size must fit into the budget of responses. Otherwise a
/// value could be written but not read, and a stream of a range would find no room.
const LEAST_BUDGET_REQUESTS: usize = 8;
/// etcd's limit on an election timeout.
const MAX_ELECTION_MS: u64 = 50_000;

impl Config {
    /// Checks the flags against each other.
    ///
    /// # Errors
    /// Says which flags contradict each other, and what is valid.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let contradiction = |text: String| Err(ConfigError::Contradiction(text));
        if self.listen_client_urls.is_empty() && self.listeners.client.is_empty() {
            return contradiction("--listen-client-urls names no URL".to_owned());
        }
        if self.restore_snapshot.is_some() && self.initial_cluster_state == ClusterState::Existing {
            return contradiction(
                "--restore-snapshot makes a new cluster, and --initial-cluster-state is existing: a member that joins gets \
                 the data from the others; leave one of the two out"
                    .to_owned(),
            );
        }
        if self.listen_peer_urls.is_empty() && self.listeners.peer.is_empty() {
            return contradiction("--listen-peer-urls names no URL".to_owned());
        }
        self.check_tls()?;
        if self.max_request_bytes > MAX_REQUEST_BYTES {
            return contradiction(format!(
                "--max-request-bytes {} is over {MAX_REQUEST_BYTES}, the largest request that the log and the peers take: \
                 split large values over several keys",
                self.max_request_bytes
            ));
        }
        if self.feature_level > FEATURE_LEVEL {
            return contradiction(format!(
                "--feature-level {} is over {FEATURE_LEVEL}, which this release has",
                self.feature_level
            ));
        }
        let least_budget = LEAST_BUDGET_REQUESTS * self.max_request_bytes;
        if self.response_budget_bytes < least_budget {
            return contradiction(format!(
                "--response-budget-bytes {} must be at least {LEAST_BUDGET_REQUESTS} times --max-request-bytes: {least_budget}",
                self.response_budget_bytes
            ));
        }
        if self.election_timeout < 5 * self.heartbeat {
            return contradiction(format!(
                "--election-timeout {} must be at least five times --heartbeat-interval {}",
                self.election_timeout.as_millis(),
                self.heartbeat.as_millis()
            ));
        }
        if self.election_timeout > Duration::from_millis(MAX_ELECTION_MS) {
            return contradiction(format!(
                "--election-timeout {} is longer than {MAX_ELECTION_MS} ms",
                self.election_timeout.as_millis()
            ));
        }
        let Some(mine) = self.initial_cluster.get(&self.name) else {
            let known: Vec<_> = self.initial_cluster.keys().map(String::as_str).collect();
            return contradiction(format!(
                "--initial-cluster doesn't list this member: --name is {:?}, the list has {}",
                self.name,
                known.join(", ")
            ));
        };
        if *mine != self.initial_advertise_peer_urls {
            return contradiction(format!(
                "--initial-cluster has {}={} but --initial-advertise-peer-urls is {}",
                self.name,
                mine.join(","),
                self.initial_advertise_peer_urls.join(",")
            ));
        }
        Ok(())
    }

    /// What listeners for clients, with gRPC or HTTP only, are bound to.
    pub(crate) fn urls_for_clients(&self) -> Vec<String> {
        let urls = [
            &self.listen_client_urls,
            &self.listen_client_http_urls,
            &self.listen_metrics_urls,
        ];
        urls.into_iter().flatten().cloned().collect()
    }

    fn check_tls(&self) -> Result<(), ConfigError> {
        self.client_tls.check(&self.urls_for_clients())?;
        self.peer_tls.check(&self.listen_peer_urls)?;
        let contradiction = |error: TlsError| ConfigError::Contradiction(error.to_string());
        self.tls.protocol.check().map_err(contradiction)?;
        let others = self.initial_cluster.values().flatten();
        match others
            .chain(&self.initial_advertise_peer_urls)
            .find(|url| is_tls(url))
        {
            Some(url) if !self.peer_tls.can_dial() => Err(ConfigError::Contradiction(format!(
                "{url} needs --peer-trusted-ca-file or --peer-auto-tls: they say which members to trust"
            ))),
            Some(_) | None => Ok(()),
        }
    }
}
