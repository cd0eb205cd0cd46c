//! JWTs: signed by the member that checked the password, verified by any that has the public key.

use std::time::Duration;

use jsonwebtoken::{Algorithm, Header, Validation};
use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest as _, Sha256};

use super::key::Keys;
use super::spec::{JwtOptions, TokenConfigError};
use crate::recent::{Digest, Recent};
use crate::{AuthError, Identity};

/// Tokens whose signature was verified lately: clients show the same one with every request.
const MAX_VERIFIED: usize = 8_192;
/// A token that is longer than this is none of etcd's: its headers would not have come so far.
pub(super) const MAX_TOKEN_BYTES: usize = 16 << 10;

/// Signs and verifies tokens.
#[derive(Debug)]
pub(super) struct Jwt {
    keys: Keys,
    algorithm: Algorithm,
    validation: Validation,
    ttl: Duration,
    pub(super) verified: Recent<Verified>,
}

/// What a token says. Whatever else it says is ignored.
#[derive(Debug, Deserialize)]
struct Claims {
    username: String,
    revision: f64,
    /// The second from which on it is not good any more.
    #[serde(default, deserialize_with = "seconds")]
    exp: Option<f64>,
    /// The second from which on it is good.
    #[serde(default, deserialize_with = "seconds")]
    nbf: Option<f64>,
}

/// What a new token says.
#[derive(Serialize)]
struct NewClaims<'a> {
    username: &'a str,
    revision: u64,
    exp: u64,
}

/// A claim that is there must be a number: it is not left out by making it nothing.
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    f64::deserialize(deserializer).map(Some)
}

#[derive(Clone, Debug)]
pub(super) struct Verified {
    pub(super) identity: Identity,
    exp: Option<f64>,
    nbf: Option<f64>,
}

impl Verified {
    fn is_good_at(&self, now: u64) -> bool {
        // Seconds since the epoch are exact for longer than there will be JWTs.
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let now = now as f64;
        self.exp.is_none_or(|exp| now < exp) && self.nbf.is_none_or(|nbf| now >= nbf)
    }
}

impl Jwt {
    pub(super) fn new(options: &JwtOptions) -> Result<Self, TokenConfigError> {
        let mut validation = Validation::new(options.algorithm);
        // Time is checked here, at each use; a token of etcd's kind need not have an end. Nobody is
        // its audience in particular.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        Ok(Self {
            keys: Keys::load(options)?,
            algorithm: options.algorithm,
            validation,
            ttl: options.ttl,
            verified: Recent::new(MAX_VERIFIED),
        })
    }

    /// A token for a user; `now` in seconds since the epoch.
    pub(super) fn sign(&self, user: &str, revision: u64, now: u64) -> Result<String, AuthError> {
        let key = self.keys.sign.as_ref().ok_or(AuthError::VerifyOnly)?;
        let claims = NewClaims {
            username: user,
            revision,
            exp: now.saturating_add(self.ttl.as_secs()),
        };
        let signed = jsonwebtoken::encode(&Header::new(self.algorithm), &claims, key);
        signed.map_err(|error| {
            // The key has signed at the start.
            tracing::error!(%error, "cannot sign a token");
            AuthError::AuthFailed
        })
    }

    /// Who shows this token, if it is good at `now`.
    pub(super) fn verify(&self, token: &str, now: u64) -> Option<Identity> {
        if token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let digest: Digest = Sha256::digest(token).into();
        let verified = match self.verified.get(&digest) {
            Some(verified) => verified,
            None => {
                let verified = self.decode(token)?;
                self.verified.insert(digest, verified.clone());
                verified
            }
        };
        verified.is_good_at(now).then_some(verified.identity)
    }

    fn decode(&self, token: &str) -> Option<Verified> {
        let decoded = jsonwebtoken::decode::<Claims>(token, &self.keys.verify, &self.validation);
        let claims = match decoded {
            Ok(decoded) => decoded.claims,
            Err(error) => {
                tracing::debug!(%error, "a token is not good");
                return None;
            }
        };
        Some(Verified {
            identity: Identity {
                user: claims.username.into(),
                revision: revision(claims.revision)?,
            },
            exp: claims.exp,
            nbf: claims.nbf,
        })
    }
}

/// JSON has only one kind of numbers; etcd cuts off what is behind the point.
fn revision(number: f64) -> Option<u64> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked before"
    )]
    (0.0..9e15).contains(&number).then_some(number as u64)
}
