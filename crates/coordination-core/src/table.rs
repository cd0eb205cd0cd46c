//! A hash table of ids whose keys are stored elsewhere.

use hashbrown::HashTable;

/// Many small tables instead of a large one: a table that grows hashes all its keys again, which
/// for a million at once would take 100 ms.
#[derive(Debug)]
pub(crate) struct Table<T> {
    shards: Box<[HashTable<T>]>,
}

impl<T: Copy + Eq> Table<T> {
    const SHARDS: usize = 1024;

    pub(crate) fn new() -> Self {
        Self {
            shards: (0..Self::SHARDS).map(|_| HashTable::new()).collect(),
        }
    }

    /// Finds the id with this hash for whose key `is_it` is true.
    pub(crate) fn find(&self, hash: u64, is_it: impl FnMut(&T) -> bool) -> Option<T> {
        self.shards[shard(hash)].find(hash, is_it).copied()
    }

    /// Adds an id that is not in the table. `rehash` returns the hash of an id's key.
    pub(crate) fn insert(&mut self, hash: u64, id: T, rehash: impl Fn(&T) -> u64) {
        self.shards[shard(hash)].insert_unique(hash, id, rehash);
    }

    pub(crate) fn remove(&mut self, hash: u64, id: T) {
        let entry = self.shards[shard(hash)].find_entry(hash, |&other| other == id);
        if let Ok(entry) = entry {
            entry.remove();
        }
    }
}

/// The small tables themselves use the lowest and the highest bits.
fn shard(hash: u64) -> usize {
    let [_, _, _, _, _, low, high, _] = hash.to_le_bytes();
    usize::from(u16::from_le_bytes([low, high])) % Table::<u32>::SHARDS
}
