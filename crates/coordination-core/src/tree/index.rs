//! Finds a node by its parent and its name.

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::node::NodeId;
use super::slots::Slots;

/// Tables of ids, hashed by parent and name. There are many, so that no single one takes long to
/// grow: growing rehashes all its nodes.
#[derive(Debug)]
pub(super) struct Index {
    shards: Box<[HashTable<NodeId>]>,
    seed: u64,
}

const SHARDS: usize = 1024;

impl Index {
    /// The seed should be hard to guess, so that no client can choose names that collide.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| HashTable::new()).collect(),
            seed,
        }
    }

    pub(super) fn find(&self, slots: &Slots, parent: NodeId, name: &[u8]) -> Option<NodeId> {
        let hash = self.hash(parent, name);
        let is_it = |&id: &NodeId| {
            slots
                .get(id)
                .is_some_and(|node| node.links.parent == parent && node.body.name_bytes() == name)
        };
        self.shards[shard(hash)].find(hash, is_it).copied()
    }

    /// Adds a node that is in its slot already.
    pub(super) fn insert(&mut self, slots: &Slots, id: NodeId) {
        let hash = self.hash_of(slots, id);
        let seed = self.seed;
        let rehash = |&id: &NodeId| hash_node(seed, slots, id);
        self.shards[shard(hash)].insert_unique(hash, id, rehash);
    }

    /// Removes a node that is in its slot still.
    pub(super) fn remove(&mut self, slots: &Slots, id: NodeId) {
        let hash = self.hash_of(slots, id);
        if let Ok(entry) = self.shards[shard(hash)].find_entry(hash, |&other| other == id) {
            entry.remove();
        }
    }

    fn hash_of(&self, slots: &Slots, id: NodeId) -> u64 {
        hash_node(self.seed, slots, id)
    }

    fn hash(&self, parent: NodeId, name: &[u8]) -> u64 {
        hash(self.seed, parent, name)
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

/// The tables use the lowest and the highest bits.
fn shard(hash: u64) -> usize {
    (hash >> 40) as usize % SHARDS
}
