//! `meta.json`: whose a data directory is, and which format it has.

use serde::{Deserialize, Serialize};
use synod_types::{ClusterId, NodeId};

use crate::VERSION;

/// What `meta.json` holds; `own` is what a service adds, as fields beside the others. Ids are
/// hexadecimal.
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
    /// The token of the cluster that it was created for; empty if it joined one.
    pub token: String,
    /// Whether it was made with the cluster or joined it later.
    pub origin: Origin,
    /// What the service adds.
    #[serde(flatten)]
    pub own: Own,
    created_by: String,
}

/// How a member came into its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// As one of the first.
    Bootstrap,
    /// It was added to a running cluster.
    Join,
}

/// What [`Meta::new`] needs.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    /// The cluster whose data it will be.
    pub cluster: ClusterId,
    /// The member whose data it will be.
    pub member: NodeId,
    /// Random for each creation: a wiped member is not the one that voted before.
    pub incarnation: u64,
    /// The member's name at that time.
    pub name: &'a str,
}

impl<Own> Meta<Own> {
    /// The identity of a directory that is about to be created, by a member that joins.
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

    /// The same, made with the cluster of this token.
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
