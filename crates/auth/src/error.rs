//! What authentication and authorization refuse, in etcd's words: clients match on the text.

use synod_service::{Advice, status};
use tonic::{Code, Status};

use crate::password::MAX_GIVEN_COST;

/// The longest name of a user or a role, in bytes.
pub(crate) const MAX_NAME_BYTES: usize = 1024;

/// The longest key of the store, and so of a permission.
pub const MAX_KEY_BYTES: usize = 32_000;

/// The largest record of a user or a role, in bytes. It is read and written as a whole.
pub(crate) const MAX_RECORD_BYTES: usize = 1 << 20;

/// A request that is refused.
///
/// Clients of etcd log in again, and repeat the request by themselves, on exactly
/// [`OldRevision`](Self::OldRevision), [`InvalidToken`](Self::InvalidToken) and
/// [`UserEmpty`](Self::UserEmpty).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    // Who asks.
    /// Nobody: the request shows neither a token nor a certificate.
    #[error("etcdserver: user name is empty")]
    UserEmpty,
    /// The token is unknown, expired or forged.
    #[error("etcdserver: invalid auth token")]
    InvalidToken,
    /// Users or roles have changed since the member, or the token, found out who asks.
    #[error("etcdserver: revision of auth store is old")]
    OldRevision,
    /// The user's roles don't allow it, or there is no such user.
    #[error("etcdserver: permission denied")]
    PermissionDenied,

    // Logging in.
    /// The name or the password is wrong.
    #[error("etcdserver: authentication failed, invalid user ID or password")]
    AuthFailed,
    /// There is nothing to log in to.
    #[error("etcdserver: authentication is not enabled")]
    NotEnabled,
    /// The user is known by a client certificate only. etcd has no text of its own kind for it.
    #[error("auth: authentication failed, password was given for no password user")]
    NoPasswordUser,
    /// The client sent a hash that is not bcrypt's, or whose cost is too high. etcd accepts it.
    #[error(
        "etcdserver: the hashed password must be a bcrypt hash with a cost of at most {MAX_GIVEN_COST}: hash it again"
    )]
    UnusableHash,
    /// bcrypt would ignore the rest of the password. The text is that of Go's bcrypt.
    #[error("bcrypt: password length exceeds 72 bytes")]
    PasswordTooLong,
    /// This member has the public key of its tokens only.
    #[error("auth: token signing attempted with verify-only key")]
    VerifyOnly,

    // Users and roles.
    /// Users can't be enforced without root.
    #[error("etcdserver: root user does not exist")]
    RootUserNotExist,
    /// Nor without somebody who may change them.
    #[error("etcdserver: root user does not have root role")]
    RootRoleNotExist,
    /// A user needs a name. The text is that of [`UserEmpty`](Self::UserEmpty), as in etcd; but
    /// logging in again does not help.
    #[error("etcdserver: user name is empty")]
    NameEmpty,
    /// There is such a user already.
    #[error("etcdserver: user name already exists")]
    UserAlreadyExist,
    /// There is no such user.
    #[error("etcdserver: user name not found")]
    UserNotFound,
    /// There is such a role already.
    #[error("etcdserver: role name already exists")]
    RoleAlreadyExist,
    /// There is no such role.
    #[error("etcdserver: role name not found")]
    RoleNotFound,
    /// A role needs a name.
    #[error("etcdserver: role name is empty")]
    RoleEmpty,
    /// A name is part of a key of the store, whose length is bounded. etcd has no such limit.
    #[error("etcdserver: the name has more than {MAX_NAME_BYTES} bytes")]
    NameTooLong,
    /// Longer than any key can be. etcd has no such limit.
    #[error(
        "etcdserver: the key or range end of a permission has more than {MAX_KEY_BYTES} bytes: use a shorter prefix"
    )]
    PermissionTooLong,
    /// The role has too many permissions, or the user too many roles. etcd has no such limit.
    #[error(
        "etcdserver: the role or user would take more than {MAX_RECORD_BYTES} bytes: use fewer and wider permissions, or \
         several roles"
    )]
    RecordTooLarge,
    /// The user doesn't have the role that is to be revoked.
    #[error("etcdserver: role is not granted to the user")]
    RoleNotGranted,
    /// The role doesn't have the permission that is to be revoked.
    #[error("etcdserver: permission is not granted to the role")]
    PermissionNotGranted,
    /// A grant without a permission.
    #[error("etcdserver: permission not given")]
    PermissionNotGiven,
    /// A range that is empty, or a change that would leave nobody in charge.
    #[error("etcdserver: invalid auth management")]
    InvalidManagement,
}

