//! What each command changes. Every member applies the same commands in the same order, so each
//! refusal here depends on the command and the state alone.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use synod_proto::consensus::v1::auth_command::Command;
use synod_proto::consensus::v1::{GrantToken, RoleRecord, UserAdd, UserChangePassword, UserRecord};
use synod_proto::etcd::authpb::Permission;
use synod_proto::etcd::etcdserverpb::{
    AuthRoleRevokePermissionRequest, AuthUserGrantRoleRequest, AuthUserRevokeRoleRequest,
};

use super::role::{Role, is_range};
use super::rows::Row;
use super::user::User;
use super::{AuthState, ROOT_ROLE, ROOT_USER};
use crate::error::{MAX_KEY_BYTES, MAX_NAME_BYTES, MAX_RECORD_BYTES};
use crate::{AuthError, Identity};

/// How far a restored cluster's auth revision is ahead of its backup's: more changes than the lost
/// cluster can have made after the backup.
const RESTORED: u64 = 1 << 32;

/// What a command did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Rows to write with the entry. None: nothing has changed.
    pub rows: Vec<Row>,
    /// What follows for the tokens that this member knows.
    pub effect: Effect,
}

/// What a command means for tokens, which each member keeps for itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    #[default]
    None,
    /// There is a new one.
    Granted {
        /// Whose.
        user: Arc<str>,
        /// SHA-256 of its secret part.
        digest: Bytes,
    },
    /// Those of a user are void: the user is gone, or the password changed.
    UserEnded {
        /// Whose.
        user: Arc<str>,
    },
    /// All are void: nobody is asked for one any more.
    AllEnded,
}

impl AuthState {
    /// Applies a command. Refused, it changes nothing.
    ///
    /// # Errors
    /// What etcd says to such a request; first of all whether `by` may make it.
    pub fn apply(
        &mut self,
        by: Option<&Identity>,
        command: &Command,
    ) -> Result<Changed, AuthError> {
        // Whoever logs in is nobody yet.
        if !matches!(command, Command::GrantToken(_)) {
            self.check_root(by)?;
        }
        match command {
            Command::Enable(_) => self.enable(),
            Command::Disable(_) => Ok(self.disable()),
            Command::UserAdd(request) => self.user_add(request),
            Command::UserDelete(request) => self.user_delete(&request.name),
            Command::UserChangePassword(request) => self.user_change_password(request),
            Command::UserGrantRole(request) => self.user_grant_role(request),
            Command::UserRevokeRole(request) => self.user_revoke_role(request),
            Command::RoleAdd(request) => self.role_add(&request.name),
            Command::RoleDelete(request) => self.role_delete(&request.role),
            Command::RoleGrantPermission(request) => {
                self.role_grant_permission(&request.name, request.perm.as_ref())
            }
            Command::RoleRevokePermission(request) => self.role_revoke_permission(request),
            Command::GrantToken(request) => self.grant_token(request),
        }
    }

    /// Begins a cluster with these users from a backup. The lost cluster may have signed tokens
    /// after the backup, so all users get a later revision than these. Returns the rows to write.
    pub fn restore(&mut self) -> Vec<Row> {
        self.revision = self.revision.saturating_add(RESTORED);
        for user in self.users.values_mut() {
            let mut record = user.record().clone();
            record.since = self.revision;
            *user = User::from(record).into();
        }
        let users = self.users.keys().map(|name| self.user_row(name));
        users.chain([self.record_row()]).collect()
    }

    /// Alone among the changes it leaves the revision as it is: so does etcd.
    fn enable(&mut self) -> Result<Changed, AuthError> {
        if self.enabled {
            return Ok(Changed::default());
        }
        let root = self.user(ROOT_USER).ok_or(AuthError::RootUserNotExist)?;
        if !root.is_root() {
            return Err(AuthError::RootRoleNotExist);
        }
        self.enabled = true;
        Ok(rows([self.record_row()]))
    }

    fn disable(&mut self) -> Changed {
        if !self.enabled {
            return Changed::default();
        }
        self.enabled = false;
        Changed {
            effect: Effect::AllEnded,
            ..self.revised([])
        }
    }

