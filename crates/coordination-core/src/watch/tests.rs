use super::*;
use crate::{Acl, CreateMode, Kind, Op, OpError, Password, Reply, SessionId, command::Command};
use EventKind::{ChildrenChanged, Created, DataChanged, Deleted};

const A: ConnectionId = ConnectionId::new(1);
const B: ConnectionId = ConnectionId::new(2);

/// A machine and watches that are told of all its events.
struct World {
    machine: Machine,
    watches: Watches,
}

type Told = Vec<(u32, EventKind, String)>;

impl World {
    fn new() -> Self {
        let mut world = Self {
            machine: Machine::new(0),
            watches: Watches::new(100, 0),
        };
        world.run(Kind::CreateSession {
            timeout_ms: 1,
            password: Password::new([0; 16]),
        });
        world
    }

    fn run(&mut self, kind: Kind) -> Told {
        self.run_filtered(kind, |_| true)
    }

    fn run_filtered(&mut self, kind: Kind, may_read: impl Fn(ConnectionId) -> bool) -> Told {
        let session = SessionId::new(1);
        let command = Command {
            origin: None,
            session,
            caller: Vec::new(),
            kind,
        };
        let zxid = self.machine.last_zxid().plus(1);
        let applied = self.machine.apply(&command, zxid, 0);
        applied.reply.unwrap();
        let mut out = Vec::new();
        for event in &applied.events {
            self.watches
                .trigger(event, |connection, _| may_read(connection), &mut out);
        }
        assert!(out.iter().all(|notification| notification.zxid == zxid));
        told(out)
    }

    fn create(&mut self, path: &str) -> Told {
        self.run(Kind::Write(Op::Create {
            path: path.to_owned(),
            data: None,
            acl: Acl::open(),
            mode: CreateMode::Persistent,
            ttl_ms: -1,
        }))
    }

    fn delete(&mut self, path: &str) -> Told {
        self.run(Kind::Write(Op::Delete {
            path: path.to_owned(),
            version: -1,
        }))
    }

    fn set(&mut self, path: &str) -> Told {
        self.run(Kind::Write(set(path)))
    }

    fn add(&mut self, connection: ConnectionId, path: &str, kind: WatchKind) {
        self.watches.add(connection, path, kind).unwrap();
    }
}

fn set(path: &str) -> Op {
    Op::SetData {
        path: path.to_owned(),
        data: None,
        version: -1,
    }
}

fn told(notifications: Vec<Notification>) -> Told {
    notifications
        .into_iter()
        .map(|n| (n.connection.get(), n.kind, n.path.to_string()))
        .collect()
}

fn event(connection: ConnectionId, kind: EventKind, path: &str) -> (u32, EventKind, String) {
    (connection.get(), kind, path.to_owned())
}

#[test]
fn a_data_watch_is_told_once() {
    let mut world = World::new();
    world.add(A, "/a", WatchKind::Data);
    assert_eq!(world.create("/a"), [event(A, Created, "/a")]);
    assert_eq!(world.set("/a"), []);
    world.add(A, "/a", WatchKind::Data);
    world.add(A, "/a", WatchKind::Data);
    assert_eq!(world.create("/a/b"), [], "children are no data");
    assert_eq!(world.set("/a"), [event(A, DataChanged, "/a")]);
    assert_eq!(world.set("/a"), []);
    world.add(A, "/a/b", WatchKind::Data);
    assert_eq!(world.delete("/a/b"), [event(A, Deleted, "/a/b")]);
    assert_eq!(world.watches.count(), 0);
}

#[test]
fn a_child_watch_is_told_once() {
    let mut world = World::new();
    world.create("/a");
    world.add(A, "/a", WatchKind::Child);
    assert_eq!(world.set("/a"), []);
    assert_eq!(world.create("/a/b"), [event(A, ChildrenChanged, "/a")]);
    assert_eq!(world.delete("/a/b"), []);
    world.add(A, "/a", WatchKind::Child);
    world.add(B, "/", WatchKind::Child);
    assert_eq!(
        world.delete("/a"),
        [event(A, Deleted, "/a"), event(B, ChildrenChanged, "/")]
    );
    assert_eq!(world.watches.count(), 0);
}

