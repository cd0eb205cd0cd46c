//! Decides which nodes may exchange messages.

use synod_consensus_core::Algorithm;
use synod_proto::replica::v1 as wire;
use synod_proto::replica::v1::Hello;
use synod_types::{ClusterId, NodeId};

/// The version of the peer contract that this node speaks.
const VERSION: u32 = 1;
/// The oldest version that it still understands.
const MIN_VERSION: u32 = 1;

/// What this node says about itself to peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) cluster: ClusterId,
    pub(crate) node: NodeId,
    /// All groups of a process run the same algorithm.
    pub(crate) algorithm: Algorithm,
    /// The highest feature level that it has.
    pub(crate) feature_level: u32,
}

/// A peer whose introduction was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Introduced {
    pub(crate) node: NodeId,
    /// The highest feature level that it has.
    pub(crate) feature_level: u32,
}

/// The reason why a peer is refused. A retry helps only after the configuration was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error(
        "the stream did not begin with an introduction: only members may connect to the peer address"
    )]
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
        "node {from} has the id of this node: stop the one that runs on a copy of the other's data directory, and \
         add it to the cluster with an empty one"
    )]
    SameId { from: NodeId },
    #[error(
        "node {from} must not connect to this one, since the node with the lower id connects: start the same release \
         on both"
    )]
    Direction { from: NodeId },
    #[error(
        "node {from} was removed from the cluster: stop it, or add it again with an empty data directory"
    )]
    Removed { from: NodeId },
    #[error(
        "node {from} speaks peer versions {min} to {max}, this one {MIN_VERSION} to {VERSION}: upgrade \
         the older one version by version"
    )]
    Version { from: NodeId, min: u32, max: u32 },
    #[error(
        "node {from} runs {theirs}, this one {ours}: the members of a cluster run one consensus algorithm; start the one that \
         differs with an empty data directory and the --engine of the others"
    )]
    Algorithm {
        from: NodeId,
        theirs: String,
        ours: Algorithm,
    },
    #[error(
        "node {from} has feature level {theirs}, and its cluster uses level {required}: start a newer release there"
    )]
    TooOld {
        from: NodeId,
        theirs: u32,
        required: u32,
    },
    #[error(
        "the cluster of node {from} uses feature level {required}, and this node has level {ours}: start a newer release \
         here"
    )]
    TooNew {
        from: NodeId,
        ours: u32,
        required: u32,
    },
    #[error(
        "this node already has the maximum number of peers: check the peer addresses of the others"
    )]
    TooMany,
}

impl Identity {
    /// `required_level` is the feature level that the cluster uses.
    pub(crate) fn hello(&self, to: NodeId, groups: Vec<u64>, required_level: u32) -> Hello {
        Hello {
            cluster: self.cluster.get(),
            from: self.node.get(),
            to: to.get(),
            version: VERSION,
            min_version: MIN_VERSION,
            groups,
            algorithm: self.algorithm_to_wire(),
            feature_level: self.feature_level,
            cluster_feature_level: required_level,
        }
    }

    /// The algorithm that this node runs.
    pub(crate) fn algorithm_to_wire(&self) -> i32 {
        match self.algorithm {
            Algorithm::Raft => wire::Algorithm::Raft,
            Algorithm::MultiPaxos => wire::Algorithm::MultiPaxos,
        }
        .into()
    }

    /// Checks that the peer runs the same algorithm: otherwise messages have no meaning.
    pub(crate) fn check_algorithm(&self, from: NodeId, algorithm: i32) -> Result<(), Refused> {
        let ours = self.algorithm;
        let theirs = match wire::Algorithm::try_from(algorithm) {
            Ok(wire::Algorithm::Raft) => Ok(Algorithm::Raft),
            Ok(wire::Algorithm::MultiPaxos) => Ok(Algorithm::MultiPaxos),
            Err(_) => Err(format!("algorithm {algorithm} of a newer release")),
        };
        match theirs {
            Ok(theirs) if theirs == ours => Ok(()),
            Ok(theirs) => {
                let theirs = theirs.to_string();
                Err(Refused::Algorithm { from, theirs, ours })
            }
            Err(theirs) => Err(Refused::Algorithm { from, theirs, ours }),
        }
    }