impl AuthError {
    /// All of them, for tables.
    pub const ALL: [Self; 25] = [
        Self::UserEmpty,
        Self::InvalidToken,
        Self::OldRevision,
        Self::PermissionDenied,
        Self::AuthFailed,
        Self::NotEnabled,
        Self::NoPasswordUser,
        Self::UnusableHash,
        Self::PasswordTooLong,
        Self::VerifyOnly,
        Self::RootUserNotExist,
        Self::RootRoleNotExist,
        Self::NameEmpty,
        Self::UserAlreadyExist,
        Self::UserNotFound,
        Self::RoleAlreadyExist,
        Self::RoleNotFound,
        Self::RoleEmpty,
        Self::NameTooLong,
        Self::PermissionTooLong,
        Self::RecordTooLarge,
        Self::RoleNotGranted,
        Self::PermissionNotGranted,
        Self::PermissionNotGiven,
        Self::InvalidManagement,
    ];

    /// The gRPC code, as etcd has it.
    #[must_use]
    pub fn code(self) -> Code {
        match self {
            Self::UserEmpty
            | Self::OldRevision
            | Self::AuthFailed
            | Self::UnusableHash
            | Self::NameEmpty
            | Self::RoleEmpty
            | Self::NameTooLong
            | Self::PermissionTooLong
            | Self::RecordTooLarge
            | Self::PermissionNotGiven
            | Self::InvalidManagement => Code::InvalidArgument,
            Self::InvalidToken => Code::Unauthenticated,
            Self::PermissionDenied => Code::PermissionDenied,
            Self::NotEnabled
            | Self::RootUserNotExist
            | Self::RootRoleNotExist
            | Self::UserAlreadyExist
            | Self::UserNotFound
            | Self::RoleAlreadyExist
            | Self::RoleNotFound
            | Self::RoleNotGranted
            | Self::PermissionNotGranted => Code::FailedPrecondition,
            // etcd has no code of its own for these.
            Self::NoPasswordUser | Self::PasswordTooLong | Self::VerifyOnly => Code::Unknown,
        }
    }

    /// What a caller can do.
    #[must_use]
    pub fn advice(self) -> Advice {
        match self {
            // The request itself is fine: log in again, then repeat it.
            Self::UserEmpty | Self::InvalidToken | Self::OldRevision => Advice::Retry,
            Self::PermissionDenied
            | Self::NotEnabled
            | Self::RootUserNotExist
            | Self::RootRoleNotExist
            | Self::UserAlreadyExist
            | Self::UserNotFound
            | Self::RoleAlreadyExist
            | Self::RoleNotFound
            | Self::RoleNotGranted
            | Self::PermissionNotGranted => Advice::Conflict,
            Self::AuthFailed
            | Self::NoPasswordUser
            | Self::UnusableHash
            | Self::PasswordTooLong
            | Self::VerifyOnly
            | Self::NameEmpty
            | Self::RoleEmpty
            | Self::NameTooLong
            | Self::PermissionTooLong
            | Self::RecordTooLarge
            | Self::PermissionNotGiven
            | Self::InvalidManagement => Advice::Invalid,
        }
    }