    fn user_add(&mut self, request: &UserAdd) -> Result<Changed, AuthError> {
        if request.name.is_empty() {
            return Err(AuthError::NameEmpty);
        }
        check_length(&request.name)?;
        if self.user(&request.name).is_some() {
            return Err(AuthError::UserAlreadyExist);
        }
        let record = UserRecord {
            password_hash: kept_hash(&request.password_hash, request.no_password),
            no_password: request.no_password,
            roles: Vec::new(),
            since: self.next_revision(),
        };
        Ok(self.put_user(&request.name, record))
    }

    /// Root may delete itself, and any other user with the root role, except for the one that is
    /// called so.
    fn user_delete(&mut self, name: &str) -> Result<Changed, AuthError> {
        if self.enabled && name == ROOT_USER {
            return Err(AuthError::InvalidManagement);
        }
        let (user, _) = self
            .users
            .remove_entry(name)
            .ok_or(AuthError::UserNotFound)?;
        let row = self.user_row(name);
        Ok(Changed {
            effect: Effect::UserEnded { user },
            ..self.revised([row])
        })
    }

    fn user_change_password(&mut self, request: &UserChangePassword) -> Result<Changed, AuthError> {
        let user = self.user(&request.name).ok_or(AuthError::UserNotFound)?;
        let mut record = user.record().clone();
        record.password_hash = kept_hash(&request.password_hash, record.no_password);
        record.since = self.next_revision();
        Ok(Changed {
            effect: Effect::UserEnded {
                user: request.name.as_str().into(),
            },
            ..self.put_user(&request.name, record)
        })
    }

    /// The root role can be granted without being there, as etcd has it.
    fn user_grant_role(
        &mut self,
        request: &AuthUserGrantRoleRequest,
    ) -> Result<Changed, AuthError> {
        let user = self.user(&request.user).ok_or(AuthError::UserNotFound)?;
        if request.role != ROOT_ROLE && !self.roles.contains_key(request.role.as_str()) {
            return Err(AuthError::RoleNotFound);
        }
        let Err(at) = user.position(&request.role) else {
            return Ok(Changed::default());
        };
        let mut record = user.record().clone();
        record.roles.insert(at, request.role.clone());
        check_record(&record)?;
        Ok(self.put_user(&request.user, record))
    }

    fn user_revoke_role(
        &mut self,
        request: &AuthUserRevokeRoleRequest,
    ) -> Result<Changed, AuthError> {
        if self.enabled && request.name == ROOT_USER && request.role == ROOT_ROLE {
            return Err(AuthError::InvalidManagement);
        }
        let user = self.user(&request.name).ok_or(AuthError::UserNotFound)?;
        let at = user.position(&request.role);
        let at = at.map_err(|_| AuthError::RoleNotGranted)?;
        let mut record = user.record().clone();
        record.roles.remove(at);
        Ok(self.put_user(&request.name, record))
    }

    fn role_add(&mut self, name: &str) -> Result<Changed, AuthError> {
        if name.is_empty() {
            return Err(AuthError::RoleEmpty);
        }
        check_length(name)?;
        if self.roles.contains_key(name) {
            return Err(AuthError::RoleAlreadyExist);
        }
        Ok(self.put_role(name, RoleRecord::default().into()))
    }

    /// Users lose the role with it.
    fn role_delete(&mut self, name: &str) -> Result<Changed, AuthError> {
        if self.enabled && name == ROOT_ROLE {
            return Err(AuthError::InvalidManagement);
        }
        self.roles.remove(name).ok_or(AuthError::RoleNotFound)?;
        let mut rows = vec![self.role_row(name)];
        for user in self.users_with(name) {
            let Some(found) = self.users.get_mut(&user) else {
                continue;
            };
            let mut record = found.record().clone();
            record.roles.retain(|role| role != name);
            *found = User::from(record).into();
            rows.push(self.user_row(&user));
        }
        Ok(self.revised(rows))
    }

