//! Who: clusters, nodes, replication groups.

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

            /// The number, as it stands in formats and on the wire.
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
    /// A cluster: members of different clusters refuse each other. Printed in hexadecimal, as etcd
    /// does.
    ClusterId
}
id! {
    /// A node (etcd: member). Zero is no node.
    NodeId
}
id! {
    /// A replication group: one in the consensus service, thousands in storage.
    GroupId
}

impl NodeId {
    /// No node: an unknown leader, for instance.
    pub const NONE: Self = Self(0);

    /// Whether this is a node at all.
    #[must_use]
    pub const fn is_some(self) -> bool {
        self.0 != 0
    }
}