    /// Why a watch was canceled right after it was created. etcd shows the error of a whole call
    /// there, and calls whatever it did not expect a denial.
    #[must_use]
    pub fn watch_cancel_reason(self) -> String {
        let is_told = matches!(
            self,
            Self::InvalidToken | Self::OldRevision | Self::UserEmpty
        );
        let shown = if is_told {
            self
        } else {
            Self::PermissionDenied
        };
        format!("rpc error: code = {:?} desc = {shown}", shown.code())
    }
}

impl From<AuthError> for Status {
    fn from(error: AuthError) -> Self {
        status(error.code(), error.to_string(), error.advice())
    }
}

/// A check that failed; `E` is the host's error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckError<E> {
    /// The request is refused.
    #[error(transparent)]
    Denied(AuthError),
    /// The host could not say which keys a lease has.
    #[error("{0}")]
    Host(E),
}

impl<E> From<AuthError> for CheckError<E> {
    fn from(error: AuthError) -> Self {
        Self::Denied(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts and codes of etcd 3.7: what its `rpctypes` declares, or what an error without an entry
    /// there turns into.
    const GOLDEN: &str = "\
InvalidArgument: etcdserver: user name is empty
Unauthenticated: etcdserver: invalid auth token
InvalidArgument: etcdserver: revision of auth store is old
PermissionDenied: etcdserver: permission denied
InvalidArgument: etcdserver: authentication failed, invalid user ID or password
FailedPrecondition: etcdserver: authentication is not enabled
Unknown: auth: authentication failed, password was given for no password user
InvalidArgument: etcdserver: the hashed password must be a bcrypt hash with a cost of at most 16: hash it again
Unknown: bcrypt: password length exceeds 72 bytes
Unknown: auth: token signing attempted with verify-only key
FailedPrecondition: etcdserver: root user does not exist
FailedPrecondition: etcdserver: root user does not have root role
InvalidArgument: etcdserver: user name is empty
FailedPrecondition: etcdserver: user name already exists
FailedPrecondition: etcdserver: user name not found
FailedPrecondition: etcdserver: role name already exists
FailedPrecondition: etcdserver: role name not found
InvalidArgument: etcdserver: role name is empty
InvalidArgument: etcdserver: the name has more than 1024 bytes
InvalidArgument: etcdserver: the key or range end of a permission has more than 32000 bytes: use a shorter prefix
InvalidArgument: etcdserver: the role or user would take more than 1048576 bytes: use fewer and wider permissions, or several roles
FailedPrecondition: etcdserver: role is not granted to the user
FailedPrecondition: etcdserver: permission is not granted to the role
InvalidArgument: etcdserver: permission not given
InvalidArgument: etcdserver: invalid auth management
";

    #[test]
    fn texts_and_codes_are_etcds() {
        let statuses = AuthError::ALL.map(Status::from);
        let lines = statuses
            .iter()
            .map(|status| format!("{:?}: {}\n", status.code(), status.message()));
        assert_eq!(lines.collect::<String>(), GOLDEN);
    }

    /// The three on which clients log in again were certainly not done.
    #[test]
    fn a_request_to_be_repeated_says_that_it_was_not_done() {
        for error in AuthError::ALL {
            let again = [
                AuthError::UserEmpty,
                AuthError::InvalidToken,
                AuthError::OldRevision,
            ];
            assert_eq!(
                error.advice() == Advice::Retry,
                again.contains(&error),
                "{error:?}"
            );
        }
    }

    #[test]
    fn a_denied_watch_says_why_as_etcd_does() {
        let golden = [
            (
                AuthError::InvalidToken,
                "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token",
            ),
            (
                AuthError::OldRevision,
                "rpc error: code = InvalidArgument desc = etcdserver: revision of auth store is old",
            ),
            (
                AuthError::UserEmpty,
                "rpc error: code = InvalidArgument desc = etcdserver: user name is empty",
            ),
            (
                AuthError::UserNotFound,
                "rpc error: code = PermissionDenied desc = etcdserver: permission denied",
            ),
        ];
        for (error, text) in golden {
            assert_eq!(error.watch_cancel_reason(), text);
        }
    }
}
