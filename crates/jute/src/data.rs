//! The records that others contain.

use bytestring::ByteString;

record! {
    /// What a server tells about a node beside its data.
    #[derive(Copy, Default)]
    Stat {
        /// The zxid of its creation.
        czxid: i64,
        /// The zxid of its last change of data.
        mzxid: i64,
        /// The time of its creation, in milliseconds since 1970.
        ctime: i64,
        /// The time of its last change of data, in milliseconds since 1970.
        mtime: i64,
        /// The number of changes of its data.
        version: i32,
        /// The number of changes of its list of children.
        cversion: i32,
        /// The number of changes of its ACL.
        aversion: i32,
        /// The session that an ephemeral node belongs to; zero for other nodes. Containers and
        /// nodes with a TTL have values of their own.
        ephemeral_owner: i64,
        /// The length of its data in bytes.
        data_length: i32,
        /// The number of its children.
        num_children: i32,
        /// The zxid of the last change of its list of children.
        pzxid: i64,
    }

    /// Who may do something: a scheme, and an identity within it.
    Id {
        /// For example `world`, `auth`, `digest`, `ip`, `x509` or `sasl`. ZooKeeper refuses an ACL
        /// in which it is null as invalid.
        scheme: Option<ByteString>,
        /// The identity in the scheme's own form.
        id: Option<ByteString>,
    }

    /// One entry of an access control list.
    Acl {
        /// Bits of [`crate::permission`].
        perms: i32,
        /// Who has them.
        id: Id,
    }

    /// An identity of a connection.
    ClientInfo {
        /// The scheme.
        auth_scheme: ByteString,
        /// The user's name in that scheme, for example an address. Never a password.
        user: ByteString,
    }
}

impl Id {
    /// An identity.
    #[must_use]
    pub fn new(scheme: impl Into<ByteString>, id: impl Into<ByteString>) -> Self {
        Self {
            scheme: Some(scheme.into()),
            id: Some(id.into()),
        }
    }
}

impl Acl {
    /// An entry.
    #[must_use]
    pub fn new(perms: i32, scheme: impl Into<ByteString>, id: impl Into<ByteString>) -> Self {
        Self {
            perms,
            id: Id::new(scheme, id),
        }
    }

    /// All permissions for everyone.
    #[must_use]
    pub fn open() -> Self {
        Self::new(
            crate::permission::ALL,
            ByteString::from_static("world"),
            ByteString::from_static("anyone"),
        )
    }
}
