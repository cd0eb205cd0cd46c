//! Watches: which connection is told of which event. They belong to a pod and are not replicated.

mod paths;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use paths::{PathId, Paths, Watcher};

use crate::event::{Event, EventKind};
use crate::{AclList, ConnectionId, Machine, Zxid};

/// What a watch waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WatchKind {
    /// The next change of a node's data, its deletion, or its creation. `exists` and `getData`
    /// leave it.
    Data,
    /// The next change of a node's children, or its deletion. `getChildren` leaves it.
    Child,
    /// All changes of a node and its children.
    Persistent,
    /// All changes of a node and of all nodes below it, but not of their children as such: each
    /// child's own events tell of it.
    PersistentRecursive,
}

/// Which watches a request is about, of those that a connection has on a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WatchSelector {
    /// Those of one kind.
    Kind(WatchKind),
    /// All.
    Any,
}

/// A set of kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Modes(u8);

impl Modes {
    const NONE: Self = Self(0);
    const DATA: Self = Self(1);
    const CHILD: Self = Self(2);
    const PERSISTENT: Self = Self(4);
    const RECURSIVE: Self = Self(8);
    const ALL: Self = Self(15);
    /// What ZooKeeper keeps in its table of data watches.
    const IN_DATA: Self = Self(1 | 4 | 8);
    /// What ZooKeeper keeps in its table of child watches.
    const IN_CHILD: Self = Self(2 | 4);

    const fn of(kind: WatchKind) -> Self {
        match kind {
            WatchKind::Data => Self::DATA,
            WatchKind::Child => Self::CHILD,
            WatchKind::Persistent => Self::PERSISTENT,
            WatchKind::PersistentRecursive => Self::RECURSIVE,
        }
    }

    const fn selected(selector: WatchSelector) -> Self {
        match selector {
            WatchSelector::Kind(kind) => Self::of(kind),
            WatchSelector::Any => Self::ALL,
        }
    }

    const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// An event for a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Who is told.
    pub connection: ConnectionId,
    /// The transaction; [`Zxid::NONE`] for what [`Watches::set`] found out.
    pub zxid: Zxid,
    /// What happened.
    pub kind: EventKind,
    /// To which node.
    pub path: Arc<str>,
}

/// The watches of a client that connects again, with what it had seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetWatches {
    /// The last transaction that the client knows.
    pub relative: Zxid,
    /// Data watches on nodes that existed.
    pub data: Vec<String>,
    /// Data watches on nodes that did not exist.
    pub exist: Vec<String>,
    /// Child watches.
    pub child: Vec<String>,
    /// Persistent watches.
    pub persistent: Vec<String>,
    /// Persistent recursive watches.
    pub recursive: Vec<String>,
}

/// The pod has as many watches as it has room for, or their paths take as many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the pod keeps {limit} watches, and {WATCH_PATH_BYTES} bytes of paths for each; \
     close connections or remove watches"
)]
pub struct TooManyWatches {
    /// The limit.
    pub limit: usize,
}

/// How many bytes the paths of all watches may have, for each watch that the pod has room for. A
/// path counts once, however many connections watch it.
const WATCH_PATH_BYTES: usize = 256;

/// ZooKeeper's summary of its data watches, persistent and recursive ones among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchSummary {
    /// Connections with watches.
    pub connections: usize,
    /// Paths with watches.
    pub paths: usize,
    /// Pairs of both.
    pub watches: usize,
}

/// The watches of a pod's connections.
#[derive(Debug)]
pub struct Watches {
    paths: Paths,
    connections: BTreeMap<ConnectionId, BTreeSet<PathId>>,
    limit: usize,
    counts: Counts,
}

/// Pairs of path and connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    data: usize,
    child: usize,
    recursive: usize,
}

impl Watches {
    /// No watches yet, and room for `limit` pairs of connection and path. The paths may have 256
    /// bytes on average. The seed is a number that clients can't guess, so that they can't choose
    /// paths that collide.
    #[must_use]
    pub fn new(limit: usize, seed: u64) -> Self {
        Self {
            paths: Paths::new(seed),
            connections: BTreeMap::new(),
            limit,
            counts: Counts::default(),
        }
    }

