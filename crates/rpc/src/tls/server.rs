//! TLS of listeners.

use std::{io, sync::Arc};

use rustls::{
    ServerConfig,
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    sign::SingleCertAndKey,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsAcceptor;

use super::{
    CertificateFiles, CertificateStatus, ClientCertificate, Made, PURPOSE, Protocol, TlsError,
    Trust,
    files::{self, Loaded},
    names::Names,
    self_signed,
};
use crate::stream::Socket;
use synod_runtime::reload::Reloading;

/// What a listener shows, and what it asks of clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTlsConfig {
    /// The server's certificate.
    pub certificate: CertificateFiles,
    /// Clients must show a certificate that this accepts; `None` asks for none.
    pub clients: Option<Trust>,
    /// Versions and cipher suites.
    pub protocol: Protocol,
}

/// TLS of one or several listeners. A clone is the same.
#[derive(Debug, Clone)]
pub struct ServerTls(Arc<Reloading<Made<Server>, TlsError>>);

/// What connections are served with.
struct Server {
    config: Arc<ServerConfig>,
    clients: Names,
}

impl ServerTls {
    /// Reads the files, and reads them again when they change.
    ///
    /// # Errors
    /// [`TlsError`] names the file.
    pub fn load(config: ServerTlsConfig) -> Result<Self, TlsError> {
        config.protocol.check()?;
        let certificate = &config.certificate;
        let mut paths = vec![certificate.certificate.clone(), certificate.key.clone()];
        paths.extend(config.clients.iter().flat_map(Trust::files));
        let make = move || {
            let provider = config.protocol.provider();
            let loaded = files::certified_key(&config.certificate, &provider)?;
            server_config(loaded, config.clients.as_ref(), &config.protocol)
        };
        Reloading::new(PURPOSE, paths, make).map(|files| Self(Arc::new(files)))
    }

    /// Makes a certificate for these host names and addresses, valid for so many days. It is kept
    /// in memory only, so each start makes a new one.
    ///
    /// # Errors
    /// [`TlsError::SelfSigned`] names a host name that can't stand in a certificate.
    pub fn self_signed(
        hosts: &[String],
        valid_days: u32,
        protocol: &Protocol,
    ) -> Result<Self, TlsError> {
        protocol.check()?;
        let (hosts, protocol) = (hosts.to_vec(), protocol.clone());
        let make = move || {
            let loaded = self_signed::make(&hosts, valid_days, &protocol.provider())?;
            server_config(loaded, None, &protocol)
        };
        Reloading::new(PURPOSE, Vec::new(), make).map(|files| Self(Arc::new(files)))
    }

    /// The certificate's state.
    #[must_use]
    pub fn status(&self) -> Option<CertificateStatus> {
        Some(CertificateStatus {
            expires: self.0.current().expires?,
            failed_reloads: self.0.failed(),
        })
    }

    /// Shakes hands with a client of a protocol that is not HTTP. The caller sets a timeout.
    ///
    /// # Errors
    /// The client is gone, or its certificate is not accepted.
    pub async fn accept_tcp(
        &self,
        socket: TcpStream,
    ) -> io::Result<(
        impl AsyncRead + AsyncWrite + Send + Unpin + use<>,
        Option<ClientCertificate>,
    )> {
        self.accept(Socket::Left(socket)).await
    }

    /// Shakes hands with a client.
    pub(crate) async fn accept(
        &self,
        socket: Socket,
    ) -> io::Result<(tokio_rustls::TlsStream<Socket>, Option<ClientCertificate>)> {
        let made = self.0.current();
        let acceptor = TlsAcceptor::from(Arc::clone(&made.value.config));
        let stream = acceptor.accept(socket).await?;
        let chain = stream.get_ref().1.peer_certificates();
        let shown = chain.and_then(|chain| chain.first());
        made.value.clients.check(shown)?;
        let client = shown.map(ClientCertificate::read);
        Ok((stream.into(), client))
    }
}

fn server_config(
    loaded: Loaded,
    clients: Option<&Trust>,
    protocol: &Protocol,
) -> Result<Made<Server>, TlsError> {
    let builder = ServerConfig::builder_with_provider(protocol.provider())
        .with_protocol_versions(&protocol.versions())
        .map_err(|error| TlsError::Protocol(error.to_string()))?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(trust) => {
            let roots = files::roots(&trust.ca_file)?;
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, protocol.provider())
                .with_crls(files::revoked(trust)?)
                .allow_unknown_revocation_status()
                .build()
                .map_err(|error| files::unusable(trust, &error))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(loaded.key)));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    if clients.is_some() {
        // A resumed session would skip the check of the client's certificate.
        config.session_storage = Arc::new(NoServerSessionStorage {});
    }
    let clients = clients.map(Names::new).transpose()?;
    Ok(Made {
        value: Server {
            config: Arc::new(config),
            clients: clients.unwrap_or_default(),
        },
        expires: Some(loaded.expires),
    })
}
