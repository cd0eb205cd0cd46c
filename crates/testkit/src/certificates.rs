//! An authority that issues certificates to tests.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SerialNumber,
};
use synod_runtime::clock;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Issues certificates, and writes them to PEM files in its directory.
#[derive(Debug)]
pub struct Authority {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate's and its key's file.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The certificate.
    pub certificate: PathBuf,
    /// The key.
    pub key: PathBuf,
}

/// What a certificate says.
#[derive(Clone, Debug)]
pub struct Subject<'a> {
    /// The common name.
    pub common_name: &'a str,
    /// Host names and addresses.
    pub hosts: &'a [&'a str],
    /// Its serial number, by which it is revoked.
    pub serial: u64,
    /// Whether it was valid until yesterday.
    pub is_expired: bool,
}

impl<'a> Subject<'a> {
    /// A certificate for this machine: `localhost`, 127.0.0.1 and ::1.
    pub fn new(common_name: &'a str) -> Self {
        Self {
            common_name,
            hosts: &["localhost", "127.0.0.1", "::1"],
            serial: 1,
            is_expired: false,
        }
    }
}

impl Authority {
    /// Makes an authority, whose own certificate is written to [`Authority::ca_file`].
    ///
    /// # Errors
    /// The directory can't be written.
    pub fn new(dir: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
        let mut params = CertificateParams::default();
        // Two authorities of one name would be taken for one another.
        let name = format!("authority {}", dir.display());
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        let authority = Self {
            dir: dir.to_owned(),
            issuer: Issuer::new(params, key),
        };
        std::fs::write(authority.ca_file(), certificate.pem())?;
        Ok(authority)
    }

    /// The authority's certificate.
    pub fn ca_file(&self) -> PathBuf {
        self.dir.join("ca.crt")
    }

    /// Issues a certificate in `name.crt` and `name.key`, for servers and clients alike. Files of
    /// that name are replaced.
    ///
    /// # Errors
    /// The directory can't be written.
    pub fn issue(&self, name: &str, subject: &Subject<'_>) -> anyhow::Result<Issued> {
        let hosts: Vec<_> = subject
            .hosts
            .iter()
            .map(|host| (*host).to_owned())
            .collect();
        let mut params = CertificateParams::new(hosts)?;
        params
            .distinguished_name
            .push(DnType::CommonName, subject.common_name);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.serial_number = Some(SerialNumber::from(subject.serial));
        params.use_authority_key_identifier_extension = true;
        let now = clock::wall();
        params.not_before = (now - 3 * DAY).into();
        params.not_after = match subject.is_expired {
            true => (now - DAY).into(),
            false => (now + 30 * DAY).into(),
        };
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let issued = Issued {
            certificate: self.dir.join(format!("{name}.crt")),
            key: self.dir.join(format!("{name}.key")),
        };
        // Each file is replaced in one step, as tools that renew certificates do.
        replace(&issued.certificate, &certificate.pem())?;
        replace(&issued.key, &key.serialize_pem())?;
        Ok(issued)
    }

    /// Writes the list of revoked certificates to `crl.pem`.
    ///
    /// # Errors
    /// The directory can't be written.
    pub fn revoke(&self, serials: &[u64]) -> anyhow::Result<PathBuf> {
        let now = clock::wall();
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: now.into(),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: now.into(),
            next_update: (now + 30 * DAY).into(),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let path = self.dir.join("crl.pem");
        replace(&path, &params.signed_by(&self.issuer)?.pem()?)?;
        Ok(path)
    }
}

fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let new = path.with_extension("new");
    std::fs::write(&new, text).with_context(|| format!("write {}", new.display()))?;
    std::fs::rename(&new, path).with_context(|| format!("replace {}", path.display()))
}
