//! A user, and what the roles allow.

use std::fmt;
use std::sync::OnceLock;

use bytes::Bytes;
use synod_proto::consensus::v1::UserRecord;
use synod_proto::etcd::authpb::permission::Type;

use super::ROOT_ROLE;
use super::intervals::Intervals;
use super::role::Role;

/// A user.
#[derive(Clone, Default)]
pub(crate) struct User {
    record: UserRecord,
    /// Derived from the roles when it is needed first. Every change of the user or of one of the
    /// roles puts a new value in this one's place.
    allowed: OnceLock<Allowed>,
}

/// Without the hash of the password.
impl fmt::Debug for User {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("User")
            .field("roles", &self.record.roles)
            .finish_non_exhaustive()
    }
}

/// Two users are equal if their records are: what is derived from them need not be there yet.
impl PartialEq for User {
    fn eq(&self, other: &Self) -> bool {
        self.record == other.record
    }
}

impl Eq for User {}

/// What may be done with which keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Allowed {
    pub(crate) read: Intervals,
    pub(crate) write: Intervals,
}

impl From<UserRecord> for User {
    fn from(record: UserRecord) -> Self {
        Self {
            record,
            allowed: OnceLock::new(),
        }
    }
}

impl User {
    /// The row.
    pub(crate) fn record(&self) -> &UserRecord {
        &self.record
    }

    /// The roles, in order.
    pub(crate) fn roles(&self) -> &[String] {
        &self.record.roles
    }

    /// The password's hash; none for a user who can't log in by password.
    pub(crate) fn password_hash(&self) -> Option<&Bytes> {
        (!self.record.no_password).then_some(&self.record.password_hash)
    }

    /// The auth revision that gave the user this password. Earlier identities of that name are
    /// void: they may be those of a deleted user.
    pub(crate) fn since(&self) -> u64 {
        self.record.since
    }

    /// Whether the user may do everything.
    pub(crate) fn is_root(&self) -> bool {
        self.has_role(ROOT_ROLE)
    }

    /// Whether the user has this role.
    pub(crate) fn has_role(&self, role: &str) -> bool {
        self.position(role).is_ok()
    }

    /// Where the role is among the user's, or where it would be.
    pub(crate) fn position(&self, role: &str) -> Result<usize, usize> {
        self.record
            .roles
            .binary_search_by(|one| one.as_str().cmp(role))
    }

    /// What the roles allow together. A role that isn't there allows nothing.
    pub(crate) fn allowed<'r>(&self, role: impl Fn(&str) -> Option<&'r Role>) -> &Allowed {
        self.allowed.get_or_init(|| {
            let roles = || self.record.roles.iter().filter_map(|name| role(name));
            let union = |wanted: Type| {
                let granted = roles().flat_map(Role::permissions);
                let granted = granted.filter(|permission| {
                    // A type of a later release allows nothing.
                    Type::try_from(permission.perm_type)
                        .is_ok_and(|granted| granted == wanted || granted == Type::Readwrite)
                });
                Intervals::new(granted.map(|permission| (&permission.key, &permission.range_end)))
            };
            Allowed {
                read: union(Type::Read),
                write: union(Type::Write),
            }
        })
    }
}
