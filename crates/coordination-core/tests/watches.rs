//! Random requests and events on the watches and on a naive model of ZooKeeper's two tables: of
//! data watches and of child watches.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use synod_coordination_core::{
    ConnectionId, Event, EventKind, Notification, WatchKind, WatchSelector, Watches, Zxid,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Mode {
    Standard,
    Persistent,
    Recursive,
}

type Table = BTreeMap<(String, ConnectionId), BTreeSet<Mode>>;

#[derive(Default)]
struct Naive {
    data: Table,
    child: Table,
}

/// Adds or removes a mode in a table; returns whether that changed anything.
fn change(table: &mut Table, key: &(String, ConnectionId), mode: Mode, is_there: bool) -> bool {
    let modes = table.entry(key.clone()).or_default();
    let is_changed = if is_there {
        modes.insert(mode)
    } else {
        modes.remove(&mode)
    };
    table.retain(|_, modes| !modes.is_empty());
    is_changed
}

/// The connections that a table tells of an event, which loses the watches for one event.
fn fire(table: &mut Table, path: &str) -> BTreeSet<ConnectionId> {
    let mut told = BTreeSet::new();
    for ((watched, connection), modes) in &mut *table {
        let is_below = *watched == "/" || path.starts_with(&format!("{watched}/"));
        if watched == path {
            told.insert(*connection);
            modes.remove(&Mode::Standard);
        } else if is_below && modes.contains(&Mode::Recursive) {
            told.insert(*connection);
        }
    }
    table.retain(|_, modes| !modes.is_empty());
    told
}

impl Naive {
    fn set(&mut self, key: &(String, ConnectionId), kind: WatchKind, is_there: bool) -> bool {
        match kind {
            WatchKind::Data => change(&mut self.data, key, Mode::Standard, is_there),
            WatchKind::Child => change(&mut self.child, key, Mode::Standard, is_there),
            WatchKind::Persistent => {
                let data = change(&mut self.data, key, Mode::Persistent, is_there);
                change(&mut self.child, key, Mode::Persistent, is_there) || data
            }
            WatchKind::PersistentRecursive => {
                change(&mut self.data, key, Mode::Recursive, is_there)
            }
        }
    }

    fn trigger(&mut self, kind: EventKind, path: &str) -> BTreeSet<ConnectionId> {
        match kind {
            EventKind::Created | EventKind::DataChanged => fire(&mut self.data, path),
            EventKind::ChildrenChanged => fire(&mut self.child, path),
            EventKind::Deleted => {
                let mut told = fire(&mut self.data, path);
                told.extend(fire(&mut self.child, path));
                told
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Add(ConnectionId, String, WatchKind),
    Remove(ConnectionId, String, WatchSelector),
    Disconnect(ConnectionId),
    Trigger(EventKind, String),
}

const KINDS: [WatchKind; 4] = [
    WatchKind::Data,
    WatchKind::Child,
    WatchKind::Persistent,
    WatchKind::PersistentRecursive,
];

fn step() -> impl Strategy<Value = Step> {
    let connection = || (0..3_u32).prop_map(ConnectionId::new);
    let path = || {
        prop::sample::select(vec!["/", "/a", "/a/b", "/a/b/c", "/ab", "/b"]).prop_map(str::to_owned)
    };
    let kind = || prop::sample::select(KINDS.to_vec());
    let selector = prop_oneof![
        4 => kind().prop_map(WatchSelector::Kind),
        1 => Just(WatchSelector::Any),
    ];
    let event = prop::sample::select(vec![
        EventKind::Created,
        EventKind::Deleted,
        EventKind::DataChanged,
        EventKind::ChildrenChanged,
    ]);
    prop_oneof![
        6 => (connection(), path(), kind()).prop_map(|(id, path, kind)| Step::Add(id, path, kind)),
        3 => (connection(), path(), selector).prop_map(|(id, path, s)| Step::Remove(id, path, s)),
        1 => connection().prop_map(Step::Disconnect),
        6 => (event, path()).prop_map(|(kind, path)| Step::Trigger(kind, path)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn watches_behave_as_zookeepers_tables(steps in prop::collection::vec(step(), 1..80)) {
        let mut watches = Watches::new(1000, 3);
        let mut naive = Naive::default();
        for step in steps {
            match step {
                Step::Add(connection, path, kind) => {
                    watches.add(connection, &path, kind).unwrap();
                    naive.set(&(path, connection), kind, true);
                }
                Step::Remove(connection, path, selector) => {
                    let key = (path, connection);
                    let kinds = match selector {
                        WatchSelector::Kind(kind) => vec![kind],
                        WatchSelector::Any => KINDS.to_vec(),
                    };
                    let is_any = watches.contains(connection, &key.0, selector);
                    let is_removed = watches.remove(connection, &key.0, selector);
                    prop_assert_eq!(is_any, is_removed);
                    let removed: Vec<_> =
                        kinds.into_iter().filter(|&kind| naive.set(&key, kind, false)).collect();
                    prop_assert_eq!(is_removed, !removed.is_empty());
                }
                Step::Disconnect(connection) => {
                    watches.remove_connection(connection);
                    naive.data.retain(|(_, other), _| *other != connection);
                    naive.child.retain(|(_, other), _| *other != connection);
                }
                Step::Trigger(kind, path) => {
                    let event = Event {
                        zxid: Zxid::new(1),
                        kind,
                        path: path.as_str().into(),
                        acl: Vec::new().into(),
                    };
                    let mut told: Vec<Notification> = Vec::new();
                    watches.trigger(&event, |_, _| true, &mut told);
                    let connections: Vec<_> = told.iter().map(|told| told.connection).collect();
                    let expected: Vec<_> = naive.trigger(kind, &path).into_iter().collect();
                    prop_assert_eq!(connections, expected);
                }
            }
            prop_assert_eq!(watches.count(), naive.data.len() + naive.child.len());
            prop_assert_eq!(watches.summary().watches, naive.data.len());
            let paths: BTreeSet<_> = naive.data.keys().map(|(path, _)| path).collect();
            prop_assert_eq!(watches.summary().paths, paths.len());
            let connections: BTreeSet<_> = naive.data.keys().map(|(_, id)| id).collect();
            prop_assert_eq!(watches.summary().connections, connections.len());
        }
    }
}
