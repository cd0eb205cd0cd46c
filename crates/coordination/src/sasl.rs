//! Logins of ZooKeeper's clients with SASL, by the mechanism DIGEST-MD5 (RFC 2831): the password
//! itself is never sent.

mod digest_md5;
mod users;

use std::sync::Arc;

use bytes::Bytes;
use synod_runtime::random;

use self::digest_md5::{Answer, hex};
pub(crate) use self::users::Users;
pub use self::users::UsersError;

/// A token of a client is at most this long (RFC 2831 §2.1.2).
const MAX_TOKEN_BYTES: usize = 4096;

/// Why a login failed. The client is told only that it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LoginError {
    /// The token is none of DIGEST-MD5.
    #[error("{0}: the client has to use DIGEST-MD5 with realm zk-sasl-md5 and qop auth")]
    Malformed(&'static str),
    /// The nonce is not that of this connection's challenge, or it was used before.
    #[error("the answer belongs to another challenge")]
    Replayed,
    /// The user is unknown, or the password is wrong.
    #[error("the user is unknown or the password is wrong: check --sasl-users-file")]
    Denied,
    /// Nothing follows a finished login.
    #[error("the client has logged in already")]
    Finished,
}

/// What the client gets, and who it is once that is known.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// `None` tells a client that there is nothing to log in to.
    pub(crate) token: Option<Bytes>,
    pub(crate) user: Option<String>,
}

/// The login of one connection. Each has a nonce of its own, which is used once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Login {
    users: Option<Arc<Users>>,
    is_required: bool,
    step: Step,
}

#[derive(Clone, Debug, Default)]
enum Step {
    #[default]
    Start,
    Challenged {
        nonce: String,
    },
    Done,
    /// A second attempt needs another connection.
    Failed,
}

impl Login {
    /// A login of one of these users. Without users a client can't log in, and gets a null token,
    /// as from a ZooKeeper without SASL.
    pub(crate) fn new(users: Option<Arc<Users>>, is_required: bool) -> Self {
        Self {
            users,
            is_required,
            step: Step::Start,
        }
    }

    /// Whether the client has to log in before anything else.
    pub(crate) fn is_missing(&self) -> bool {
        self.is_required && !matches!(self.step, Step::Done)
    }

    /// Whether clients can be refused for not having logged in.
    pub(crate) fn is_required(&self) -> bool {
        self.is_required
    }

    /// Takes a token of the client.
    ///
    /// # Errors
    /// [`LoginError`]; after that each further token fails.
    pub(crate) fn take(&mut self, token: &[u8]) -> Result<Progress, LoginError> {
        let Some(users) = self.users.clone() else {
            let (token, user) = (None, None);
            return Ok(Progress { token, user });
        };
        match std::mem::replace(&mut self.step, Step::Failed) {
            Step::Start if token.is_empty() => {
                let nonce = hex(&random::secret::<16>());
                let token = Some(digest_md5::challenge(&nonce).into());
                self.step = Step::Challenged { nonce };
                Ok(Progress { token, user: None })
            }
            Step::Start => Err(LoginError::Malformed("the first token is not empty")),
            Step::Challenged { nonce } => {
                if token.len() > MAX_TOKEN_BYTES {
                    return Err(LoginError::Malformed("the token is over 4096 bytes"));
                }
                let answer = Answer::parse(token)?;
                let proof = answer.check(&nonce, &users)?;
                self.step = Step::Done;
                Ok(Progress {
                    token: Some(proof.into()),
                    user: Some(answer.user),
                })
            }
            // Some clients confirm that they have checked the server's proof.
            Step::Done if token.is_empty() => {
                self.step = Step::Done;
                let (token, user) = (None, None);
                Ok(Progress { token, user })
            }
            Step::Done => {
                self.step = Step::Done;
                Err(LoginError::Finished)
            }
            Step::Failed => Err(LoginError::Denied),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