#[test]
fn a_deletion_is_told_once_to_a_connection_with_both() {
    let mut world = World::new();
    world.create("/a");
    world.add(A, "/a", WatchKind::Data);
    world.add(A, "/a", WatchKind::Child);
    world.add(A, "/", WatchKind::PersistentRecursive);
    assert_eq!(world.delete("/a"), [event(A, Deleted, "/a")]);
    assert_eq!(
        world.create("/a"),
        [event(A, Created, "/a")],
        "the recursive watch is left"
    );
    assert_eq!(world.watches.count(), 1);
}

#[test]
fn a_persistent_watch_stays() {
    let mut world = World::new();
    world.add(A, "/a", WatchKind::Persistent);
    for _ in 0..2 {
        assert_eq!(world.create("/a"), [event(A, Created, "/a")]);
        assert_eq!(world.set("/a"), [event(A, DataChanged, "/a")]);
        assert_eq!(world.create("/a/b"), [event(A, ChildrenChanged, "/a")]);
        assert_eq!(world.set("/a/b"), []);
        assert_eq!(world.delete("/a/b"), [event(A, ChildrenChanged, "/a")]);
        assert_eq!(world.delete("/a"), [event(A, Deleted, "/a")]);
    }
}

#[test]
fn a_recursive_watch_is_told_of_all_nodes_below() {
    let mut world = World::new();
    world.add(A, "/a", WatchKind::PersistentRecursive);
    assert_eq!(world.create("/a"), [event(A, Created, "/a")]);
    assert_eq!(world.create("/a/b"), [event(A, Created, "/a/b")]);
    assert_eq!(world.create("/a/b/c"), [event(A, Created, "/a/b/c")]);
    assert_eq!(world.create("/ab"), []);
    assert_eq!(world.set("/a/b/c"), [event(A, DataChanged, "/a/b/c")]);
    assert_eq!(world.delete("/a/b/c"), [event(A, Deleted, "/a/b/c")]);
    world.add(B, "/", WatchKind::PersistentRecursive);
    assert_eq!(
        world.set("/a"),
        [event(A, DataChanged, "/a"), event(B, DataChanged, "/a")]
    );
    assert!(world.watches.remove(A, "/a", WatchSelector::Any));
    assert!(world.watches.remove(B, "/", WatchSelector::Any));
    assert_eq!(world.set("/a"), []);
}

#[test]
fn the_events_of_a_multi_come_in_order() {
    let mut world = World::new();
    world.create("/a");
    world.add(A, "/a", WatchKind::Data);
    world.add(B, "/a", WatchKind::Persistent);
    let delete = Op::Delete {
        path: "/a".to_owned(),
        version: -1,
    };
    assert_eq!(
        world.run(Kind::Multi(vec![set("/a"), set("/a"), delete])),
        [
            event(A, DataChanged, "/a"),
            event(B, DataChanged, "/a"),
            event(B, DataChanged, "/a"),
            event(B, Deleted, "/a"),
        ]
    );
}

#[test]
fn who_may_not_read_is_not_told() {
    let mut world = World::new();
    world.create("/a");
    world.add(A, "/a", WatchKind::Data);
    world.add(B, "/a", WatchKind::Data);
    let set = || Kind::Write(set("/a"));
    assert_eq!(
        world.run_filtered(set(), |id| id == B),
        [event(B, DataChanged, "/a")]
    );
    assert_eq!(world.run(set()), [], "the watch is used up nevertheless");
}

#[test]
fn the_list_of_the_event_is_checked() {
    let mut watches = Watches::new(1, 0);
    watches.add(A, "/a", WatchKind::Persistent).unwrap();
    let event = Event {
        zxid: Zxid::new(5),
        kind: DataChanged,
        path: "/a".into(),
        acl: vec![Acl::world(crate::Perms::WRITE)].into(),
    };
    let mut out = Vec::new();
    let may_read =
        |_, acl: &AclList| crate::check_acl(acl, crate::Perms::READ, &[]) != Err(OpError::NoAuth);
    watches.trigger(&event, may_read, &mut out);
    assert_eq!(out, []);
}