    /// Makes the checks that both sides make. `required_level` is the feature level that the
    /// cluster uses, as far as this node knows. Returns the peer.
    pub(crate) fn check(
        &self,
        hello: Option<&Hello>,
        required_level: u32,
    ) -> Result<Introduced, Refused> {
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
        self.check_algorithm(from, hello.algorithm)?;
        let (theirs, ours) = (hello.feature_level, self.feature_level);
        if theirs < required_level {
            let required = required_level;
            return Err(Refused::TooOld {
                from,
                theirs,
                required,
            });
        }
        if ours < hello.cluster_feature_level {
            let required = hello.cluster_feature_level;
            return Err(Refused::TooNew {
                from,
                ours,
                required,
            });
        }
        Ok(Introduced {
            node: from,
            feature_level: theirs,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Identity = Identity {
        cluster: ClusterId::new(7),
        node: NodeId::new(2),
        algorithm: Algorithm::Raft,
        feature_level: 2,
    };
    const THEM: Introduced = Introduced {
        node: NodeId::new(1),
        feature_level: 2,
    };

    fn hello() -> Hello {
        let theirs = Identity {
            node: NodeId::new(1),
            ..OURS
        };
        theirs.hello(OURS.node, vec![1], 0)
    }

    #[test]
    fn a_member_is_welcome_and_strangers_learn_why_not() {
        assert_eq!(OURS.check(Some(&hello()), 0), Ok(THEM));
        assert_eq!(OURS.check(None, 0), Err(Refused::NoHello));
        let refused = |change: fn(&mut Hello)| {
            let mut hello = hello();
            change(&mut hello);
            OURS.check(Some(&hello), 0).unwrap_err().to_string()
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
    fn a_peer_of_another_algorithm_learns_which_the_two_are() {
        let paxos = Identity {
            algorithm: Algorithm::MultiPaxos,
            ..OURS
        };
        let refused = paxos.check(Some(&hello()), 0).unwrap_err().to_string();
        assert!(
            refused.contains("node 1 runs raft, this one multi-paxos"),
            "{refused}"
        );
        let theirs = Hello {
            algorithm: paxos.algorithm_to_wire(),
            ..hello()
        };
        assert_eq!(paxos.check(Some(&theirs), 0), Ok(THEM));
        let refused = OURS.check(Some(&theirs), 0).unwrap_err().to_string();
        assert!(
            refused.contains("node 1 runs multi-paxos, this one raft"),
            "{refused}"
        );
        let unknown = Hello {
            algorithm: 7,
            ..hello()
        };
        let refused = OURS.check(Some(&unknown), 0).unwrap_err().to_string();
        assert!(refused.contains("algorithm 7"), "{refused}");
    }

    #[test]
    fn who_lacks_what_the_cluster_uses_is_refused_on_either_side() {
        assert_eq!(OURS.check(Some(&hello()), 2), Ok(THEM));
        let refused = OURS.check(Some(&hello()), 3).unwrap_err().to_string();
        assert!(
            refused.contains("node 1 has feature level 2, and its cluster uses level 3"),
            "{refused}"
        );
        let newer = |feature_level, cluster_feature_level| Hello {
            feature_level,
            cluster_feature_level,
            ..hello()
        };
        // A newer release is welcome while the cluster does without what it adds.
        assert!(OURS.check(Some(&newer(3, 2)), 2).is_ok());
        let refused = OURS.check(Some(&newer(3, 3)), 2).unwrap_err().to_string();
        assert!(
            refused.contains("uses feature level 3, and this node has level 2"),
            "{refused}"
        );
    }

    #[test]
    fn a_newer_peer_that_still_understands_us_is_welcome() {
        let newer = Hello {
            version: 9,
            ..hello()
        };
        assert_eq!(OURS.check(Some(&newer), 0), Ok(THEM));
    }
}
