//! The state as rows, which the host keeps beside its own and writes with the entry that changed
//! them.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use synod_proto::consensus::v1::{AuthRecord, RoleRecord, UserRecord};

use super::role::Role;
use super::user::User;
use super::{AuthState, FIRST_REVISION};

/// What the keys of all rows start with.
pub const ROW_PREFIX: &[u8] = b"auth/";
const RECORD_ROW: &[u8] = b"auth/record";
const USER_PREFIX: &[u8] = b"auth/user/";
const ROLE_PREFIX: &[u8] = b"auth/role/";

/// A row to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Starts with [`ROW_PREFIX`].
    pub key: Bytes,
    /// Its new value; none: the row is removed.
    pub value: Option<Bytes>,
}

/// A stored row that can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the row {row} of users and roles can't be decoded")]
pub struct DamagedRow {
    row: String,
}

impl AuthState {
    /// Reads what was stored: all rows whose keys start with [`ROW_PREFIX`].
    ///
    /// # Errors
    /// A row is damaged, or is of a kind that this release doesn't know.
    pub fn load(rows: impl IntoIterator<Item = (Bytes, Bytes)>) -> Result<Self, DamagedRow> {
        let mut state = Self::default();
        for (key, value) in rows {
            state.load_row(&key, value).ok_or_else(|| DamagedRow {
                row: String::from_utf8_lossy(&key).into_owned(),
            })?;
        }
        Ok(state)
    }

    fn load_row(&mut self, key: &[u8], value: Bytes) -> Option<()> {
        if key == RECORD_ROW {
            let record = AuthRecord::decode(value).ok()?;
            self.enabled = record.enabled;
            self.revision = record.revision.max(FIRST_REVISION);
        } else if let Some(name) = name_of(key, USER_PREFIX) {
            let user = User::from(UserRecord::decode(value).ok()?);
            self.users.insert(name?, user.into());
        } else if let Some(name) = name_of(key, ROLE_PREFIX) {
            let role = Role::from(RoleRecord::decode(value).ok()?);
            self.roles.insert(name?, role.into());
        } else {
            return None;
        }
        Some(())
    }

    pub(super) fn record_row(&self) -> Row {
        let record = AuthRecord {
            enabled: self.enabled,
            revision: self.revision,
        };
        Row {
            key: Bytes::from_static(RECORD_ROW),
            value: Some(record.encode_to_vec().into()),
        }
    }

    /// The row of a user, as it is now.
    pub(super) fn user_row(&self, name: &str) -> Row {
        let user = self.users.get(name);
        Row {
            key: [USER_PREFIX, name.as_bytes()].concat().into(),
            value: user.map(|user| user.record().encode_to_vec().into()),
        }
    }

    /// The row of a role, as it is now.
    pub(super) fn role_row(&self, name: &str) -> Row {
        let role = self.roles.get(name);
        Row {
            key: [ROLE_PREFIX, name.as_bytes()].concat().into(),
            value: role.map(|role| role.record().encode_to_vec().into()),
        }
    }
}

/// The name in a key with this prefix; the inner option is none where it isn't text.
fn name_of(key: &[u8], prefix: &[u8]) -> Option<Option<Arc<str>>> {
    let name = key.strip_prefix(prefix)?;
    Some(std::str::from_utf8(name).ok().map(Arc::from))
}
