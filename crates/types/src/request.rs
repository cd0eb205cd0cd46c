//! Identifies the proposal behind an entry.

use std::fmt;

use crate::NodeId;

/// Identifies a proposal across the cluster, so that its node recognises the entry when it applies
/// it. It is unique as long as a node starts its sequence at a fresh random number each time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct RequestId {
    /// The node that made the proposal; [`NodeId::NONE`] for the core's own entries.
    pub node: NodeId,
    /// The node's sequence number for it.
    pub seq: u64,
}

impl RequestId {
    /// No request: a no-op, or the end of a joint configuration.
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
