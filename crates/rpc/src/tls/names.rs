//! Which of the certificates that an authority signed are accepted, by the names in them.

use std::{io, sync::Arc};

use rustls::{
    client::verify_server_name,
    pki_types::{CertificateDer, ServerName},
    server::ParsedCertificate,
};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{TlsError, Trust, subject};

/// The certificate that a client has shown and proved to own. It is an extension of each of the
/// client's requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The subject's common name; `None` without one, and with several.
    pub common_name: Option<Arc<str>>,
    /// The subject's distinguished name as RFC 2253 writes it, for example `CN=alice,O=Example`.
    pub subject: Arc<str>,
}

impl ClientCertificate {
    pub(super) fn read(certificate: &CertificateDer<'_>) -> Self {
        let parsed = X509Certificate::from_der(certificate).ok();
        let parsed = parsed.map(|(_, parsed)| parsed);
        let name = parsed.as_ref().and_then(common_name);
        let subject = parsed
            .as_ref()
            .map(|parsed| subject::text(parsed.subject()));
        Self {
            common_name: name.map(Arc::from),
            subject: subject.unwrap_or_default().into(),
        }
    }
}

fn common_name<'a>(certificate: &'a X509Certificate<'_>) -> Option<&'a str> {
    let mut names = certificate.subject().iter_common_name();
    let name = names.next()?;
    // Programs disagree about which of several common names counts.
    if names.next().is_some() {
        return None;
    }
    name.as_str().ok()
}

/// The names of which a certificate must have one. None at all accept every certificate.
///
/// They are checked after the handshake, which has verified the certificate, and before anything
/// is read or sent.
#[derive(Debug, Default)]
pub(super) struct Names {
    common_names: Vec<String>,
    hostnames: Vec<ServerName<'static>>,
}

impl Names {
    /// # Errors
    /// [`TlsError::Protocol`] names the text that is no host name.
    pub(super) fn new(trust: &Trust) -> Result<Self, TlsError> {
        let parse = |name: &String| {
            ServerName::try_from(name.clone()).map_err(|_| {
                TlsError::Protocol(format!("{name:?} is neither a host name nor an address"))
            })
        };
        let hostnames = trust.allowed_hostnames.iter().map(parse);
        Ok(Self {
            common_names: trust.allowed_common_names.clone(),
            hostnames: hostnames.collect::<Result<_, _>>()?,
        })
    }

    /// Checks the certificate that the peer has shown.
    pub(super) fn check(&self, shown: Option<&CertificateDer<'_>>) -> io::Result<()> {
        let refuse = |text: String| Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        if !self.common_names.is_empty() {
            let name = shown.and_then(|shown| ClientCertificate::read(shown).common_name);
            let name = name.unwrap_or_default();
            if !self.common_names.iter().any(|allowed| **allowed == *name) {
                return refuse(format!(
                    "the common name {name:?} of the peer's certificate is not among the allowed ones"
                ));
            }
        }
        if !self.hostnames.is_empty() {
            let parsed = shown.and_then(|shown| ParsedCertificate::try_from(shown).ok());
            let is_valid = |name| {
                let valid = |parsed| verify_server_name(parsed, name).is_ok();
                parsed.as_ref().is_some_and(valid)
            };
            if !self.hostnames.iter().any(is_valid) {
                return refuse(
                    "the peer's certificate is valid for none of the allowed host names".to_owned(),
                );
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    #[test]
    fn one_of_several_common_names_is_not_chosen() {
        // The generator has room for a second one under the type's number alone.
        let common_name = DnType::CustomDnType(vec![2, 5, 4, 3]);
        for (first, second, read) in [
            (None, None, None),
            (Some("alice"), None, Some("alice")),
            (Some("alice"), Some("root"), None),
        ] {
            let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
            params.distinguished_name = rcgen::DistinguishedName::new();
            let names = [(DnType::CommonName, first), (common_name.clone(), second)];
            for (kind, name) in names {
                if let Some(name) = name {
                    params.distinguished_name.push(kind, name);
                }
            }
            let key = KeyPair::generate().unwrap();
            let certificate = params.self_signed(&key).unwrap();
            let shown = ClientCertificate::read(certificate.der());
            assert_eq!(shown.common_name.as_deref(), read);
        }
    }
}