    /// Leaves a watch. The path need not exist. Call it in the order of reads and applied commands:
    /// a watch is told of everything that is applied later.
    ///
    /// # Errors
    /// [`TooManyWatches`]; the watch is not left.
    pub fn add(
        &mut self,
        connection: ConnectionId,
        path: &str,
        kind: WatchKind,
    ) -> Result<(), TooManyWatches> {
        let limit = self.limit;
        let (modes, new_bytes) = match self.paths.find(path) {
            Some(id) => (self.paths.modes(id, connection), 0),
            None => (Modes::NONE, path.len()),
        };
        let max_bytes = limit.saturating_mul(WATCH_PATH_BYTES);
        if modes == Modes::NONE
            && (self.paths.pairs() >= limit || self.paths.bytes() + new_bytes > max_bytes)
        {
            return Err(TooManyWatches { limit });
        }
        let id = self.paths.intern(path);
        self.change(id, connection, modes, modes.with(Modes::of(kind)));
        Ok(())
    }

    /// Whether the connection has such a watch.
    #[must_use]
    pub fn contains(&self, connection: ConnectionId, path: &str, selector: WatchSelector) -> bool {
        let modes = self
            .paths
            .find(path)
            .map(|id| self.paths.modes(id, connection));
        modes.is_some_and(|modes| modes.intersects(Modes::selected(selector)))
    }

    /// Removes watches. Returns whether there were any: otherwise ZooKeeper answers `NoWatcher`.
    pub fn remove(
        &mut self,
        connection: ConnectionId,
        path: &str,
        selector: WatchSelector,
    ) -> bool {
        let Some(id) = self.paths.find(path) else {
            return false;
        };
        let before = self.paths.modes(id, connection);
        let after = before.without(Modes::selected(selector));
        self.change(id, connection, before, after);
        before != after
    }

    /// Removes all watches of a connection that has ended.
    pub fn remove_connection(&mut self, connection: ConnectionId) {
        let paths = self.connections.remove(&connection);
        for id in paths.unwrap_or_default() {
            let modes = self.paths.modes(id, connection);
            self.change(id, connection, modes, Modes::NONE);
        }
    }

    /// Appends who is told of an event, each connection once. Call it for all events of a command,
    /// in their order, before the client of the command gets its reply. A watch that waits for one
    /// event is gone then, even if `may_read` finds that the connection may not read the node, and
    /// so is not told.
    pub fn trigger(
        &mut self,
        event: &Event,
        mut may_read: impl FnMut(ConnectionId, &AclList) -> bool,
        out: &mut Vec<Notification>,
    ) {
        let (told, ended) = match event.kind {
            EventKind::Created | EventKind::DataChanged => (Modes::IN_DATA, Modes::DATA),
            EventKind::Deleted => (Modes::ALL, Modes::DATA.with(Modes::CHILD)),
            EventKind::ChildrenChanged => (Modes::IN_CHILD, Modes::CHILD),
        };
        let mut connections = BTreeSet::new();
        if let Some(id) = self.paths.find(&event.path) {
            // From the end, where removing is cheap: a path may have many watchers.
            for Watcher { connection, modes } in self.paths.watchers(id).to_vec().into_iter().rev()
            {
                if modes.intersects(told) {
                    connections.insert(connection);
                    self.change(id, connection, modes, modes.without(ended));
                }
            }
        }
        if self.counts.recursive > 0 && event.kind != EventKind::ChildrenChanged {
            self.recursive_watchers(&event.path, &mut connections);
        }
        for connection in connections {
            if may_read(connection, &event.acl) {
                out.push(Notification {
                    connection,
                    zxid: event.zxid,
                    kind: event.kind,
                    path: Arc::clone(&event.path),
                });
            }
        }
    }

    fn recursive_watchers(&self, path: &str, connections: &mut BTreeSet<ConnectionId>) {
        for id in self.paths.recursive_above(path) {
            let watchers = self.paths.watchers(id).iter();
            let recursive = watchers.filter(|watcher| watcher.modes.intersects(Modes::RECURSIVE));
            connections.extend(recursive.map(|watcher| watcher.connection));
        }
    }