#[test]
fn watches_are_removed_by_kind() {
    let kinds = [
        WatchKind::Data,
        WatchKind::Child,
        WatchKind::Persistent,
        WatchKind::PersistentRecursive,
    ];
    for kind in kinds {
        let mut world = World::new();
        for kind in kinds {
            world.add(A, "/a", kind);
        }
        let watches = &mut world.watches;
        assert!(!watches.remove(B, "/a", WatchSelector::Kind(kind)));
        assert!(!watches.remove(A, "/b", WatchSelector::Kind(kind)));
        assert!(watches.remove(A, "/a", WatchSelector::Kind(kind)));
        assert!(!watches.remove(A, "/a", WatchSelector::Kind(kind)));
        for other in kinds {
            let is_left = watches.contains(A, "/a", WatchSelector::Kind(other));
            assert_eq!(is_left, other != kind);
        }
        assert!(watches.contains(A, "/a", WatchSelector::Any));
        assert!(watches.remove(A, "/a", WatchSelector::Any));
        assert!(!watches.contains(A, "/a", WatchSelector::Any));
        assert!(!watches.remove(A, "/a", WatchSelector::Any));
        assert_eq!(watches.count(), 0);
    }
}

#[test]
fn a_connection_takes_its_watches_along() {
    let mut world = World::new();
    world.create("/a");
    for connection in [A, B] {
        world.add(connection, "/a", WatchKind::Data);
        world.add(connection, "/a", WatchKind::PersistentRecursive);
        world.add(connection, "/b", WatchKind::Child);
    }
    world.watches.remove_connection(A);
    world.watches.remove_connection(A);
    assert_eq!(world.set("/a"), [event(B, DataChanged, "/a")]);
    world.watches.remove_connection(B);
    assert_eq!(world.set("/a"), []);
    assert_eq!(world.watches.count(), 0);
    assert_eq!(world.watches.by_path().count(), 0);
    assert_eq!(world.watches.counts, Counts::default());
    assert_eq!(world.watches.paths.len(), 0, "nothing is left of the paths");
}

#[test]
fn a_client_that_comes_back_learns_what_it_missed() {
    let mut world = World::new();
    for path in ["/same", "/changed", "/gone", "/parent", "/parent/gone"] {
        world.create(path);
    }
    let relative = world.machine.last_zxid();
    world.set("/changed");
    world.delete("/gone");
    world.delete("/parent/gone");
    world.create("/new");
    let list = |paths: &[&str]| paths.iter().map(|&path| path.to_owned()).collect();
    let watches = SetWatches {
        relative,
        data: list(&["/same", "/changed", "/gone", "/parent"]),
        exist: list(&["/new", "/missing"]),
        child: list(&["/same", "/parent", "/gone"]),
        persistent: list(&["/changed"]),
        recursive: list(&["/gone"]),
    };
    let missed = world.watches.set(&world.machine, A, &watches).unwrap();
    assert!(missed.iter().all(|missed| missed.zxid == Zxid::NONE));
    assert_eq!(
        told(missed),
        [
            event(A, DataChanged, "/changed"),
            event(A, Deleted, "/gone"),
            event(A, Created, "/new"),
            event(A, ChildrenChanged, "/parent"),
            event(A, Deleted, "/gone"),
        ]
    );
    let has = |path, kind| world.watches.contains(A, path, WatchSelector::Kind(kind));
    assert!(has("/same", WatchKind::Data) && has("/same", WatchKind::Child));
    assert!(has("/parent", WatchKind::Data) && !has("/parent", WatchKind::Child));
    assert!(!has("/changed", WatchKind::Data) && has("/changed", WatchKind::Persistent));
    assert!(has("/missing", WatchKind::Data) && !has("/new", WatchKind::Data));
    assert!(!has("/gone", WatchKind::Data) && has("/gone", WatchKind::PersistentRecursive));
}

#[test]
fn watches_are_bounded() {
    let mut watches = Watches::new(2, 0);
    watches.add(A, "/a", WatchKind::Data).unwrap();
    watches.add(B, "/a", WatchKind::Data).unwrap();
    let full = Err(TooManyWatches { limit: 2 });
    assert_eq!(watches.add(A, "/b", WatchKind::Data), full);
    watches.add(A, "/a", WatchKind::Child).unwrap();
    assert_eq!(watches.by_path().count(), 1, "the refused path is not kept");
    assert!(watches.remove(B, "/a", WatchSelector::Any));
    watches.add(A, "/b", WatchKind::Data).unwrap();
}

