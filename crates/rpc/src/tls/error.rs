//! Why TLS can't be set up.

use std::{io, path::PathBuf};

use thiserror::Error;

/// Files or settings of TLS that can't be used.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("cannot read {path}: {source}; check the path and that this process may read it")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// A file isn't what it should be.
    #[error(
        "{path} has no {expected} in PEM form: {reason}; name another file, or convert this one with openssl"
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What should be in it.
        expected: &'static str,
        /// What was found.
        reason: String,
    },
    /// The key belongs to another certificate.
    #[error(
        "the key in {key} does not belong to the certificate in {certificate}: give the key and the certificate that were issued together"
    )]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// A key or a certificate of a kind that isn't supported.
    #[error(
        "cannot use {path}: {reason}; use an RSA key of 2048 bits or more, or an ECDSA (P-256, P-384) or Ed25519 key"
    )]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The library's answer.
        reason: String,
    },
    /// Versions and cipher suites that exclude each other.
    #[error("{0}")]
    Protocol(String),
    /// A self-signed certificate can't be made.
    #[error("cannot make a self-signed certificate: {0}")]
    SelfSigned(String),
}
