//! What watches are told.

use std::sync::Arc;

use crate::{AclList, Zxid};

/// What happened to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventKind {
    /// It was created.
    Created,
    /// It was deleted.
    Deleted,
    /// Its data was set.
    DataChanged,
    /// A child was created or deleted.
    ChildrenChanged,
}

impl EventKind {
    /// ZooKeeper's code.
    #[must_use]
    pub const fn code(self) -> i32 {
        match self {
            Self::Created => 1,
            Self::Deleted => 2,
            Self::DataChanged => 3,
            Self::ChildrenChanged => 4,
        }
    }
}

/// Something happened to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The transaction.
    pub zxid: Zxid,
    /// What happened.
    pub kind: EventKind,
    /// The node.
    pub path: Arc<str>,
    /// The node's access control list, a deleted node's last one: only who may read the node is
    /// told.
    pub acl: AclList,
}
