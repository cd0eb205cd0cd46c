//! The watched paths, each stored once, with its watchers.

use smallvec::SmallVec;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::Modes;
use crate::ConnectionId;
use crate::table::Table;

/// A path's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PathId(u32);

/// A connection that watches a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Watcher {
    pub(super) connection: ConnectionId,
    pub(super) modes: Modes,
}

#[derive(Debug)]
pub(super) struct Paths {
    entries: Vec<Entry>,
    free: Vec<PathId>,
    index: Table<PathId>,
    pairs: usize,
    seed: u64,
}

#[derive(Debug, Default)]
struct Entry {
    path: Box<str>,
    /// In order of the connections. Most paths have one watcher.
    watchers: SmallVec<[Watcher; 1]>,
}

impl Paths {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            index: Table::new(),
            pairs: 0,
            seed,
        }
    }

    /// The number of pairs of path and connection.
    pub(super) fn pairs(&self) -> usize {
        self.pairs
    }

    /// The number of paths that take memory.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    pub(super) fn find(&self, path: &str) -> Option<PathId> {
        let hash = xxh3_64_with_seed(path.as_bytes(), self.seed);
        let is_it = |&id: &PathId| *self.entry(id).path == *path;
        self.index.find(hash, is_it)
    }

    /// Finds or adds a path. A path that gets no watcher must be given to [`set`](Self::set).
    pub(super) fn intern(&mut self, path: &str) -> PathId {
        if let Some(id) = self.find(path) {
            return id;
        }
        let id = match self.free.pop() {
            Some(id) => id,
            None => {
                self.entries.push(Entry::default());
                PathId(u32::try_from(self.entries.len() - 1).expect("watches are bounded"))
            }
        };
        self.entry_mut(id).path = path.into();
        let Self {
            entries,
            index,
            seed,
            ..
        } = self;
        let hash = |id: &PathId| xxh3_64_with_seed(entries[id.0 as usize].path.as_bytes(), *seed);
        index.insert(hash(&id), id, hash);
        id
    }

    pub(super) fn path(&self, id: PathId) -> &str {
        &self.entry(id).path
    }

    pub(super) fn watchers(&self, id: PathId) -> &[Watcher] {
        &self.entry(id).watchers
    }

    pub(super) fn modes(&self, id: PathId, connection: ConnectionId) -> Modes {
        let watchers = &self.entry(id).watchers;
        match watchers.binary_search_by_key(&connection, |watcher| watcher.connection) {
            Ok(place) => watchers[place].modes,
            Err(_) => Modes::NONE,
        }
    }

    /// Sets a connection's modes, and forgets the path with its last watcher.
    pub(super) fn set(&mut self, id: PathId, connection: ConnectionId, modes: Modes) {
        let watchers = &mut self.entry_mut(id).watchers;
        let place = watchers.binary_search_by_key(&connection, |watcher| watcher.connection);
        match (place, modes) {
            (Err(_), Modes::NONE) => {}
            (Err(place), modes) => {
                watchers.insert(place, Watcher { connection, modes });
                self.pairs += 1;
            }
            (Ok(place), Modes::NONE) => {
                watchers.remove(place);
                self.pairs -= 1;
            }
            (Ok(place), modes) => watchers[place].modes = modes,
        }
        if self.entry(id).watchers.is_empty() {
            self.forget(id);
        }
    }

    fn forget(&mut self, id: PathId) {
        let path = std::mem::take(self.entry_mut(id)).path;
        let hash = xxh3_64_with_seed(path.as_bytes(), self.seed);
        self.index.remove(hash, id);
        self.free.push(id);
    }

    /// All paths with their watchers, in no particular order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &[Watcher])> {
        let watched = self
            .entries
            .iter()
            .filter(|entry| !entry.watchers.is_empty());
        watched.map(|entry| (&*entry.path, &*entry.watchers))
    }

    fn entry(&self, id: PathId) -> &Entry {
        &self.entries[id.0 as usize]
    }

    fn entry_mut(&mut self, id: PathId) -> &mut Entry {
        &mut self.entries[id.0 as usize]
    }
}
