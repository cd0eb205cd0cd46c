//! The keys that JWTs are signed and verified with, out of etcd's kinds of files.

use std::fs;
use std::path::{Path, PathBuf};

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, EncodingKey, crypto};

use super::spec::{JwtOptions, TokenConfigError};

/// What a member can do with tokens.
#[derive(Debug)]
pub(super) struct Keys {
    /// None: this member only verifies.
    pub(super) sign: Option<EncodingKey>,
    pub(super) verify: DecodingKey,
}

impl Keys {
    /// Reads the files. The public key follows from the private one; where both are given they must
    /// belong together.
    pub(super) fn load(options: &JwtOptions) -> Result<Self, TokenConfigError> {
        let algorithm = options.algorithm;
        let private = KeyFile::read(options.private_key.as_deref())?;
        let public = KeyFile::read(options.public_key.as_deref())?;
        if algorithm.family() == AlgorithmFamily::Hmac {
            return Self::of_secret(private);
        }
        let verify = public.map(|file| file.public(algorithm)).transpose()?;
        let Some(private) = private else {
            let verify = verify.ok_or_else(|| {
                TokenConfigError::MissingKey("give priv-key, or pub-key to only verify".to_owned())
            })?;
            return Ok(Self { sign: None, verify });
        };
        let (sign, derived) = private.private(algorithm)?;
        if let Some(given) = &verify
            && !belong_together(&sign, given, algorithm)
        {
            return Err(TokenConfigError::KeyMismatch);
        }
        Ok(Self {
            sign: Some(sign),
            verify: derived,
        })
    }

    /// The whole file is the secret, as it is.
    fn of_secret(private: Option<KeyFile>) -> Result<Self, TokenConfigError> {
        let secret = private.filter(|file| !file.bytes.is_empty());
        let secret = secret.ok_or_else(|| {
            TokenConfigError::MissingKey("HS* needs a secret, give priv-key".to_owned())
        })?;
        Ok(Self {
            sign: Some(EncodingKey::from_secret(&secret.bytes)),
            verify: DecodingKey::from_secret(&secret.bytes),
        })
    }
}

fn belong_together(sign: &EncodingKey, verify: &DecodingKey, algorithm: Algorithm) -> bool {
    const MESSAGE: &[u8] = b"signed by the one, verified by the other";
    crypto::sign(MESSAGE, sign, algorithm)
        .and_then(|signature| crypto::verify(&signature, MESSAGE, verify, algorithm))
        .unwrap_or(false)
}

struct KeyFile {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl KeyFile {
    fn read(path: Option<&Path>) -> Result<Option<Self>, TokenConfigError> {
        let Some(path) = path else {
            return Ok(None);
        };
        match fs::read(path) {
            Ok(bytes) => Ok(Some(Self {
                path: path.to_owned(),
                bytes,
            })),
            Err(error) => Err(TokenConfigError::Key {
                path: path.to_owned(),
                reason: format!("{error}; check the path and that this process may read it"),
            }),
        }
    }

    fn refused(&self, reason: &str) -> TokenConfigError {
        TokenConfigError::Key {
            path: self.path.clone(),
            reason: reason.to_owned(),
        }
    }

    /// A public key, or a certificate.
    fn public(&self, algorithm: Algorithm) -> Result<DecodingKey, TokenConfigError> {
        let parsed = match algorithm.family() {
            AlgorithmFamily::Rsa => DecodingKey::from_rsa_pem(&self.bytes).ok(),
            AlgorithmFamily::Ec => DecodingKey::from_ec_pem(&self.bytes).ok(),
            AlgorithmFamily::Ed => DecodingKey::from_ed_pem(&self.bytes).ok(),
            AlgorithmFamily::Hmac => None,
        };
        // RSA's parser accepts a private key as a public one.
        let usable = parsed.filter(|key| is_usable(key, algorithm));
        usable.ok_or_else(|| {
            self.refused(&format!(
                "it is no public key for {algorithm:?} in PEM form (PUBLIC KEY, RSA PUBLIC KEY or CERTIFICATE); \
                 name another file, or the sign-method of this key"
            ))
        })
    }

    /// A private key, and the public one that follows from it.
    fn private(
        &self,
        algorithm: Algorithm,
    ) -> Result<(EncodingKey, DecodingKey), TokenConfigError> {
        let parsed = match algorithm.family() {
            AlgorithmFamily::Rsa => EncodingKey::from_rsa_pem(&self.bytes).ok(),
            AlgorithmFamily::Ec => self.ec_private(algorithm),
            AlgorithmFamily::Ed => EncodingKey::from_ed_pem(&self.bytes).ok(),
            AlgorithmFamily::Hmac => None,
        };
        let pair = parsed.and_then(|sign| {
            let jwk = Jwk::from_encoding_key(&sign, algorithm).ok()?;
            let verify = DecodingKey::from_jwk(&jwk).ok()?;
            belong_together(&sign, &verify, algorithm).then_some((sign, verify))
        });
        pair.ok_or_else(|| {
            self.refused(&format!(
                "it is no private key for {algorithm:?} in PEM form (PRIVATE KEY, RSA PRIVATE KEY or EC PRIVATE KEY); \
                 name another file, or the sign-method of this key"
            ))
        })
    }

    /// OpenSSL writes elliptic-curve keys in a form of their own, after their parameters. Only the
    /// envelope of the usual form is missing.
    fn ec_private(&self, algorithm: Algorithm) -> Option<EncodingKey> {
        let blocks = pem::parse_many(&self.bytes).ok()?;
        match blocks.iter().find(|block| block.tag() == "EC PRIVATE KEY") {
            Some(block) => {
                let wrapped = in_pkcs8(block.contents(), algorithm)?;
                Some(EncodingKey::from_ec_der(&wrapped))
            }
            None => EncodingKey::from_ec_pem(&self.bytes).ok(),
        }
    }
}

/// Whether the key is one for the algorithm at all. RSA's is looked at by the first call, those of
/// curves by the second.
fn is_usable(key: &DecodingKey, algorithm: Algorithm) -> bool {
    Jwk::from_decoding_key(key, Some(algorithm)).is_ok()
        && crypto::verify("", b"", key, algorithm).is_ok()
}

/// RFC 5915's form of a key within RFC 5958's.
fn in_pkcs8(sec1: &[u8], algorithm: Algorithm) -> Option<Vec<u8>> {
    const VERSION: &[u8] = &[0x02, 0x01, 0x00];
    const EC_PUBLIC_KEY: &[u8] = &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
    const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    const P384: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];
    const SEQUENCE: u8 = 0x30;
    const OCTET_STRING: u8 = 0x04;
    let curve = if algorithm == Algorithm::ES384 {
        P384
    } else {
        P256
    };
    let kind = der(SEQUENCE, &[EC_PUBLIC_KEY, curve].concat())?;
    let key = der(OCTET_STRING, sec1)?;
    der(SEQUENCE, &[VERSION, &kind, &key].concat())
}

/// A DER value of at most 64 KiB.
fn der(tag: u8, content: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(content.len()).ok()?;
    let [high, low] = length.to_be_bytes();
    let head: &[u8] = match length {
        0..0x80 => &[tag, low],
        0x80..0x100 => &[tag, 0x81, low],
        _ => &[tag, 0x82, high, low],
    };
    Some([head, content].concat())
}
