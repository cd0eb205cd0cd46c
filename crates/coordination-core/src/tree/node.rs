//! One node.

use crate::Zxid;
use crate::acl::AclId;
use crate::stat::{Owner, Stat};

/// A node's place in the tree's memory and in the encoding: parents are named by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NodeId(u32);

impl NodeId {
    pub(crate) const ROOT: Self = Self(0);
    /// No node: the root's parent, the end of a list.
    pub(crate) const NONE: Self = Self(u32::MAX);

    pub(crate) const fn new(id: u32) -> Self {
        Self(id)
    }

    pub(crate) const fn get(self) -> u32 {
        self.0
    }

    pub(crate) fn some(self) -> Option<Self> {
        (self != Self::NONE).then_some(self)
    }
}

/// A node. Its size counts: there are millions. It has two cache lines of its own.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Node {
    pub(crate) fields: Fields,
    pub(crate) body: Body,
    pub(crate) acl: AclId,
    pub(super) links: Links,
    /// The page of the checkpoint that has it.
    pub(super) page: u32,
}

/// What [`Stat`] shows, as far as it is not derived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields {
    pub(crate) czxid: Zxid,
    pub(crate) mzxid: Zxid,
    pub(crate) pzxid: Zxid,
    pub(crate) ctime_ms: i64,
    pub(crate) mtime_ms: i64,
    pub(crate) version: i32,
    pub(crate) aversion: i32,
    /// The children created so far; sequential nodes are named by it.
    pub(crate) counter: i32,
    pub(crate) owner: Owner,
}

/// The node's place among others. The children are a list through the nodes, so that a parent needs
/// no memory for them, however many there are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Links {
    pub(super) parent: NodeId,
    pub(super) first_child: NodeId,
    pub(super) previous: NodeId,
    pub(super) next: NodeId,
    pub(super) children: u32,
}

impl Links {
    pub(super) fn under(parent: NodeId) -> Self {
        Self {
            parent,
            first_child: NodeId::NONE,
            previous: NodeId::NONE,
            next: NodeId::NONE,
            children: 0,
        }
    }
}

/// Name and data in one allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Body {
    bytes: Box<[u8]>,
    name_len: u32,
    /// ZooKeeper tells no data from empty data.
    has_data: bool,
}

impl Body {
    pub(crate) fn new(name: &str, data: Option<&[u8]>) -> Self {
        let mut bytes = Vec::with_capacity(name.len() + data.map_or(0, <[u8]>::len));
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(data.unwrap_or_default());
        Self {
            bytes: bytes.into_boxed_slice(),
            name_len: u32::try_from(name.len()).expect("a name comes in one request"),
            has_data: data.is_some(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        std::str::from_utf8(self.name_bytes()).expect("names are text")
    }

    pub(super) fn name_bytes(&self) -> &[u8] {
        &self.bytes[..self.name_len as usize]
    }

    pub(crate) fn data(&self) -> Option<&[u8]> {
        self.has_data.then(|| &self.bytes[self.name_len as usize..])
    }

    pub(crate) fn data_len(&self) -> usize {
        self.bytes.len() - self.name_len as usize
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }
}

impl Node {
    pub(crate) fn parent(&self) -> Option<NodeId> {
        self.links.parent.some()
    }

    pub(crate) fn children(&self) -> u32 {
        self.links.children
    }

    pub(crate) fn stat(&self) -> Stat {
        let Fields {
            czxid,
            mzxid,
            pzxid,
            ctime_ms,
            mtime_ms,
            version,
            aversion,
            counter,
            owner,
        } = self.fields;
        let num_children = i32::try_from(self.links.children).unwrap_or(i32::MAX);
        Stat {
            czxid,
            mzxid,
            ctime_ms,
            mtime_ms,
            version,
            // Each child was created once, and those that are gone were deleted once.
            cversion: counter.wrapping_mul(2).wrapping_sub(num_children),
            aversion,
            ephemeral_owner: owner.session().unwrap_or_default(),
            data_length: i32::try_from(self.body.data_len()).unwrap_or(i32::MAX),
            num_children,
            pzxid,
        }
    }
}
