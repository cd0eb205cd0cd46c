//! The log's order respects the true-time order of operations. Comparing etcd's revisions is cheap,
//! so this is checked before the full search of `linearizability`.

use synod_types::Index;

use super::{Check, Invariant};

pub(crate) const RULE: Invariant = Invariant {
    name: "real-time-order",
    source: "Herlihy and Wing, Linearizability §2; etcd API guarantees: revisions are a global order",
};

/// The log position when the last operation returned.
#[derive(Default)]
pub(crate) struct RealTime {
    returned: Index,
}

impl RealTime {
    /// The position that a new operation must not be before.
    pub(crate) fn begun(&self) -> Index {
        self.returned
    }

    /// A write at `index` returned.
    pub(crate) fn wrote(&mut self, begun: Index, index: Index) -> Check {
        RULE.ensure(index > begun, || {
            format!("a write at {index} returned that began after {begun} had returned")
        })?;
        self.returned = self.returned.max(index);
        Ok(())
    }

    /// A linearizable read returned that was served from the state at `index`.
    pub(crate) fn read(&mut self, begun: Index, index: Index) -> Check {
        RULE.ensure(index >= begun, || {
            format!("a read of {index} returned that began after {begun} had returned")
        })?;
        self.returned = self.returned.max(index);
        Ok(())
    }
}
