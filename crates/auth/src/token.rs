//! Tokens: what a client shows instead of a password. Each member keeps them for itself.

mod jwt;
mod key;
mod simple;
mod spec;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use synod_runtime::clock;

use self::jwt::Jwt;
pub use self::simple::NewToken;
use self::simple::{Found, SimpleTokens};
use self::spec::Spec;
pub use self::spec::TokenConfigError;
use crate::state::Effect;
use crate::{AuthError, Identity};

/// How long a simple token is good after it was used last, unless it is said otherwise.
pub const DEFAULT_TOKEN_TTL: Duration = Duration::from_secs(300);

/// The tokens of a member, of one of etcd's kinds.
#[derive(Debug)]
pub struct Tokens(Kind);

#[derive(Debug)]
enum Kind {
    /// `simple`: random, known to all members, with a time to live that begins anew at each use.
    Simple(SimpleTokens),
    /// `jwt`: signed, with an end.
    Jwt(Box<Jwt>),
    /// Nobody gets one, and none is good.
    Off,
}

/// A token that says nothing about who shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// It never was good, or no longer is: [`AuthError::InvalidToken`].
    Invalid,
    /// It may be one that this member hasn't heard of yet, since it is behind the one that gave it
    /// out: wait until everything committed is applied, and ask
    /// [`Auth::identify_up_to_date`](crate::Auth::identify_up_to_date).
    NotYet,
}

impl Tokens {
    /// Tokens as `--auth-token` says: `simple`, or `jwt` with options such as
    /// `jwt,pub-key=app.rsa.pub,priv-key=app.rsa,sign-method=RS256,ttl=10m`. `simple_ttl` is
    /// `--auth-token-ttl`, zero for the default.
    ///
    /// # Errors
    /// What is wrong, in etcd's words and ours.
    pub fn new(spec: &str, simple_ttl: Duration) -> Result<Self, TokenConfigError> {
        Ok(Self(match Spec::parse(spec)? {
            Spec::Off => Kind::Off,
            Spec::Simple => Kind::Simple(SimpleTokens::new(simple_ttl)),
            Spec::Jwt(options) => Kind::Jwt(Box::new(Jwt::new(&options)?)),
        }))
    }

    /// Makes a token for a user whose password was right at `revision`.
    ///
    /// # Errors
    /// This member makes none.
    pub fn issue(&self, user: &str, revision: u64) -> Result<Issued, AuthError> {
        match &self.0 {
            Kind::Simple(_) => Ok(Issued::ToPropose(NewToken::draw())),
            Kind::Jwt(jwt) => Ok(Issued::Done(jwt.sign(user, revision, wall())?)),
            Kind::Off => Err(AuthError::AuthFailed),
        }
    }

    /// Who shows this token. `applied` is the index of the last entry that this member has
    /// applied, `revision` the auth revision of its state.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn find(&self, token: &str, applied: u64, revision: u64) -> Result<Identity, TokenError> {
        match &self.0 {
            Kind::Simple(tokens) => match tokens.find(token, applied) {
                Found::User(user) => Ok(Identity { user, revision }),
                Found::Unknown => Err(TokenError::Invalid),
                Found::NotYet => Err(TokenError::NotYet),
            },
            Kind::Jwt(jwt) => {
                let identity = jwt.verify(token, wall()).ok_or(TokenError::Invalid)?;
                // This member does not know the permissions of that revision yet.
                match identity.revision > revision {
                    true => Err(TokenError::NotYet),
                    false => Ok(identity),
                }
            }
            Kind::Off => Err(TokenError::Invalid),
        }
    }

    /// Does what an applied command means for tokens.
    pub fn follow(&self, effect: &Effect) {
        let Kind::Simple(tokens) = &self.0 else {
            return;
        };
        match effect {
            Effect::None => {}
            Effect::Granted { user, digest } => tokens.grant(user, digest),
            Effect::UserEnded { user } => tokens.end(user),
            Effect::AllEnded => tokens.end_all(),
        }
    }

    /// Forgets all simple tokens: this member may not know which have ended.
    pub fn end_all(&self) {
        self.follow(&Effect::AllEnded);
    }
}

/// A token that was made.
pub enum Issued {
    /// For the client.
    Done(String),
    /// All members must know of it first.
    ToPropose(NewToken),
}

impl fmt::Debug for Issued {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Done(_) => "Done",
            Self::ToPropose(_) => "ToPropose",
        })
    }
}

impl NewToken {
    /// The command that tells all members.
    #[must_use]
    pub fn to_grant(&self, user: &str, revision: u64) -> synod_proto::consensus::v1::GrantToken {
        synod_proto::consensus::v1::GrantToken {
            user: user.to_owned(),
            digest: Bytes::copy_from_slice(&self.digest()),
            auth_revision: revision,
        }
    }
}

/// Seconds since the epoch: a JWT's time is that of the world.
fn wall() -> u64 {
    let since = clock::wall().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

/// A user's name that many identities share.
type User = Arc<str>;

#[cfg(test)]
mod tests;
