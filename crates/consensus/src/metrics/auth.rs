//! Metrics of users: logins and requests that were denied.

use prometheus::IntCounterVec;
use synod_auth::AuthError;
use synod_runtime::metrics::{MetricsError, Registry};

use crate::error::Error;

/// Logins, by result: `ok`, `refused` (a wrong name or password), `off` (users are not enforced),
/// or `failed` (no quorum, or too many logins at once).
#[derive(Clone, Debug)]
pub(crate) struct Logins(IntCounterVec);

impl Logins {
    /// # Errors
    /// The name is taken.
    pub(super) fn new(registry: &Registry) -> Result<Self, MetricsError> {
        let logins = registry.counter_vec(
            "synod_auth_logins_total",
            "Logins with a password, by result.",
            &["result"],
        )?;
        for result in ["ok", "refused", "off", "failed"] {
            logins.with_label_values(&[result]);
        }
        Ok(Self(logins))
    }

    pub(crate) fn count<T>(&self, outcome: &Result<T, Error>) {
        let result = match outcome {
            Ok(_) => "ok",
            Err(Error::Auth(AuthError::NotEnabled)) => "off",
            Err(Error::Auth(_)) => "refused",
            Err(_) => "failed",
        };
        self.0.with_label_values(&[result]).inc();
    }
}

/// Requests that were denied because of who makes them, by reason.
#[derive(Clone, Debug)]
pub(crate) struct Denied(IntCounterVec);

/// The reasons why a request is denied. Other errors of [`AuthError`] are about the users that a
/// request names, not about the caller.
const REASONS: [(AuthError, &str); 4] = [
    (AuthError::UserEmpty, "no_user"),
    (AuthError::InvalidToken, "invalid_token"),
    (AuthError::OldRevision, "old_revision"),
    (AuthError::PermissionDenied, "permission"),
];

impl Denied {
    /// # Errors
    /// The name is taken.
    pub(super) fn new(registry: &Registry) -> Result<Self, MetricsError> {
        let denied = registry.counter_vec(
            "synod_auth_denied_total",
            "Requests that were denied because of who made them, by reason.",
            &["reason"],
        )?;
        for (_, reason) in REASONS {
            denied.with_label_values(&[reason]);
        }
        Ok(Self(denied))
    }

    /// Counts a request that failed, if it was denied.
    pub(crate) fn count(&self, error: &Error) {
        let Error::Auth(error) = error else { return };
        let found = REASONS.iter().find(|(reason, _)| reason == error);
        if let Some((_, reason)) = found {
            self.0.with_label_values(&[reason]).inc();
        }
    }
}