    /// Leaves the watches of a client that connects again. What has happened since it was last
    /// connected is returned, and the watch is not left then. As in ZooKeeper, this is not filtered
    /// by permissions.
    ///
    /// # Errors
    /// [`TooManyWatches`]. Some watches may be left: close the connection.
    pub fn set(
        &mut self,
        machine: &Machine,
        connection: ConnectionId,
        watches: &SetWatches,
    ) -> Result<Vec<Notification>, TooManyWatches> {
        let mut missed = Vec::new();
        let mut miss = |kind, path: &str| {
            missed.push(Notification {
                connection,
                zxid: Zxid::NONE,
                kind,
                path: path.into(),
            });
        };
        for path in &watches.data {
            match machine.stat(path) {
                None => miss(EventKind::Deleted, path),
                Some(stat) if stat.mzxid > watches.relative => miss(EventKind::DataChanged, path),
                Some(_) => self.add(connection, path, WatchKind::Data)?,
            }
        }
        for path in &watches.exist {
            match machine.stat(path) {
                Some(_) => miss(EventKind::Created, path),
                None => self.add(connection, path, WatchKind::Data)?,
            }
        }
        for path in &watches.child {
            match machine.stat(path) {
                None => miss(EventKind::Deleted, path),
                Some(stat) if stat.pzxid > watches.relative => {
                    miss(EventKind::ChildrenChanged, path);
                }
                Some(_) => self.add(connection, path, WatchKind::Child)?,
            }
        }
        for path in &watches.persistent {
            self.add(connection, path, WatchKind::Persistent)?;
        }
        for path in &watches.recursive {
            self.add(connection, path, WatchKind::PersistentRecursive)?;
        }
        Ok(missed)
    }

    /// ZooKeeper's `zk_watch_count`: pairs of path and connection in its two tables.
    #[must_use]
    pub fn count(&self) -> usize {
        self.counts.data + self.counts.child
    }

    /// What `wchs` shows. It visits all watches.
    #[must_use]
    pub fn summary(&self) -> WatchSummary {
        WatchSummary {
            connections: self.by_connection().count(),
            paths: self.by_path().count(),
            watches: self.counts.data,
        }
    }

    /// What `wchc` shows: the paths of each connection.
    pub fn by_connection(&self) -> impl Iterator<Item = (ConnectionId, Vec<&str>)> {
        self.connections.iter().filter_map(|(&connection, ids)| {
            let has_data = |id: &&PathId| {
                self.paths
                    .modes(**id, connection)
                    .intersects(Modes::IN_DATA)
            };
            let paths: Vec<_> = ids
                .iter()
                .filter(has_data)
                .map(|&id| self.paths.path(id))
                .collect();
            (!paths.is_empty()).then_some((connection, paths))
        })
    }

    /// What `wchp` shows: the connections that watch each path.
    pub fn by_path(&self) -> impl Iterator<Item = (&str, Vec<ConnectionId>)> {
        self.paths.iter().filter_map(|(path, watchers)| {
            let in_data = watchers
                .iter()
                .filter(|watcher| watcher.modes.intersects(Modes::IN_DATA));
            let connections: Vec<_> = in_data.map(|watcher| watcher.connection).collect();
            (!connections.is_empty()).then_some((path, connections))
        })
    }

    fn change(&mut self, id: PathId, connection: ConnectionId, before: Modes, after: Modes) {
        self.counts.adjust(before, after);
        if before == Modes::NONE && after != Modes::NONE {
            self.connections.entry(connection).or_default().insert(id);
        }
        if before != Modes::NONE
            && after == Modes::NONE
            && let Some(paths) = self.connections.get_mut(&connection)
        {
            paths.remove(&id);
            if paths.is_empty() {
                self.connections.remove(&connection);
            }
        }
        self.paths.set(id, connection, after);
    }
}

impl Counts {
    fn adjust(&mut self, before: Modes, after: Modes) {
        let tables = [
            (&mut self.data, Modes::IN_DATA),
            (&mut self.child, Modes::IN_CHILD),
            (&mut self.recursive, Modes::RECURSIVE),
        ];
        for (count, modes) in tables {
            *count += usize::from(after.intersects(modes));
            *count -= usize::from(before.intersects(modes));
        }
    }
}

#[cfg(test)]
mod tests;
