//! Quotas in the tree: what is limited, and what is used.

use super::Machine;
use super::write::length;
use crate::OpError;
use crate::limits::MAX_RECOUNTED_NODES;
use crate::path::QUOTA_PATH;
use crate::quota::{self, Numbers};
use crate::tree::NodeId;

/// The quota of a path.
#[derive(Debug)]
struct Quota<'a> {
    /// The path with the limits: the node's own, or that of an ancestor.
    target: &'a str,
    limits: Numbers,
    /// The node that says what is used.
    stats: NodeId,
    used: Numbers,
}

impl Machine {
    /// Checks that a node with this path may add so many nodes and bytes.
    pub(super) fn check_quota(&self, path: &str, count: i64, bytes: i64) -> Result<(), OpError> {
        match self.quota(path) {
            Some(quota) if quota.limits.refuses(&quota.used, count, bytes) => {
                Err(OpError::QuotaExceeded)
            }
            _ => Ok(()),
        }
    }

    /// Adds to what is used. This changes no version and causes no event.
    pub(super) fn use_quota(&mut self, path: &str, count: i64, bytes: i64) {
        let Some(Quota {
            target,
            limits,
            stats,
            mut used,
        }) = self.quota(path)
        else {
            return;
        };
        used.count = used.count.saturating_add(count);
        used.bytes = used.bytes.saturating_add(bytes);
        self.set_body(stats, Some(used.render().as_bytes()));
        let is_more = count > 0 || bytes > 0;
        if is_more && limits.is_exceeded_by(&used) {
            self.over_quota.insert(target.to_owned());
        }
    }

    /// The deepest quota that contains a path, if there are both its limits and what is used. The
    /// nodes with quotas have the same tree below `/zookeeper/quota` as their targets.
    fn quota<'a>(&self, path: &'a str) -> Option<Quota<'a>> {
        if self.quotas.is_empty() {
            return None;
        }
        let mut node = self.tree.find(QUOTA_PATH).ok()?;
        let mut end = 0;
        let mut deepest = None;
        for name in path.split('/').skip(1) {
            let Some(child) = self.tree.child(node, name) else {
                break;
            };
            node = child;
            end += 1 + name.len();
            if let Some(&limits) = self.quotas.get(node) {
                deepest = Some((node, &path[..end], limits));
            }
        }
        let (node, target, limits) = deepest?;
        let stats = self.tree.child(node, quota::STATS)?;
        Some(Quota {
            target,
            limits,
            stats,
            used: Numbers::parse(self.tree.node(stats).body.data()),
        })
    }

    /// Checks that the command may still create a node that says what is used: to count it takes
    /// time.
    pub(super) fn check_recount(&self, path: &str) -> Result<(), OpError> {
        if self.recounted >= MAX_RECOUNTED_NODES && quota::stats_target(path).is_some() {
            return Err(OpError::QuotaExceeded);
        }
        Ok(())
    }

    /// Counts what is used, if this new node is one that says so.
    pub(super) fn recount(&mut self, stats: NodeId, path: &str) {
        let Some(target) = quota::stats_target(path) else {
            return;
        };
        let (mut count, mut bytes) = (0, 0);
        if let Ok(id) = self.tree.find(target) {
            let nodes = std::iter::once(id).chain(self.tree.descendants(id));
            for node in nodes {
                self.recounted += 1;
                count += 1;
                bytes += length(self.tree.node(node).body.data());
            }
        }
        let used = Numbers::used(count, bytes);
        self.set_body(stats, Some(used.render().as_bytes()));
    }

    /// Takes the limits of a node that was added or whose data was set, if it is one with limits.
    pub(super) fn note_limits(&mut self, id: NodeId) {
        if self.tree.node(id).body.name() != quota::LIMITS {
            return;
        }
        let parent = self.tree.node(id).parent();
        if let Some(parent) = parent.filter(|&parent| self.is_quota(parent)) {
            let limits = Numbers::parse(self.tree.node(id).body.data());
            self.quotas.set(parent, limits);
        }
    }

    /// Forgets the limits of a node that is removed, if it is one with limits.
    pub(super) fn forget_limits(&mut self, id: NodeId) {
        let node = self.tree.node(id);
        if node.body.name() == quota::LIMITS
            && let Some(parent) = node.parent()
        {
            self.quotas.remove(parent);
        }
    }

    /// Whether the node is below `/zookeeper/quota`, and so stands for the path of a quota.
    fn is_quota(&self, id: NodeId) -> bool {
        let Ok(root) = self.tree.find(QUOTA_PATH) else {
            return false;
        };
        let above = |id: &NodeId| self.tree.node(*id).parent();
        std::iter::successors(above(&id), above).any(|ancestor| ancestor == root)
    }
}
