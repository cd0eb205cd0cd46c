//! Whose proposal an entry is.

use std::fmt;

use crate::NodeId;

/// Names one proposal across the cluster, so that the node where it was made recognises the entry
/// when it applies it. Unique as long as a node starts its sequence at a fresh random number each
/// time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct RequestId {
    /// The node where the proposal was made; [`NodeId::NONE`] for entries of the core itself.
    pub node: NodeId,
    /// The node's own number for it.
    pub seq: u64,
}

impl RequestId {
    /// No request: a no-op or the end of a joint configuration.
    pub const NONE: Self = Self {
        node: NodeId::NONE,
        seq: 0,
    };
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{:x}", self.node, self.seq)
    }
}
