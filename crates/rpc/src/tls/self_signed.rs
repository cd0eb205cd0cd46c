//! A certificate that nobody vouches for: `--auto-tls`.

use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use rustls::{
    crypto::CryptoProvider,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use synod_runtime::clock;

use super::{
    TlsError,
    files::{self, Loaded},
};

const DAY: Duration = Duration::from_secs(24 * 3600);

pub(super) fn make(
    hosts: &[String],
    valid_days: u32,
    provider: &CryptoProvider,
) -> Result<Loaded, TlsError> {
    let failed = |error: rcgen::Error| TlsError::SelfSigned(error.to_string());
    let mut params = CertificateParams::new(hosts.to_vec()).map_err(failed)?;
    let now = clock::wall();
    // A day before: clocks differ.
    params.not_before = (now - DAY).into();
    params.not_after = (now + DAY * valid_days).into();
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = params.self_signed(&key).map_err(failed)?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    files::loaded(vec![certificate.der().clone()], key, provider)
        .map_err(|error| TlsError::SelfSigned(error.to_string()))
}
