//! TLS of channels.

use std::{io, sync::Arc};

use rustls::{
    ClientConfig,
    client::{ResolvesClientCert, WebPkiServerVerifier, danger::ServerCertVerifier},
    pki_types::ServerName,
    sign::SingleCertAndKey,
};
use tokio_rustls::TlsConnector;

use super::{
    CertificateFiles, Made, PURPOSE, Protocol, TlsError, Trust, files, names::Names,
    unverified::AnyServer,
};
use crate::stream::Socket;
use synod_runtime::reload::Reloading;

/// Which servers a channel trusts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerTrust {
    /// Those whose certificate is valid for the name or address that was dialled and is accepted.
    Verified(Trust),
    /// All of them: encryption without knowing with whom.
    Unverified,
}

/// What a channel shows, and what it asks of servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientTlsConfig {
    /// The client's certificate; `None` shows none.
    pub certificate: Option<CertificateFiles>,
    /// Which servers are trusted.
    pub servers: ServerTrust,
    /// Versions and cipher suites.
    pub protocol: Protocol,
}

/// TLS of one or several channels. A clone is the same.
#[derive(Debug, Clone)]
pub struct ClientTls(Arc<Reloading<Made<Client>, TlsError>>);

/// What connections are opened with.
struct Client {
    config: Arc<ClientConfig>,
    servers: Names,
}

impl ClientTls {
    /// Reads the files, and reads them again when they change.
    ///
    /// # Errors
    /// [`TlsError`] names the file.
    pub fn load(config: ClientTlsConfig) -> Result<Self, TlsError> {
        config.protocol.check()?;
        let certificate = config.certificate.iter();
        let mut paths: Vec<_> = certificate
            .flat_map(|files| [files.certificate.clone(), files.key.clone()])
            .collect();
        if let ServerTrust::Verified(trust) = &config.servers {
            paths.extend(trust.files());
        }
        let make = move || client_config(&config);
        Reloading::new(PURPOSE, paths, make).map(|files| Self(Arc::new(files)))
    }

    /// Shakes hands with the server that is known by this name or address.
    pub(crate) async fn connect(
        &self,
        socket: Socket,
        server: &str,
    ) -> io::Result<tokio_rustls::TlsStream<Socket>> {
        let made = self.0.current();
        let connector = TlsConnector::from(Arc::clone(&made.value.config));
        let name = ServerName::try_from(server.to_owned()).map_err(io::Error::other)?;
        let stream = connector.connect(name, socket).await?;
        let chain = stream.get_ref().1.peer_certificates();
        made.value
            .servers
            .check(chain.and_then(|chain| chain.first()))?;
        Ok(stream.into())
    }
}

fn client_config(config: &ClientTlsConfig) -> Result<Made<Client>, TlsError> {
    let provider = config.protocol.provider();
    let (verifier, servers): (Arc<dyn ServerCertVerifier>, _) = match &config.servers {
        ServerTrust::Unverified => (Arc::new(AnyServer(Arc::clone(&provider))), Names::default()),
        ServerTrust::Verified(trust) => {
            let roots = files::roots(&trust.ca_file)?;
            let verifier =
                WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
                    .with_crls(files::revoked(trust)?)
                    .allow_unknown_revocation_status()
                    .build()
                    .map_err(|error| files::unusable(trust, &error))?;
            (verifier, Names::new(trust)?)
        }
    };
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&config.protocol.versions())
        .map_err(|error| TlsError::Protocol(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let (mut client, expires) = match &config.certificate {
        None => (builder.with_no_client_auth(), None),
        Some(paths) => {
            let loaded = files::certified_key(paths, &provider)?;
            let key: Arc<dyn ResolvesClientCert> = Arc::new(SingleCertAndKey::from(loaded.key));
            (builder.with_client_cert_resolver(key), Some(loaded.expires))
        }
    };
    client.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Made {
        value: Client {
            config: Arc::new(client),
            servers,
        },
        expires,
    })
}
