//! What is in PEM files, checked.

use std::{fs, path::Path, sync::Arc, time::SystemTime};

use rustls::{
    RootCertStore,
    crypto::CryptoProvider,
    pki_types::{
        CertificateDer, CertificateRevocationListDer, PrivateKeyDer,
        pem::{self, PemObject as _},
    },
    sign::CertifiedKey,
};
use synod_runtime::clock;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{CertificateFiles, TlsError, Trust};

const REVOKED: &str = "certificate revocation list";
const DER_SEQUENCE: u8 = 0x30;

/// A certificate with its key, and when it expires.
pub(super) struct Loaded {
    pub(super) key: Arc<CertifiedKey>,
    pub(super) expires: SystemTime,
}

/// Reads a certificate and its key.
pub(super) fn certified_key(
    files: &CertificateFiles,
    provider: &CryptoProvider,
) -> Result<Loaded, TlsError> {
    let chain = certificates(&files.certificate)?;
    let bytes = read(&files.key)?;
    let key = PrivateKeyDer::from_pem_slice(&bytes)
        .map_err(|error| malformed(&files.key, "private key", &error))?;
    let loaded = loaded(chain, key, provider).map_err(|error| {
        if matches!(error, rustls::Error::InconsistentKeys(_)) {
            return TlsError::Mismatch {
                certificate: files.certificate.clone(),
                key: files.key.clone(),
            };
        }
        TlsError::Unsupported {
            path: files.key.clone(),
            reason: error.to_string(),
        }
    })?;
    warn_of_dates(&files.certificate, &loaded);
    Ok(loaded)
}

/// Puts a chain and its key together.
pub(super) fn loaded(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    provider: &CryptoProvider,
) -> Result<Loaded, rustls::Error> {
    let expires = chain.first().map_or(SystemTime::UNIX_EPOCH, expiry);
    let key = CertifiedKey::from_der(chain, key, provider)?;
    // `from_der` accepts what it can't compare.
    key.keys_match()?;
    Ok(Loaded {
        key: Arc::new(key),
        expires,
    })
}

/// Reads the certificates of authorities.
pub(super) fn roots(path: &Path) -> Result<Arc<RootCertStore>, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(path)? {
        store
            .add(certificate)
            .map_err(|error| malformed(path, "certificate of an authority", &error))?;
    }
    Ok(Arc::new(store))
}

/// Reads the lists of revoked certificates, in PEM or DER; none if no file is named. A list covers
/// its authority's certificates. Certificates of other authorities are accepted, as in etcd.
pub(super) fn revoked(
    trust: &Trust,
) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let Some(path) = &trust.crl_file else {
        return Ok(Vec::new());
    };
    let bytes = read(path)?;
    // DER begins with the tag of a sequence, PEM with text.
    if bytes.first() == Some(&DER_SEQUENCE) {
        return Ok(vec![CertificateRevocationListDer::from(bytes)]);
    }
    let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&bytes).collect();
    let lists = lists.map_err(|error| malformed(path, REVOKED, &error))?;
    match lists.is_empty() {
        true => Err(malformed(path, REVOKED, &pem::Error::NoItemsFound)),
        false => Ok(lists),
    }
}

/// Files that were read, but that no verifier can be made of: only a list can be at fault.
pub(super) fn unusable(trust: &Trust, reason: &dyn std::fmt::Display) -> TlsError {
    let file = trust.crl_file.as_ref().unwrap_or(&trust.ca_file);
    malformed(file, REVOKED, reason)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.map_err(|error| malformed(path, "certificate", &error))?;
    if found.is_empty() {
        return Err(malformed(path, "certificate", &pem::Error::NoItemsFound));
    }
    for certificate in &found {
        X509Certificate::from_der(certificate)
            .map_err(|error| malformed(path, "certificate", &error))?;
    }
    Ok(found)
}

fn malformed(path: &Path, expected: &'static str, reason: &dyn std::fmt::Display) -> TlsError {
    TlsError::Malformed {
        path: path.to_owned(),
        expected,
        reason: reason.to_string(),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Unreadable {
        path: path.to_owned(),
        source,
    })
}

fn expiry(certificate: &CertificateDer<'_>) -> SystemTime {
    let seconds = X509Certificate::from_der(certificate)
        .map_or(0, |(_, parsed)| parsed.validity().not_after.timestamp());
    SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// Such a certificate is used all the same: refusing to start would help nobody, and the file is
/// read again as soon as it is replaced.
fn warn_of_dates(path: &Path, loaded: &Loaded) {
    if loaded.expires <= clock::wall() {
        tracing::error!(
            certificate = %path.display(),
            "the certificate has expired, so others refuse it: replace the file; it is read again without a restart"
        );
    }
}
