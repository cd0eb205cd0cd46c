//! A role: permissions on keys and ranges.

use bytes::Bytes;
use synod_proto::consensus::v1::RoleRecord;
use synod_proto::etcd::authpb::Permission;

use super::intervals::OPEN_END;

/// A role.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Role {
    record: RoleRecord,
}

impl Eq for Role {}

impl From<RoleRecord> for Role {
    fn from(record: RoleRecord) -> Self {
        Self { record }
    }
}

impl Role {
    /// The row.
    pub(crate) fn record(&self) -> &RoleRecord {
        &self.record
    }

    /// The permissions in the order of key and range end, one a range.
    pub(crate) fn permissions(&self) -> &[Permission] {
        &self.record.permissions
    }

    /// Adds a permission, or changes the type of the one on the very same range.
    pub(crate) fn grant(&mut self, permission: Permission) {
        match self.position(&permission.key, &permission.range_end) {
            Ok(at) => self.record.permissions[at] = permission,
            Err(at) => self.record.permissions.insert(at, permission),
        }
    }

    /// Removes the permission on this very range; `false` where there is none.
    pub(crate) fn revoke(&mut self, key: &Bytes, range_end: &Bytes) -> bool {
        let found = self.position(key, range_end);
        if let Ok(at) = found {
            self.record.permissions.remove(at);
        }
        found.is_ok()
    }

    fn position(&self, key: &Bytes, range_end: &Bytes) -> Result<usize, usize> {
        let range = |one: &Permission| (one.key.clone(), one.range_end.clone());
        let wanted = (key.clone(), range_end.clone());
        self.record.permissions.binary_search_by_key(&wanted, range)
    }
}

/// Whether a permission can be about this range: it has a key, and is not empty.
pub(crate) fn is_range(key: &[u8], range_end: &[u8]) -> bool {
    !key.is_empty() && (range_end.is_empty() || range_end == OPEN_END || key < range_end)
}
