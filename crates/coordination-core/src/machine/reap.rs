//! The end of containers and of nodes with a TTL.

use super::write::split_deletable;
use super::{Machine, Reply};
use crate::OpError;
use crate::stat::Owner;
use crate::tree::NodeId;

impl Machine {
    /// Deletes a node whose end has come. That is checked again here: a child may have been created
    /// since the command was sent.
    pub(super) fn reap(&mut self, path: &str) -> Result<Reply, OpError> {
        let (parent_path, name) = split_deletable(path)?;
        let parent = self.tree.find(parent_path)?;
        let id = self.child(parent_path, parent, name)?;
        if self.tree.node(id).children() > 0 {
            return Err(OpError::NotEmpty);
        }
        if self.end_ms(id).is_none_or(|end_ms| end_ms > self.time_ms) {
            return Err(OpError::BadVersion);
        }
        self.remove(id, path);
        Ok(Reply::Deleted)
    }

    /// The time from which on a node may be reaped. A container that never had children may not.
    fn end_ms(&self, id: NodeId) -> Option<i64> {
        let node = self.tree.node(id);
        if node.children() > 0 {
            return None;
        }
        match node.fields.owner {
            Owner::None | Owner::Session(_) => None,
            Owner::Container => (node.fields.counter != 0).then_some(i64::MIN),
            Owner::Ttl { ttl_ms } => {
                let last_ms = node.fields.mtime_ms.saturating_add(ttl_ms);
                Some(last_ms.saturating_add(1))
            }
        }
    }

    /// Must precede every change of a node's fields or of the number of its children.
    pub(super) fn unlist_end(&mut self, id: NodeId) {
        if let Some(end_ms) = self.end_ms(id) {
            self.ends.remove(&(end_ms, id));
        }
    }

    /// Must follow every change of a node's fields or of the number of its children.
    pub(super) fn list_end(&mut self, id: NodeId) {
        if let Some(end_ms) = self.end_ms(id) {
            self.ends.insert((end_ms, id));
        }
    }
}
