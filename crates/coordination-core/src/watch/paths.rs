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
    /// The paths with recursive watches, by their [`chained_hash`].
    recursive: Table<PathId>,
    pairs: usize,
    /// Of all paths.
    bytes: usize,
    seed: u64,
}

#[derive(Debug, Default)]
struct Entry {
    path: Box<str>,
    /// In order of the connections. Most paths have one watcher.
    watchers: SmallVec<[Watcher; 1]>,
    /// How many watchers have a recursive watch.
    recursive: u32,
}

impl Paths {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            index: Table::new(),
            recursive: Table::new(),
            pairs: 0,
            bytes: 0,
            seed,
        }
    }

    /// The number of pairs of path and connection.
    pub(super) fn pairs(&self) -> usize {
        self.pairs
    }

    /// The bytes of all paths.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
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
        self.bytes += path.len();
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
        let was_recursive = self.modes(id, connection).intersects(Modes::RECURSIVE);
        self.count_recursive(id, was_recursive, modes.intersects(Modes::RECURSIVE));
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

    /// One watcher's recursive watch comes or goes.
    fn count_recursive(&mut self, id: PathId, before: bool, after: bool) {
        if before == after {
            return;
        }
        let Self {
            entries,
            recursive,
            seed,
            ..
        } = self;
        let entry = &mut entries[id.0 as usize];
        if before {
            entry.recursive -= 1;
            if entry.recursive == 0 {
                recursive.remove(chained_hash(*seed, &entry.path), id);
            }
            return;
        }
        entry.recursive += 1;
        if entry.recursive == 1 {
            let hash = |id: &PathId| chained_hash(*seed, &entries[id.0 as usize].path);
            recursive.insert(hash(&id), id, hash);
        }
    }

    /// The paths with recursive watches above a node, the root first. It takes time in proportion
    /// to the path's length, although there may be a path above each of its names.
    pub(super) fn recursive_above(&self, path: &str) -> impl Iterator<Item = PathId> {
        let ancestors =
            path.match_indices('/')
                .scan((self.seed, 0), |(hash, start), (slash, _)| {
                    // Before the first slash there is no name: the ancestor is the root.
                    if slash > 0 {
                        *hash = chain(*hash, &path[*start..slash]);
                    }
                    *start = slash + 1;
                    Some((*hash, &path[..slash.max(1)]))
                });
        let is_below = move |&(_, ancestor): &(u64, &str)| ancestor.len() < path.len();
        ancestors.filter(is_below).filter_map(|(hash, ancestor)| {
            let is_it = |&id: &PathId| *self.entry(id).path == *ancestor;
            self.recursive.find(hash, is_it)
        })
    }

    fn forget(&mut self, id: PathId) {
        let path = std::mem::take(self.entry_mut(id)).path;
        self.bytes -= path.len();
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

/// The hash of a path and of each of its ancestors in one pass: each continues its parent's.
fn chained_hash(seed: u64, path: &str) -> u64 {
    let names = path.split('/').skip(1).filter(|_| path != "/");
    names.fold(seed, chain)
}

fn chain(parent: u64, name: &str) -> u64 {
    xxh3_64_with_seed(name.as_bytes(), parent)
}
