//! Ids of clusters, nodes and replication groups.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(u64);

        impl $name {
            /// The id with this number.
            #[must_use]
            pub const fn new(value: u64) -> Self {
                Self(value)
            }

            /// The number, as used in file formats and on the wire.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0
            }
        }

        impl From<u64> for $name {
            fn from(value: u64) -> Self {
                Self(value)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:x})"), self.0)
            }
        }
    };
}

id! {
    /// Identifies a cluster. Members of different clusters refuse each other. Printed in
    /// hexadecimal, as in etcd.
    ClusterId
}
id! {
    /// Identifies a node, which etcd calls a member. Zero means no node.
    NodeId
}
id! {
    /// Identifies a replication group. The consensus service has one, storage has thousands.
    GroupId
}

impl NodeId {
    /// No node, for example if the leader is unknown.
    pub const NONE: Self = Self(0);

    /// Whether this is a node and not [`Self::NONE`].
    #[must_use]
    pub const fn is_some(self) -> bool {
        self.0 != 0
    }
}
