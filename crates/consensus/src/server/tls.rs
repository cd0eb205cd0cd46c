//! TLS of a node: what its listeners show, and how it dials other members.

use synod_rpc::{ChannelConfig, ClientTls, ServerTls, TlsError};
use synod_runtime::metrics::{MetricsError, Registry};
use synod_service::config::Side;
use synod_service::register_certificate;

use crate::config::Config;

/// TLS of this member's connections; `None` where no URL asks for it.
pub(super) struct Tls {
    pub(super) of_clients: Option<ServerTls>,
    pub(super) of_peers: Option<ServerTls>,
    pub(super) to_peers: Option<ClientTls>,
}

impl Tls {
    /// Reads the files that the flags name.
    ///
    /// # Errors
    /// A file that can't be used.
    pub(super) fn load(config: &Config) -> Result<Self, TlsError> {
        let common = &config.tls;
        let client_urls = config.urls_for_clients();
        Ok(Self {
            of_clients: config.client_tls.server(common, &client_urls)?,
            of_peers: config.peer_tls.server(common, &config.listen_peer_urls)?,
            to_peers: config.peer_tls.client(common)?,
        })
    }

    /// Shows when the certificates expire.
    ///
    /// # Errors
    /// A name is taken.
    pub(super) fn register(&self, registry: &Registry) -> Result<(), MetricsError> {
        for (side, tls) in [
            (Side::Clients, &self.of_clients),
            (Side::Peers, &self.of_peers),
        ] {
            if let Some(tls) = tls {
                register_certificate(registry, side, tls.clone())?;
            }
        }
        Ok(())
    }

    /// How other members are dialled.
    pub(super) fn dial_peers(&self) -> ChannelConfig {
        ChannelConfig {
            tls: self.to_peers.clone(),
            ..ChannelConfig::default()
        }
    }
}