    fn role_grant_permission(
        &mut self,
        name: &str,
        permission: Option<&Permission>,
    ) -> Result<Changed, AuthError> {
        let permission = permission.ok_or(AuthError::PermissionNotGiven)?;
        if !is_range(&permission.key, &permission.range_end) {
            return Err(AuthError::InvalidManagement);
        }
        if permission.key.len().max(permission.range_end.len()) > MAX_KEY_BYTES {
            return Err(AuthError::PermissionTooLong);
        }
        let mut role = self.role(name)?;
        role.grant(permission.clone());
        check_record(role.record())?;
        Ok(self.put_role(name, role))
    }

    fn role_revoke_permission(
        &mut self,
        request: &AuthRoleRevokePermissionRequest,
    ) -> Result<Changed, AuthError> {
        let mut role = self.role(&request.role)?;
        if !role.revoke(&request.key, &request.range_end) {
            return Err(AuthError::PermissionNotGranted);
        }
        Ok(self.put_role(&request.role, role))
    }

    /// The password was checked before the command was proposed. It counts only if nothing has
    /// changed since, or a login that raced with a change of the password would still succeed.
    fn grant_token(&self, request: &GrantToken) -> Result<Changed, AuthError> {
        if !self.enabled {
            return Err(AuthError::NotEnabled);
        }
        if request.auth_revision != self.revision {
            return Err(AuthError::OldRevision);
        }
        let user = self.users.get_key_value(request.user.as_str());
        let (name, user) = user.ok_or(AuthError::AuthFailed)?;
        if user.password_hash().is_none() {
            return Err(AuthError::AuthFailed);
        }
        Ok(Changed {
            rows: Vec::new(),
            effect: Effect::Granted {
                user: Arc::clone(name),
                digest: request.digest.clone(),
            },
        })
    }

    fn role(&self, name: &str) -> Result<Role, AuthError> {
        let role = self.roles.get(name).ok_or(AuthError::RoleNotFound)?;
        Ok(Role::clone(role))
    }

    fn put_user(&mut self, name: &str, record: UserRecord) -> Changed {
        self.users.insert(name.into(), User::from(record).into());
        let row = self.user_row(name);
        self.revised([row])
    }

    fn put_role(&mut self, name: &str, role: Role) -> Changed {
        self.roles.insert(name.into(), role.into());
        // What these users may do is found out anew.
        for user in self.users_with(name) {
            if let Some(user) = self.users.get_mut(&user) {
                *user = User::from(user.record().clone()).into();
            }
        }
        let row = self.role_row(name);
        self.revised([row])
    }

    fn users_with(&self, role: &str) -> Vec<Arc<str>> {
        let have = self.users.iter().filter(|(_, user)| user.has_role(role));
        have.map(|(name, _)| Arc::clone(name)).collect()
    }

    /// The revision of the change that is being made.
    fn next_revision(&self) -> u64 {
        self.revision + 1
    }

    /// A change: the revision grows with it.
    fn revised(&mut self, changed: impl IntoIterator<Item = Row>) -> Changed {
        self.revision = self.next_revision();
        let record = self.record_row();
        rows(changed.into_iter().chain([record]))
    }
}

fn rows(rows: impl IntoIterator<Item = Row>) -> Changed {
    Changed {
        rows: rows.into_iter().collect(),
        effect: Effect::None,
    }
}

/// Every member must be able to store what is in the log.
fn check_length(name: &str) -> Result<(), AuthError> {
    match name.len() > MAX_NAME_BYTES {
        true => Err(AuthError::NameTooLong),
        false => Ok(()),
    }
}

/// Each change writes the whole record, and all records are in memory, so their size is bounded.
fn check_record(record: &impl Message) -> Result<(), AuthError> {
    match record.encoded_len() > MAX_RECORD_BYTES {
        true => Err(AuthError::RecordTooLarge),
        false => Ok(()),
    }
}

/// A user without a password has no hash, whatever the request says.
fn kept_hash(hash: &Bytes, no_password: bool) -> Bytes {
    if no_password {
        Bytes::new()
    } else {
        hash.clone()
    }
}
