//! Which of the certificates that an authority signed are let in.

use std::sync::Arc;

use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        ParsedCertificate,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::Trust;

/// The certificate that a client has shown and proved to own. It is an extension of each of the
/// client's requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The subject's common name; `None` without one.
    pub common_name: Option<String>,
}

impl ClientCertificate {
    pub(super) fn read(certificate: &CertificateDer<'_>) -> Self {
        let common_name = X509Certificate::from_der(certificate)
            .ok()
            .and_then(|(_, parsed)| common_name(&parsed).map(str::to_owned));
        Self { common_name }
    }
}

fn common_name<'a>(certificate: &'a X509Certificate<'_>) -> Option<&'a str> {
    let mut names = certificate.subject().iter_common_name();
    names.next()?.as_str().ok()
}

/// The names of which a certificate must have one.
#[derive(Debug)]
struct Names {
    common_names: Vec<String>,
    hostnames: Vec<ServerName<'static>>,
}

impl Names {
    /// # Errors
    /// A host name that is none.
    fn new(trust: &Trust) -> Result<Self, String> {
        let parse = |name: &String| {
            ServerName::try_from(name.clone())
                .map_err(|_| format!("{name:?} is neither a host name nor an address"))
        };
        Ok(Self {
            common_names: trust.allowed_common_names.clone(),
            hostnames: trust
                .allowed_hostnames
                .iter()
                .map(parse)
                .collect::<Result<_, _>>()?,
        })
    }

    fn check(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        if !self.common_names.is_empty() {
            let shown = ClientCertificate::read(certificate).common_name;
            let shown = shown.unwrap_or_default();
            if !self.common_names.contains(&shown) {
                return Err(Error::General(format!(
                    "the certificate's common name {shown:?} is not among the allowed ones"
                )));
            }
        }
        if !self.hostnames.is_empty() {
            let parsed = ParsedCertificate::try_from(certificate)?;
            let valid = |name: &ServerName<'_>| verify_server_name(&parsed, name).is_ok();
            if !self.hostnames.iter().any(valid) {
                return Err(Error::General(
                    "the certificate is not valid for any of the allowed host names".to_owned(),
                ));
            }
        }
        Ok(())
    }
}

/// Lets those clients in whose names are allowed.
#[derive(Debug)]
pub(super) struct NamedClients {
    signed: Arc<dyn ClientCertVerifier>,
    names: Names,
}

impl NamedClients {
    pub(super) fn new(signed: Arc<dyn ClientCertVerifier>, trust: &Trust) -> Result<Self, String> {
        let names = Names::new(trust)?;
        Ok(Self { signed, names })
    }
}

impl ClientCertVerifier for NamedClients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.signed.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self
            .signed
            .verify_client_cert(certificate, intermediates, now)?;
        self.names.check(certificate)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signed.supported_verify_schemes()
    }
}

/// Trusts those servers whose names are allowed.
#[derive(Debug)]
pub(super) struct NamedServers {
    signed: Arc<dyn ServerCertVerifier>,
    names: Names,
}

impl NamedServers {
    pub(super) fn new(signed: Arc<dyn ServerCertVerifier>, trust: &Trust) -> Result<Self, String> {
        let names = Names::new(trust)?;
        Ok(Self { signed, names })
    }
}

impl ServerCertVerifier for NamedServers {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified =
            self.signed
                .verify_server_cert(certificate, intermediates, server, ocsp, now)?;
        self.names.check(certificate)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signed.supported_verify_schemes()
    }
}

/// Trusts every server: encryption without knowing with whom.
#[derive(Debug)]
pub(super) struct AnyServer(pub(super) Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
