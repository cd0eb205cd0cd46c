//! Finds a node by its parent and its name.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::node::NodeId;
use super::slots::Slots;
use crate::table::Table;

/// The ids of all nodes but the root.
#[derive(Debug)]
pub(super) struct Index {
    table: Table<NodeId>,
    seed: u64,
}

impl Index {
    /// The seed should be hard to guess, so that no client can choose names that collide.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            table: Table::new(),
            seed,
        }
    }

    pub(super) fn find(&self, slots: &Slots, parent: NodeId, name: &[u8]) -> Option<NodeId> {
        let is_it = |&id: &NodeId| {
            let node = slots.get(id);
            node.is_some_and(|node| node.links.parent == parent && node.body.name_bytes() == name)
        };
        self.table.find(hash(self.seed, parent, name), is_it)
    }

    /// Adds a node that is in its slot already.
    pub(super) fn insert(&mut self, slots: &Slots, id: NodeId) {
        let hash = |id: &NodeId| hash_node(self.seed, slots, *id);
        self.table.insert(hash(&id), id, hash);
    }

    /// Removes a node that is in its slot still.
    pub(super) fn remove(&mut self, slots: &Slots, id: NodeId) {
        self.table.remove(hash_node(self.seed, slots, id), id);
    }
}

fn hash_node(seed: u64, slots: &Slots, id: NodeId) -> u64 {
    let node = slots.get(id).expect("indexed nodes exist");
    hash(seed, node.links.parent, node.body.name_bytes())
}

fn hash(seed: u64, parent: NodeId, name: &[u8]) -> u64 {
    let parent = u64::from(parent.get()).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    xxh3_64_with_seed(name, seed ^ parent)
}
