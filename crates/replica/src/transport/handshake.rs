//! Who may talk to whom.

use synod_proto::replica::v1::Hello;
use synod_types::{ClusterId, NodeId};

/// The version of the peer contract that this node speaks.
const VERSION: u32 = 1;
/// The oldest version that it still understands.
const MIN_VERSION: u32 = 1;

/// This node, as it introduces itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) cluster: ClusterId,
    pub(crate) node: NodeId,
}

/// Why a peer is refused. Trying again helps only after somebody changed the configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("the stream did not begin with an introduction")]
    NoHello,
    #[error(
        "node {from} belongs to cluster {theirs}, this one to cluster {ours}: check the peer addresses \
         and the initial cluster settings of both"
    )]
    Cluster {
        from: NodeId,
        theirs: ClusterId,
        ours: ClusterId,
    },
    #[error(
        "node {from} looks for node {wanted} at the address of node {ours}: check the peer addresses"
    )]
    WrongNode {
        from: NodeId,
        wanted: NodeId,
        ours: NodeId,
    },
    #[error("node {node} answers where node {expected} was expected: check the peer addresses")]
    Unexpected { node: NodeId, expected: NodeId },
    #[error(
        "node {from} has the id of this node: two members must not share an id or a data directory copy"
    )]
    SameId { from: NodeId },
    #[error("node {from} must not dial this one: the node with the lower id does")]
    Direction { from: NodeId },
    #[error("node {from} was removed from the cluster")]
    Removed { from: NodeId },
    #[error(
        "node {from} speaks peer versions {min} to {max}, this one {MIN_VERSION} to {VERSION}: upgrade \
         the older one version by version"
    )]
    Version { from: NodeId, min: u32, max: u32 },
    #[error("too many peers")]
    TooMany,
}

impl Identity {
    pub(crate) fn hello(&self, to: NodeId, groups: Vec<u64>) -> Hello {
        Hello {
            cluster: self.cluster.get(),
            from: self.node.get(),
            to: to.get(),
            version: VERSION,
            min_version: MIN_VERSION,
            groups,
        }
    }

    /// Checks what both sides check. Returns the peer.
    pub(crate) fn check(&self, hello: Option<&Hello>) -> Result<NodeId, Refused> {
        let hello = hello.ok_or(Refused::NoHello)?;
        let from = NodeId::new(hello.from);
        let theirs = ClusterId::new(hello.cluster);
        if theirs != self.cluster {
            let ours = self.cluster;
            return Err(Refused::Cluster { from, theirs, ours });
        }
        let wanted = NodeId::new(hello.to);
        if wanted != self.node {
            let ours = self.node;
            return Err(Refused::WrongNode { from, wanted, ours });
        }
        if from == self.node || !from.is_some() {
            return Err(Refused::SameId { from });
        }
        if hello.min_version > VERSION || hello.version < MIN_VERSION {
            let (min, max) = (hello.min_version, hello.version);
            return Err(Refused::Version { from, min, max });
        }
        Ok(from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Identity = Identity {
        cluster: ClusterId::new(7),
        node: NodeId::new(2),
    };

    fn hello() -> Hello {
        let theirs = Identity {
            node: NodeId::new(1),
            ..OURS
        };
        theirs.hello(OURS.node, vec![1])
    }

    #[test]
    fn a_member_is_welcome_and_strangers_learn_why_not() {
        assert_eq!(OURS.check(Some(&hello())), Ok(NodeId::new(1)));
        assert_eq!(OURS.check(None), Err(Refused::NoHello));
        let refused = |change: fn(&mut Hello)| {
            let mut hello = hello();
            change(&mut hello);
            OURS.check(Some(&hello)).unwrap_err().to_string()
        };
        assert!(
            refused(|hello| hello.cluster = 8)
                .contains("belongs to cluster 8, this one to cluster 7")
        );
        assert!(
            refused(|hello| hello.to = 3).contains("looks for node 3 at the address of node 2")
        );
        assert!(refused(|hello| hello.from = 2).contains("has the id of this node"));
        assert!(refused(|hello| hello.from = 0).contains("has the id"));
        assert!(refused(|hello| hello.min_version = 2).contains("versions 2 to 1"));
        assert!(refused(|hello| hello.version = 0).contains("versions 1 to 0"));
    }

    #[test]
    fn a_newer_peer_that_still_understands_us_is_welcome() {
        let newer = Hello {
            version: 9,
            ..hello()
        };
        assert_eq!(OURS.check(Some(&newer)), Ok(NodeId::new(1)));
    }
}
