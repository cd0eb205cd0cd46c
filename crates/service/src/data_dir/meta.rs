//! `meta.json`: the owner and the format of a data directory.

use serde::{Deserialize, Serialize};
use synod_types::{ClusterId, NodeId};

use crate::VERSION;

/// The content of `meta.json`. The fields of `own`, which a service adds, stand beside the others.
/// Ids are hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta<Own> {
    /// The format of the whole directory.
    pub format: u32,
    #[serde(with = "hex")]
    cluster_id: u64,
    #[serde(with = "hex")]
    member_id: u64,
    #[serde(with = "hex")]
    incarnation: u64,
    name: String,
    /// The token of the new cluster that it was created for; empty if the member joined one.
    pub token: String,
    /// Whether the member was one of the first or joined later.
    pub origin: Origin,
    /// The service's own fields.
    #[serde(flatten)]
    pub own: Own,
    created_by: String,
}

/// How a member came to its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// It was one of the first members.
    Bootstrap,
    /// It was added to a running cluster.
    Join,
}

/// What [`Meta::new`] needs.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    /// The member's cluster.
    pub cluster: ClusterId,
    /// The member.
    pub member: NodeId,
    /// A random number for each creation: a member that was wiped is not the one that voted before.
    pub incarnation: u64,
    /// The member's name at the time of the creation.
    pub name: &'a str,
}

impl<Own> Meta<Own> {
    /// For a directory that is about to be created, of a member that joins a cluster.
    pub fn new(format: u32, identity: Identity<'_>, own: Own) -> Self {
        Self {
            format,
            cluster_id: identity.cluster.get(),
            member_id: identity.member.get(),
            incarnation: identity.incarnation,
            name: identity.name.to_owned(),
            token: String::new(),
            origin: Origin::Join,
            own,
            created_by: format!("synod {VERSION}"),
        }
    }

    /// The same, of one of the first members of the cluster with this token.
    #[must_use]
    pub fn bootstrapped(mut self, token: &str) -> Self {
        token.clone_into(&mut self.token);
        self.origin = Origin::Bootstrap;
        self
    }

    /// The cluster whose data it is.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        ClusterId::new(self.cluster_id)
    }

    /// The member whose data it is.
    #[must_use]
    pub fn member(&self) -> NodeId {
        NodeId::new(self.member_id)
    }
}

mod hex {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "the signature is serde's"
    )]
    pub(super) fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{value:x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = String::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16).map_err(D::Error::custom)
    }
}
