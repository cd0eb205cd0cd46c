//! Users and roles: replicated state, changed by entries of the log alone and the same on every
//! member. No clock, no randomness, no I/O: the host keeps the rows.

mod change;
mod intervals;
mod role;
mod rows;
mod user;

use std::collections::BTreeMap;
use std::sync::Arc;

use synod_proto::etcd::authpb::Permission;

pub use self::change::{Changed, Effect};
pub(crate) use self::intervals::Intervals;
use self::intervals::OPEN_END;
use self::role::Role;
pub use self::rows::{DamagedRow, ROW_PREFIX, Row};
pub(crate) use self::user::{Allowed, User};
use crate::AuthError;

/// The user that there must be while users are enforced.
const ROOT_USER: &str = "root";
/// The role that may do everything.
const ROOT_ROLE: &str = "root";
/// The auth revision of a new cluster, as etcd has it.
const FIRST_REVISION: u64 = 1;

/// Users, roles, and whether they are enforced. Cheap to clone: what readers see is a clone from
/// before the next change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthState {
    enabled: bool,
    revision: u64,
    users: BTreeMap<Arc<str>, Arc<User>>,
    roles: BTreeMap<Arc<str>, Arc<Role>>,
}

impl Default for AuthState {
    /// A new cluster's: nobody is known, everybody may do everything.
    fn default() -> Self {
        Self {
            enabled: false,
            revision: FIRST_REVISION,
            users: BTreeMap::new(),
            roles: BTreeMap::new(),
        }
    }
}

impl AuthState {
    /// Whether requests are checked at all.
    #[must_use]
    pub const fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// The auth revision: it grows with every change of users, passwords, roles and permissions.
    #[must_use]
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    /// The names of all users, in order.
    #[must_use]
    pub fn users(&self) -> Vec<String> {
        self.users.keys().map(|name| name.to_string()).collect()
    }

    /// The names of all roles, in order.
    #[must_use]
    pub fn roles(&self) -> Vec<String> {
        self.roles.keys().map(|name| name.to_string()).collect()
    }

    /// The roles of a user, in order.
    ///
    /// # Errors
    /// [`AuthError::UserNotFound`].
    pub fn roles_of(&self, user: &str) -> Result<&[String], AuthError> {
        let user = self.user(user).ok_or(AuthError::UserNotFound)?;
        Ok(user.roles())
    }

    /// The permissions of a role, in order. The root role has the one that allows everything,
    /// whatever it was granted.
    ///
    /// # Errors
    /// [`AuthError::RoleNotFound`].
    pub fn permissions_of(&self, role: &str) -> Result<Vec<Permission>, AuthError> {
        let found = self.roles.get(role).ok_or(AuthError::RoleNotFound)?;
        if role == ROOT_ROLE {
            return Ok(vec![Permission {
                perm_type: synod_proto::etcd::authpb::permission::Type::Readwrite.into(),
                key: bytes::Bytes::new(),
                range_end: bytes::Bytes::from_static(OPEN_END),
            }]);
        }
        Ok(found.permissions().to_vec())
    }

    /// The hash that a user's password must have.
    ///
    /// # Errors
    /// [`AuthError::AuthFailed`] without such a user, [`AuthError::NoPasswordUser`] where there is
    /// no password.
    pub(crate) fn password_of(&self, user: &str) -> Result<&bytes::Bytes, AuthError> {
        let user = self.user(user).ok_or(AuthError::AuthFailed)?;
        user.password_hash().ok_or(AuthError::NoPasswordUser)
    }

    pub(crate) fn user(&self, name: &str) -> Option<&User> {
        self.users.get(name).map(|user| &**user)
    }

    /// What a user's roles allow, all in all.
    pub(crate) fn allowed<'a>(&self, user: &'a User) -> &'a Allowed {
        user.allowed(|role| self.roles.get(role).map(|role| &**role))
    }
}

#[cfg(test)]
mod tests;
