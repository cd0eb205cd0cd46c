//! What operators look at: connections, sessions and watches. Each list has a bound, since it is
//! made under the lock that all clients wait for.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::SystemTime;

use synod_coordination_core::{ConnectionId, SessionId, WatchSummary};

use super::statistics::{LastReply, Statistics};
use super::{Hub, State};

/// The entries of a list at most.
pub(crate) const MAX_LISTED: usize = 10_000;

/// Some entries of a list, and how many it has.
#[derive(Debug)]
pub(crate) struct Listed<T> {
    pub(crate) shown: Vec<T>,
    pub(crate) total: usize,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct ConnectionView {
    pub(crate) address: SocketAddr,
    /// The session on it, with its timeout in milliseconds.
    pub(crate) session: Option<(SessionId, u32)>,
    pub(crate) since: SystemTime,
    /// Requests without a reply.
    pub(crate) queued: usize,
    pub(crate) statistics: Statistics,
    pub(crate) last: Option<LastReply>,
}

impl Hub {
    /// The connections of this pod.
    pub(crate) fn connections(&self) -> Listed<ConnectionView> {
        let state = self.state.lock();
        let connections = state.connections.values().take(MAX_LISTED);
        let view = |connection: &super::Connection| ConnectionView {
            address: connection.peer.address,
            session: connection.session.map(|id| (id, state.timeout_ms(id))),
            since: connection.since,
            queued: connection.pending.len(),
            statistics: connection.account.statistics,
            last: connection.account.last,
        };
        Listed {
            shown: connections.map(view).collect(),
            total: state.connections.len(),
        }
    }

    /// The sessions of all pods by id, with their timeouts in milliseconds.
    pub(crate) fn session_timeouts(&self) -> Listed<(SessionId, u32)> {
        let state = self.state.lock();
        let sessions = state.machine.sessions().take(MAX_LISTED);
        let mut shown: Vec<_> = sessions.map(|info| (info.id, info.timeout_ms)).collect();
        shown.sort_unstable();
        Listed {
            shown,
            total: state.machine.session_count(),
        }
    }

    /// The sessions with ephemeral nodes, and the paths of those. The bound is one of paths.
    pub(crate) fn ephemerals(&self) -> Listed<(SessionId, Vec<String>)> {
        let state = self.state.lock();
        let mut paths = 0;
        let mut listed = Listed {
            shown: Vec::new(),
            total: 0,
        };
        for info in state.machine.sessions().filter(|info| info.ephemerals > 0) {
            listed.total += 1;
            paths += info.ephemerals;
            if paths <= MAX_LISTED {
                let mut ephemerals = state.machine.ephemerals(info.id, "");
                ephemerals.sort_unstable();
                listed.shown.push((info.id, ephemerals));
            }
        }
        listed.shown.sort_unstable();
        listed
    }

    /// The watches of this pod in numbers.
    pub(crate) fn watch_summary(&self) -> WatchSummary {
        self.state.lock().watches.summary()
    }

    /// The sessions with watches, and the paths that each watches. The bound is one of paths.
    pub(crate) fn watches_by_session(&self) -> Listed<(SessionId, Vec<String>)> {
        let state = self.state.lock();
        let entries = state.watches.by_connection();
        let entries = entries.filter_map(|(id, paths)| Some((state.session_of(id)?, paths)));
        let listed = bounded(entries);
        let owned = |paths: Vec<&str>| paths.into_iter().map(str::to_owned).collect();
        let shown = listed.shown.into_iter();
        Listed {
            shown: shown.map(|(id, paths)| (id, owned(paths))).collect(),
            total: listed.total,
        }
    }

    /// The paths with watches, and the sessions that watch each. The bound is one of sessions.
    pub(crate) fn watches_by_path(&self) -> Listed<(String, Vec<SessionId>)> {
        let state = self.state.lock();
        let listed = bounded(state.watches.by_path());
        let shown = listed.shown.into_iter().map(|(path, connections)| {
            let sessions = connections.into_iter();
            let sessions = sessions.filter_map(|id| state.session_of(id));
            (path.to_owned(), sessions.collect())
        });
        Listed {
            shown: shown.collect(),
            total: listed.total,
        }
    }
}

impl State {
    fn session_of(&self, id: ConnectionId) -> Option<SessionId> {
        self.connections.get(&id)?.session
    }

    fn timeout_ms(&self, session: SessionId) -> u32 {
        let info = self.machine.session(session);
        info.map_or(0, |info| info.timeout_ms)
    }
}

/// The first entries, sorted, up to a number of values.
fn bounded<K: Ord, V>(entries: impl Iterator<Item = (K, Vec<V>)>) -> Listed<(K, Vec<V>)> {
    let mut shown = BTreeMap::new();
    let (mut total, mut values) = (0, 0);
    for (key, list) in entries {
        total += 1;
        values += list.len();
        if values <= MAX_LISTED {
            shown.insert(key, list);
        }
    }
    Listed {
        shown: shown.into_iter().collect(),
        total,
    }
}
