//! The flags for the servers of the endpoint.

use std::fmt;
use std::path::PathBuf;

use synod_rpc::{CertificateFiles, ClientTls, ClientTlsConfig, ServerTrust, TlsError, Trust};
use synod_service::config::{ConfigError, TlsCommon, value};

/// Who logs in.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, password: _ } = self;
        f.debug_struct("User")
            .field("name", name)
            .finish_non_exhaustive()
    }
}

/// What the servers of the endpoint are shown, and whom they must be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointFlags {
    /// `endpoint-trusted-ca-file`.
    pub trusted_ca_file: Option<PathBuf>,
    /// `endpoint-cert-file`.
    pub cert_file: Option<PathBuf>,
    /// `endpoint-key-file`.
    pub key_file: Option<PathBuf>,
    /// `endpoint-user`.
    pub user: Option<User>,
}

impl EndpointFlags {
    /// Sets what a flag says; false if the flag is another one's.
    pub(super) fn set(&mut self, flag: &str, text: &str) -> Result<bool, ConfigError> {
        let path = || Some(PathBuf::from(text)).filter(|path| !path.as_os_str().is_empty());
        match flag {
            "endpoint-trusted-ca-file" => self.trusted_ca_file = path(),
            "endpoint-cert-file" => self.cert_file = path(),
            "endpoint-key-file" => self.key_file = path(),
            "endpoint-user" => {
                let user = text.split_once(':').filter(|(name, _)| !name.is_empty());
                // The message does not repeat the text, which may be the password.
                let (name, password) = user.ok_or_else(|| {
                    let text = "--endpoint-user is not a name and a password: NAME:PASSWORD";
                    ConfigError::Contradiction(text.to_owned())
                })?;
                self.user = Some(User {
                    name: name.to_owned(),
                    password: password.to_owned(),
                });
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Checks the flags against each other and against the URLs of the servers.
    pub(super) fn check(&self, urls: &[String]) -> Result<(), ConfigError> {
        let refuse = |text: String| Err(ConfigError::Contradiction(text));
        if self.cert_file.is_some() != self.key_file.is_some() {
            let text = "--endpoint-cert-file and --endpoint-key-file must be given together";
            return refuse(text.to_owned());
        }
        if self.cert_file.is_some() && self.trusted_ca_file.is_none() {
            let text = "--endpoint-cert-file needs --endpoint-trusted-ca-file";
            return refuse(text.to_owned());
        }
        if self.trusted_ca_file.is_none()
            && let Some(url) = urls.iter().find(|url| value::is_tls(url))
        {
            return refuse(format!(
                "--endpoints {url}: name the authority of its certificate with --endpoint-trusted-ca-file"
            ));
        }
        if self.trusted_ca_file.is_some()
            && let Some(url) = urls.iter().find(|url| !value::is_tls(url))
        {
            return refuse(format!(
                "--endpoints {url}: with --endpoint-trusted-ca-file all URLs must be https://"
            ));
        }
        Ok(())
    }

    /// For the channels to the servers; `None` without an authority.
    ///
    /// # Errors
    /// Names the file that can't be used.
    pub(super) fn client(&self, common: &TlsCommon) -> Result<Option<ClientTls>, TlsError> {
        let Some(authority) = self.trusted_ca_file.clone() else {
            return Ok(None);
        };
        let certificate = self.cert_file.clone().zip(self.key_file.clone());
        let certificate =
            certificate.map(|(certificate, key)| CertificateFiles { certificate, key });
        ClientTls::load(ClientTlsConfig {
            certificate,
            servers: ServerTrust::Verified(Trust::new(authority)),
            protocol: common.protocol.clone(),
        })
        .map(Some)
    }
}
