//! What those who serve requests ask.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::{
    AuthError, AuthState, Credentials, DEFAULT_BCRYPT_COST, DEFAULT_TOKEN_TTL, Identity,
    PasswordError, Passwords, Requirement, TokenConfigError, TokenError, Tokens, bcrypt_cost,
};

/// What a member's flags say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthConfig {
    /// `--auth-token`; see [`Tokens::new`].
    pub token: String,
    /// `--auth-token-ttl`; zero for the default.
    pub token_ttl: Duration,
    /// `--bcrypt-cost`.
    pub bcrypt_cost: u32,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            token: "simple".to_owned(),
            token_ttl: DEFAULT_TOKEN_TTL,
            bcrypt_cost: DEFAULT_BCRYPT_COST,
        }
    }
}

/// A login that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// It is refused.
    #[error(transparent)]
    Refused(#[from] AuthError),
    /// Too many passwords are being hashed or verified: try again.
    #[error("too many passwords are being hashed or verified: try again")]
    Busy,
}

impl From<PasswordError> for LoginError {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::TooLong => Self::Refused(AuthError::PasswordTooLong),
            PasswordError::Busy => Self::Busy,
        }
    }
}

/// The state as it was published last, and what this member knows of tokens and passwords.
#[derive(Debug)]
pub struct Auth {
    /// Whether the published state is enforced; apart, so that it costs one load.
    enabled: AtomicBool,
    state: ArcSwap<AuthState>,
    tokens: Tokens,
    passwords: Passwords,
}

impl Auth {
    /// A member that starts with this state.
    ///
    /// # Errors
    /// The flags' values can't be used.
    pub fn new(config: &AuthConfig, state: AuthState) -> Result<Self, TokenConfigError> {
        Ok(Self {
            enabled: AtomicBool::new(state.is_enabled()),
            state: ArcSwap::from_pointee(state),
            tokens: Tokens::new(&config.token, config.token_ttl)?,
            passwords: Passwords::new(bcrypt_cost(config.bcrypt_cost)),
        })
    }

    /// Whether users are enforced, as far as this member has applied the log.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.enabled.load(Ordering::Acquire)
    }

    /// The state that was published last.
    #[must_use]
    pub fn state(&self) -> Arc<AuthState> {
        self.state.load_full()
    }

    /// Shows a changed state to everybody.
    pub fn publish(&self, state: AuthState) {
        let enabled = state.is_enabled();
        self.state.store(Arc::new(state));
        self.enabled.store(enabled, Ordering::Release);
    }

    /// A snapshot of a peer took the place of all state. Which tokens have ended meanwhile is not
    /// known, so that none is good any more.
    pub fn reload(&self, state: AuthState) {
        self.tokens.end_all();
        self.publish(state);
    }

    /// The tokens of this member.
    #[must_use]
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// The passwords that this member works on.
    #[must_use]
    pub fn passwords(&self) -> &Passwords {
        &self.passwords
    }

    /// Who makes a request; nobody while users are not enforced, or where the request doesn't say.
    /// `applied` is the index of the last entry that this member has applied. A read that waits for
    /// the leader asks afterwards, or it may not know yet that users are enforced.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn identify(
        &self,
        credentials: &Credentials,
        applied: u64,
    ) -> Result<Option<Identity>, TokenError> {
        if !self.is_enabled() {
            return Ok(None);
        }
        let revision = self.state.load().revision();
        if let Some(token) = credentials.token() {
            return self.tokens.find(token, applied, revision).map(Some);
        }
        let user = credentials.common_name().cloned();
        Ok(user.map(|user| Identity { user, revision }))
    }

    /// Like [`Self::identify`], once this member has applied everything that was committed when the
    /// request arrived. Then a token that it does not know is invalid.
    ///
    /// # Errors
    /// [`AuthError::InvalidToken`].
    pub fn identify_up_to_date(
        &self,
        credentials: &Credentials,
    ) -> Result<Option<Identity>, AuthError> {
        let identified = self.identify(credentials, u64::MAX);
        identified.map_err(|_: TokenError| AuthError::InvalidToken)
    }

    /// Whether a call may begin.
    ///
    /// # Errors
    /// Why not.
    pub fn admit(&self, by: Option<&Identity>, requirement: Requirement) -> Result<(), AuthError> {
        match requirement {
            Requirement::Nothing | Requirement::ByRequest => Ok(()),
            Requirement::Authenticated => self.state.load().check_authenticated(by),
            Requirement::Root => self.state.load().check_root(by),
        }
    }

    /// Checks a password. Returns the auth revision at which it was right: the token that follows
    /// is for that one. The caller has waited until everything committed is applied here.
    ///
    /// # Errors
    /// [`LoginError`].
    ///
    /// # Cancel safety
    /// Dropped, it has done nothing.
    pub async fn check_password(&self, user: &str, password: &str) -> Result<u64, LoginError> {
        let state = self.state();
        if !state.is_enabled() {
            return Err(AuthError::NotEnabled.into());
        }
        let hash = state.password_of(user)?;
        if !self.passwords.verify(user, hash, password).await? {
            return Err(AuthError::AuthFailed.into());
        }
        Ok(state.revision())
    }
}

#[cfg(test)]
mod tests;
