//! Access control lists: who may do what with a node.

mod cache;
mod scheme;

use std::collections::BTreeSet;
use std::sync::Arc;

pub(crate) use cache::{AclCache, AclId};
pub use scheme::digest;

use crate::codec::{Reader, Writer};
use crate::limits::{MAX_ACL_BYTES, MAX_ACL_ENTRIES};
use crate::{DecodeError, OpError};

/// An identity: of a client, or one that an [`Acl`] grants permissions to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// The scheme: `world`, `auth`, `digest`, `ip`, `x509`, `sasl`, or of clients also `super`.
    pub scheme: String,
    /// Who, in the scheme's own format.
    pub id: String,
}

impl Id {
    /// An identity from its parts.
    #[must_use]
    pub fn new(scheme: &str, id: &str) -> Self {
        Self {
            scheme: scheme.to_owned(),
            id: id.to_owned(),
        }
    }

    fn is_anyone(&self) -> bool {
        self.scheme == "world" && self.id == "anyone"
    }
}

/// Permissions as a set of bits. Bits without a meaning are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Perms(i32);

impl Perms {
    /// To read the node's data and list its children, and to get its events.
    pub const READ: Self = Self(1);
    /// To set its data.
    pub const WRITE: Self = Self(2);
    /// To create children.
    pub const CREATE: Self = Self(4);
    /// To delete children.
    pub const DELETE: Self = Self(8);
    /// To set its ACL.
    pub const ADMIN: Self = Self(16);
    /// All of them.
    pub const ALL: Self = Self(31);

    /// The permissions with these bits.
    #[must_use]
    pub const fn new(bits: i32) -> Self {
        Self(bits)
    }

    /// The bits.
    #[must_use]
    pub const fn bits(self) -> i32 {
        self.0
    }

    /// Either's permissions.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// One entry of an access control list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Acl {
    /// What is granted.
    pub perms: Perms,
    /// To whom.
    pub id: Id,
}

impl Acl {
    /// Everything, for everyone: what most clients give their nodes.
    #[must_use]
    pub fn open() -> Vec<Self> {
        vec![Self::world(Perms::ALL)]
    }

    /// These permissions for everyone.
    #[must_use]
    pub fn world(perms: Perms) -> Self {
        let id = Id::new("world", "anyone");
        Self { perms, id }
    }

    /// At least the length of its encoding.
    fn encoded_bytes(&self) -> usize {
        4 + 2 * 5 + self.id.scheme.len() + self.id.id.len()
    }
}

/// A node's access control list, shared by all nodes with the same one.
pub type AclList = Arc<[Acl]>;

/// Checks that one of the caller's identities has one of `perms`. An empty list permits everything,
/// and so does the identity `super`.
///
/// # Errors
/// [`OpError::NoAuth`].
pub fn check(list: &[Acl], perms: Perms, caller: &[Id]) -> Result<(), OpError> {
    let is_permitted = list.is_empty()
        || list
            .iter()
            .any(|acl| acl.perms.intersects(perms) && acl.id.is_anyone())
        || caller.iter().any(|id| id.scheme == "super")
        || list
            .iter()
            .filter(|acl| acl.perms.intersects(perms))
            .any(|acl| scheme::is_one_of(&acl.id, caller));
    if is_permitted {
        Ok(())
    } else {
        Err(OpError::NoAuth)
    }
}

/// The list that a node gets when a client gives it `list`: without duplicates, and with `auth`
/// replaced by the caller's authenticated identities.
///
/// # Errors
/// [`OpError::InvalidAcl`] if the list is empty or too long, an identity is not valid, or `auth`
/// stands for nobody.
pub(crate) fn expand(list: &[Acl], caller: &[Id]) -> Result<Vec<Acl>, OpError> {
    if list.is_empty() {
        return Err(OpError::InvalidAcl);
    }
    let mut expanded = Expanded::default();
    // A set, since a request has room for tens of thousands of entries.
    let mut seen = BTreeSet::new();
    for acl in list.iter().filter(|acl| seen.insert(*acl)) {
        if acl.id.scheme == "auth" {
            let before = expanded.list.len();
            for id in caller.iter().filter(|id| scheme::is_authenticated(id)) {
                expanded.push(acl.perms, id)?;
            }
            if expanded.list.len() == before {
                return Err(OpError::InvalidAcl);
            }
        } else if acl.id.is_anyone() || scheme::is_valid(&acl.id) {
            expanded.push(acl.perms, &acl.id)?;
        } else {
            return Err(OpError::InvalidAcl);
        }
    }
    Ok(expanded.list)
}

/// A list that is not too long.
#[derive(Debug, Default)]
struct Expanded {
    list: Vec<Acl>,
    bytes: usize,
}

impl Expanded {
    fn push(&mut self, perms: Perms, id: &Id) -> Result<(), OpError> {
        let id = id.clone();
        let acl = Acl { perms, id };
        self.bytes += acl.encoded_bytes();
        if self.list.len() == MAX_ACL_ENTRIES || self.bytes > MAX_ACL_BYTES {
            return Err(OpError::InvalidAcl);
        }
        self.list.push(acl);
        Ok(())
    }
}

/// The list as a caller sees it: who may not set it does not see the hashes of passwords.
pub(crate) fn visible(list: &[Acl], caller: &[Id]) -> Result<Vec<Acl>, OpError> {
    check(list, Perms::READ.union(Perms::ADMIN), caller)?;
    let mut list = list.to_vec();
    if check(&list, Perms::ADMIN, caller).is_err() {
        for acl in list.iter_mut().filter(|acl| acl.id.scheme == "digest") {
            if let Some((user, _)) = acl.id.id.split_once(':') {
                acl.id.id = format!("{user}:x");
            }
        }
    }
    Ok(list)
}

pub(crate) fn encode(list: &[Acl], out: &mut Writer) {
    out.len(list.len());
    for acl in list {
        out.i32(acl.perms.0);
        acl.id.encode(out);
    }
}

pub(crate) fn decode(input: &mut Reader<'_>) -> Result<Vec<Acl>, DecodeError> {
    (0..input.count(6)?)
        .map(|_| {
            Ok(Acl {
                perms: Perms(input.i32()?),
                id: Id::decode(input)?,
            })
        })
        .collect()
}

impl Id {
    pub(crate) fn encode(&self, out: &mut Writer) {
        out.text(&self.scheme);
        out.text(&self.id);
    }

    pub(crate) fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self::new(input.text()?, input.text()?))
    }
}

#[cfg(test)]
mod tests;