#[test]
fn the_paths_of_watches_are_bounded() {
    let mut watches = Watches::new(4, 0);
    let full = Err(TooManyWatches { limit: 4 });
    let path = |bytes: usize| format!("/{}", "x".repeat(bytes - 1));
    let long = path(4 * WATCH_PATH_BYTES - 2);
    assert_eq!(
        watches.add(A, &path(4 * WATCH_PATH_BYTES + 1), WatchKind::Data),
        full
    );
    watches.add(A, &long, WatchKind::Data).unwrap();
    watches.add(B, &long, WatchKind::Data).unwrap();
    watches.add(A, "/a", WatchKind::Data).unwrap();
    assert_eq!(watches.add(A, "/", WatchKind::Data), full);
    watches.add(A, "/a", WatchKind::Child).unwrap();
    watches.add(B, "/a", WatchKind::Data).unwrap();
    watches.remove(A, "/a", WatchSelector::Any);
    watches.remove(B, "/a", WatchSelector::Any);
    watches.add(A, "/b", WatchKind::Data).unwrap();
    watches.remove_connection(A);
    watches.remove_connection(B);
    assert_eq!(watches.paths.bytes(), 0);
}

#[test]
fn recursive_watches_are_found_above_a_node() {
    let mut watches = Watches::new(100, 7);
    for path in ["/", "/a", "/a/b", "/a/b/c", "/ab", "/a/", "//a", "a", ""] {
        watches
            .add(A, path, WatchKind::PersistentRecursive)
            .unwrap();
        watches
            .add(B, path, WatchKind::PersistentRecursive)
            .unwrap();
    }
    let above = |watches: &Watches, path| -> Vec<String> {
        let ids = watches.paths.recursive_above(path);
        ids.map(|id| watches.paths.path(id).to_owned()).collect()
    };
    assert_eq!(above(&watches, "/a/b/c"), ["/", "/a", "/a/b"]);
    assert_eq!(above(&watches, "/a/b/x/y"), ["/", "/a", "/a/b"]);
    assert_eq!(above(&watches, "/a"), ["/"]);
    assert_eq!(above(&watches, "/"), [""; 0]);
    watches.remove_connection(A);
    assert_eq!(above(&watches, "/a/b"), ["/", "/a"], "B's are there");
    watches.add(B, "/a", WatchKind::Data).unwrap();
    let recursive = WatchSelector::Kind(WatchKind::PersistentRecursive);
    assert!(watches.remove(B, "/a", recursive));
    assert_eq!(above(&watches, "/a/b"), ["/"]);
}

#[test]
fn watches_are_counted_and_listed_as_zookeeper_does() {
    let mut watches = Watches::new(100, 0);
    watches.add(A, "/a", WatchKind::Data).unwrap();
    watches.add(A, "/a", WatchKind::Persistent).unwrap();
    watches
        .add(B, "/a", WatchKind::PersistentRecursive)
        .unwrap();
    watches.add(A, "/b", WatchKind::Child).unwrap();
    watches.add(A, "/c", WatchKind::Data).unwrap();
    assert_eq!(
        watches.count(),
        5,
        "three in the data table, two in that of children"
    );
    let summary = WatchSummary {
        connections: 2,
        paths: 2,
        watches: 3,
    };
    assert_eq!(watches.summary(), summary);
    let by_connection: Vec<_> = watches.by_connection().collect();
    assert_eq!(by_connection, [(A, vec!["/a", "/c"]), (B, vec!["/a"])]);
    let by_path: Vec<_> = watches.by_path().collect();
    assert_eq!(by_path, [("/a", vec![A, B]), ("/c", vec![A])]);
}

#[test]
fn replies_don_t_matter_to_watches() {
    // A refused command has no events, so there is nothing to tell.
    let mut world = World::new();
    world.add(A, "/a", WatchKind::Persistent);
    let session = SessionId::new(1);
    let delete = Op::Delete {
        path: "/a".to_owned(),
        version: -1,
    };
    let kind = Kind::Write(delete);
    let command = Command {
        origin: None,
        session,
        caller: Vec::new(),
        kind,
    };
    let applied = world.machine.apply(&command, Zxid::new(100), 0);
    assert_ne!(applied.reply, Ok(Reply::Deleted));
    assert!(applied.events.is_empty());
}
