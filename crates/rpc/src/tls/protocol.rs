//! TLS versions and cipher suites, by the names that etcd and Go give them.

use std::{str::FromStr, sync::Arc};

use rustls::{
    CipherSuite, SupportedProtocolVersion,
    crypto::{CryptoProvider, ring},
    version::{TLS12, TLS13},
};

use super::TlsError;

/// A version of TLS. Older ones than 1.2 are not supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

impl FromStr for TlsVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "TLS1.2" => Ok(Self::Tls12),
            "TLS1.3" => Ok(Self::Tls13),
            _ => Err("TLS1.2 or TLS1.3".to_owned()),
        }
    }
}

/// Which versions and cipher suites are spoken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protocol {
    /// The lowest version; 1.2.
    pub min: TlsVersion,
    /// The highest version; 1.3.
    pub max: TlsVersion,
    /// Cipher suites of TLS 1.2; empty allows all that are supported. Those of 1.3 are always on.
    pub cipher_suites: Vec<CipherName>,
}

impl Default for Protocol {
    fn default() -> Self {
        Self {
            min: TlsVersion::Tls12,
            max: TlsVersion::Tls13,
            cipher_suites: Vec::new(),
        }
    }
}

/// The name of a supported cipher suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CipherName(CipherSuite);

/// IANA's names, and Go's where they differ.
const CIPHERS: &[(&str, CipherSuite)] = &[
    (
        "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_128_GCM_SHA256,
    ),
    (
        "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_AES_256_GCM_SHA384,
    ),
    (
        "TLS_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    (
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    ),
    (
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    (
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
];

impl FromStr for CipherName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = CIPHERS.iter().find(|(name, _)| *name == text);
        found.map(|(_, suite)| Self(*suite)).ok_or_else(|| {
            let names: Vec<_> = CIPHERS.iter().map(|(name, _)| *name).collect();
            format!("supported cipher suites, which are {}", names.join(", "))
        })
    }
}

impl Protocol {
    /// # Errors
    /// [`TlsError::Protocol`] when nothing is left to speak.
    pub fn check(&self) -> Result<(), TlsError> {
        let refused = |text: &str| Err(TlsError::Protocol(text.to_owned()));
        if self.min > self.max {
            return refused("the lowest TLS version is above the highest one");
        }
        if self.cipher_suites.is_empty() {
            return Ok(());
        }
        if self.min == TlsVersion::Tls13 {
            return refused(
                "cipher suites can't be chosen for TLS 1.3, and the lowest version is 1.3",
            );
        }
        if self.max == TlsVersion::Tls12 && self.suites().cipher_suites.is_empty() {
            return refused("no cipher suite of TLS 1.2 is left, and the highest version is 1.2");
        }
        Ok(())
    }

    pub(super) fn versions(&self) -> Vec<&'static SupportedProtocolVersion> {
        let has_suites = |version: &&SupportedProtocolVersion| {
            let suites = self.suites().cipher_suites;
            suites.iter().any(|suite| *suite.version() == **version)
        };
        [(TlsVersion::Tls12, &TLS12), (TlsVersion::Tls13, &TLS13)]
            .into_iter()
            .filter(|(version, _)| (self.min..=self.max).contains(version))
            .map(|(_, version)| version)
            .filter(has_suites)
            .collect()
    }

    pub(super) fn provider(&self) -> Arc<CryptoProvider> {
        Arc::new(self.suites())
    }

    fn suites(&self) -> CryptoProvider {
        let mut provider = ring::default_provider();
        if !self.cipher_suites.is_empty() {
            provider.cipher_suites.retain(|suite| {
                suite.version() == &TLS13 || self.cipher_suites.contains(&CipherName(suite.suite()))
            });
        }
        if self.max == TlsVersion::Tls12 {
            provider
                .cipher_suites
                .retain(|suite| suite.version() == &TLS12);
        }
        provider
    }
}
