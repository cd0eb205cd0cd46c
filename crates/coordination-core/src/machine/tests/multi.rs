//! Several operations: all or none.

use super::*;
use crate::MAX_MULTI_OPS;

impl World {
    fn multi(&mut self, ops: Vec<Op>) -> Result<Vec<Reply>, (usize, OpError)> {
        match self.run(Kind::Multi(ops)) {
            Ok(Reply::Multi(replies)) => Ok(replies),
            Err(Refused::Multi { index, error }) => Err((index, error)),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn operations_see_those_before_them() {
    let mut world = World::new();
    let sequential = new(
        "/a/s",
        "",
        CreateMode::PersistentSequential,
        &Acl::open(),
        -1,
    );
    let zxid = world.next_zxid();
    let replies = world.multi(vec![
        create("/a"),
        create("/a/b"),
        sequential,
        set("/a/b", "x", 0),
        check("/a/b", 1),
        delete("/a/b", 1),
    ]);
    let replies = replies.unwrap();
    assert_eq!(replies.len(), 6);
    assert!(matches!(&replies[2], Reply::Created { path, .. } if path == "/a/s0000000001"));
    assert!(matches!(&replies[3], Reply::DataSet(stat) if stat.version == 1));
    assert_eq!(replies[4..], [Reply::Checked, Reply::Deleted]);
    assert_eq!(world.names("/a"), ["s0000000001"]);
    assert_eq!(world.stat("/a").pzxid, zxid, "one transaction");
    let kinds: Vec<_> = world.events().into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds.len(), 9);
    assert_eq!(
        kinds[6..],
        [
            EventKind::DataChanged,
            EventKind::Deleted,
            EventKind::ChildrenChanged
        ]
    );
}

#[test]
fn a_refusal_undoes_everything() {
    let mut world = World::new();
    let limited = [
        Acl::world(Perms::ALL),
        Acl {
            perms: Perms::ALL,
            id: Id::new("sasl", "x"),
        },
    ];
    world.create("/a", "old").unwrap();
    world.create("/a/gone", "data").unwrap();
    world.create_as("/a/e", "", CreateMode::Ephemeral).unwrap();
    world
        .create_with("/a/ttl", "", CreateMode::Ttl, &limited, 5)
        .unwrap();
    world.create("/zookeeper/quota/a", "").unwrap();
    world
        .create("/zookeeper/quota/a/zookeeper_limits", "count=99")
        .unwrap();
    world
        .create("/zookeeper/quota/a/zookeeper_stats", "")
        .unwrap();
    let quota = "/zookeeper/quota/a/zookeeper_stats";
    let paths = ["/", "/a", "/a/gone", "/a/e", "/a/ttl", quota];
    let before: Vec<_> = paths
        .map(|path| (world.stat(path), world.data(path).to_owned()))
        .into();
    let acls = world.machine.acl_count();

    let set_acl = |path: &str| Op::SetAcl {
        path: path.to_owned(),
        acl: vec![Acl::world(Perms::ADMIN)],
        version: -1,
    };
    let refused = world.multi(vec![
        set("/a", "new", -1),
        set("/a", "newer", -1),
        delete("/a/gone", -1),
        delete("/a/e", -1),
        delete("/a/ttl", -1),
        delete("/zookeeper/quota/a/zookeeper_limits", -1),
        new("/a/new", "", CreateMode::Ephemeral, &limited[1..], -1),
        new("/a/container", "", CreateMode::Container, &Acl::open(), -1),
        set_acl("/a"),
        check("/a", 0),
        create("/b"),
    ]);
    assert_eq!(
        refused,
        Err((9, OpError::NoAuth)),
        "the list is set already"
    );
    let after: Vec<_> = paths
        .map(|path| (world.stat(path), world.data(path).to_owned()))
        .into();
    assert_eq!(after, before);
    assert_eq!(world.names("/a"), ["e", "gone", "ttl"]);
    assert_eq!(world.machine.acl_count(), acls);
    assert_eq!(world.events(), []);
    assert_eq!(world.machine.ephemerals(ALICE, ""), ["/a/e"]);
    assert_eq!(world.machine.due(i64::MAX, 9), ["/a/ttl"]);
    world.create("/a/counted", "").unwrap();
    assert_eq!(world.data(quota), "count=5,bytes=7", "the quota is back");
    assert_eq!(
        world
            .create_as("/a/s", "", CreateMode::PersistentSequential)
            .unwrap(),
        "/a/s0000000004"
    );
}

#[test]
fn the_first_refusal_is_reported() {
    let mut world = World::new();
    let refused = world.multi(vec![create("/a"), create("/a"), create("a")]);
    assert_eq!(refused, Err((1, OpError::NodeExists)));
    assert_eq!(world.multi(Vec::new()), Ok(Vec::new()));
    world.session = SessionId::new(99);
    let refused = world.multi(vec![create("a")]);
    assert_eq!(refused, Err((0, OpError::SessionExpired)));
}

#[test]
fn operations_are_bounded() {
    let mut world = World::new();
    let mut ops = vec![create("/a")];
    ops.resize(MAX_MULTI_OPS, check("/", -1));
    assert_eq!(world.multi(ops.clone()).unwrap().len(), MAX_MULTI_OPS);
    ops[0] = create("/b");
    ops.push(check("/", -1));
    let refused = world.multi(ops);
    assert_eq!(refused, Err((MAX_MULTI_OPS, OpError::BadArguments)));
    assert_eq!(world.names("/"), ["a", "zookeeper"]);
}

#[test]
fn what_may_be_reaped_is_undone_too() {
    let mut world = World::new();
    let container = CreateMode::Container;
    for path in ["/used", "/full", "/new"] {
        world.create_as(path, "", container).unwrap();
    }
    for path in ["/used/x", "/full/x"] {
        world.create(path, "").unwrap();
    }
    world.delete("/used/x", -1).unwrap();
    world
        .create_with("/ttl", "", CreateMode::Ttl, &Acl::open(), 5)
        .unwrap();
    let ends = world.machine.ends.clone();
    assert_eq!(world.machine.due(i64::MAX, 9), ["/used", "/ttl"]);
    let refused = world.multi(vec![
        create("/used/y"),
        delete("/full/x", -1),
        create("/new/x"),
        delete("/new/x", -1),
        set("/ttl", "", -1),
        create("/ttl/x"),
        delete("/ttl/x", -1),
        delete("/ttl", -1),
        check("/none", -1),
    ]);
    assert_eq!(refused, Err((8, OpError::NoNode)));
    assert_eq!(world.machine.ends, ends);
}

#[test]
fn a_closed_session_takes_what_a_multi_created() {
    let mut world = World::new();
    let ephemeral = |path| new(path, "", CreateMode::Ephemeral, &Acl::open(), -1);
    world
        .multi(vec![ephemeral("/x"), ephemeral("/y"), delete("/x", -1)])
        .unwrap();
    assert_eq!(world.machine.ephemerals(ALICE, ""), ["/y"]);
    world.run(Kind::CloseSession).unwrap();
    assert_eq!(world.names("/"), ["zookeeper"]);
}
