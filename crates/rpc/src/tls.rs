//! TLS of servers and channels: certificates in PEM files, which are read again when they change.
//!
//! A change concerns new connections; those that are open stay as they are. Files that can't be
//! used after a change are reported, and the previous ones stay in use.

mod client;
mod error;
mod files;
mod names;
mod protocol;
mod self_signed;
mod server;
mod subject;
mod unverified;

use std::{path::PathBuf, time::SystemTime};

pub use self::{
    client::{ClientTls, ClientTlsConfig, ServerTrust},
    error::TlsError,
    names::ClientCertificate,
    protocol::{CipherName, Protocol, TlsVersion},
    server::{ServerTls, ServerTlsConfig},
};

/// A certificate and its key, each in a PEM file. Intermediate certificates follow the first one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate chain.
    pub certificate: PathBuf,
    /// The private key: PKCS #8, PKCS #1 or SEC1, not encrypted.
    pub key: PathBuf,
}

/// A certificate's state, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CertificateStatus {
    /// When it expires.
    pub expires: SystemTime,
    /// How often its files could not be used after a change.
    pub failed_reloads: u64,
}

/// What was made of the files.
struct Made<T> {
    value: T,
    /// When the certificate among them expires; `None` without one.
    expires: Option<SystemTime>,
}

/// What the files are for, for the log.
const PURPOSE: &str = "TLS";

/// Whose certificates are accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    /// PEM file with the certificates of the authorities.
    pub ca_file: PathBuf,
    /// PEM or DER file with certificates that were revoked.
    pub crl_file: Option<PathBuf>,
    /// Common names of which a certificate must have one; empty allows all.
    pub allowed_common_names: Vec<String>,
    /// Host names or addresses of which a certificate must be valid for one; empty allows all.
    pub allowed_hostnames: Vec<String>,
}

impl Trust {
    /// All certificates of these authorities.
    #[must_use]
    pub fn new(ca_file: PathBuf) -> Self {
        Self {
            ca_file,
            crl_file: None,
            allowed_common_names: Vec::new(),
            allowed_hostnames: Vec::new(),
        }
    }

    fn files(&self) -> impl Iterator<Item = PathBuf> {
        std::iter::once(self.ca_file.clone()).chain(self.crl_file.clone())
    }
}
