//! Creating, deleting, reading and setting nodes.

use super::*;
use crate::MAX_PATH_BYTES;
use crate::OpError::{BadArguments, BadVersion, NoChildrenForEphemerals, NoNode, NodeExists};

#[test]
fn a_new_tree_has_zookeepers_own_nodes() {
    let world = World::new();
    assert_eq!(world.names("/"), ["zookeeper"]);
    assert_eq!(world.names("/zookeeper"), ["config", "quota"]);
    assert_eq!(world.stat("/").cversion, -1, "as ZooKeeper shows it");
    assert_eq!(world.stat("/zookeeper").cversion, -2);
    assert_eq!(world.stat("/zookeeper/config").aversion, -1);
    assert_eq!(world.machine.node_count(), 4);
}

#[test]
fn a_new_node_has_the_transaction_and_the_time() {
    let mut world = World::new();
    let zxid = world.next_zxid();
    world.create("/a", "data").unwrap();
    let expected = Stat {
        czxid: zxid,
        mzxid: zxid,
        pzxid: zxid,
        ctime_ms: zxid.get() * 1000,
        mtime_ms: zxid.get() * 1000,
        data_length: 4,
        ..Stat::default()
    };
    assert_eq!(world.stat("/a"), expected);
    assert_eq!(world.data("/a"), "data");
}

#[test]
fn children_change_their_parents_stat() {
    let mut world = World::new();
    world.create("/a", "").unwrap();
    let created = world.next_zxid();
    world.create("/a/b", "").unwrap();
    let parent = world.stat("/a");
    assert_eq!(
        (parent.cversion, parent.num_children, parent.pzxid),
        (1, 1, created)
    );
    world.create("/a/c", "").unwrap();
    assert_eq!(
        (world.stat("/a").cversion, world.stat("/a").num_children),
        (2, 2)
    );
    let deleted = world.next_zxid();
    world.delete("/a/b", -1).unwrap();
    let parent = world.stat("/a");
    assert_eq!(
        (parent.cversion, parent.num_children, parent.pzxid),
        (3, 1, deleted)
    );
    assert_eq!(parent.mzxid, parent.czxid, "the node itself did not change");
    assert_eq!(parent.version, 0);
}

#[test]
fn setting_data_raises_the_version() {
    let mut world = World::new();
    world.create("/a", "").unwrap();
    let before = world.stat("/a");
    let zxid = world.next_zxid();
    let stat = world.set("/a", "xyz", 0).unwrap();
    let expected = Stat {
        mzxid: zxid,
        mtime_ms: zxid.get() * 1000,
        version: 1,
        data_length: 3,
        ..before
    };
    assert_eq!(stat, expected);
    assert_eq!(world.stat("/a"), expected);
    assert_eq!(world.set("/a", "", 0), Err(BadVersion));
    assert_eq!(world.set("/a", "", -1).unwrap().version, 2);
    assert_eq!(world.set("/b", "", -1), Err(NoNode));
    assert_eq!(world.set("/a/", "", -1), Err(BadArguments));
    assert_eq!(world.op(check("/a", 2)), Ok(Reply::Checked));
    assert_eq!(world.op(check("/a", 1)), Err(BadVersion));
    assert_eq!(world.op(check("/b", -1)), Err(NoNode));
}

#[test]
fn no_data_is_not_empty_data() {
    let mut world = World::new();
    let mut op = create("/a");
    if let Op::Create { data, .. } = &mut op {
        *data = None;
    }
    world.op(op).unwrap();
    assert_eq!(world.machine.get("/a", &[]).unwrap().0, None);
    world.set("/a", "", -1).unwrap();
    assert_eq!(world.machine.get("/a", &[]).unwrap().0, Some(&b""[..]));
    let path = "/a".to_owned();
    world
        .op(Op::SetData {
            path,
            data: None,
            version: -1,
        })
        .unwrap();
    assert_eq!(world.machine.get("/a", &[]).unwrap().0, None);
}

#[test]
fn sequential_nodes_are_numbered_by_creations() {
    let mut world = World::new();
    let mode = CreateMode::PersistentSequential;
    world.create("/a", "").unwrap();
    assert_eq!(
        world.create_as("/a/n-", "", mode).unwrap(),
        "/a/n-0000000000"
    );
    world.create("/a/x", "").unwrap();
    assert_eq!(
        world.create_as("/a/n-", "", mode).unwrap(),
        "/a/n-0000000002"
    );
    world.delete("/a/n-0000000002", -1).unwrap();
    assert_eq!(
        world.create_as("/a/", "", mode).unwrap(),
        "/a/0000000003",
        "never again"
    );
    assert_eq!(world.create("/a/x", ""), Err(NodeExists));
    assert_eq!(
        world.create_as("/a/m-", "", mode).unwrap(),
        "/a/m-0000000004",
        "failures don't count"
    );
    let container = CreateMode::ContainerSequential;
    let path = world.create_as("/a/c-", "", container).unwrap();
    assert_eq!(path, "/a/c-0000000005");
    world.create("/a/c-0000000005/x", "").unwrap();
    world.delete("/a/c-0000000005/x", -1).unwrap();
    assert_eq!(world.machine.due(0, 9), [path], "a container");
}

#[test]
fn the_counter_wraps() {
    let mut world = World::new();
    world.create("/a", "").unwrap();
    let id = world.machine.tree.find("/a").unwrap();
    world.machine.tree.edit(id).counter = i32::MAX;
    let mode = CreateMode::PersistentSequential;
    assert_eq!(world.create_as("/a/n", "", mode).unwrap(), "/a/n2147483647");
    assert_eq!(
        world.create_as("/a/n", "", mode).unwrap(),
        "/a/n-2147483648"
    );
    assert_eq!(
        world.stat("/a").cversion,
        i32::MIN.wrapping_add(1).wrapping_mul(2) - 2
    );
}

#[test]
fn creation_fails_in_zookeepers_order() {
    let mut world = World::new();
    world.create_as("/e", "", CreateMode::Ephemeral).unwrap();
    for path in ["", "a", "/a\0", "//a", "/a//b", "/a/..", "/.", "/e/"] {
        let expected = if path == "/a//b" || path == "/a/.." {
            NoNode
        } else {
            BadArguments
        };
        assert_eq!(world.create(path, ""), Err(expected), "{path:?}");
    }
    assert_eq!(world.create("/", ""), Err(NodeExists));
    assert_eq!(world.create("/x/y", ""), Err(NoNode));
    assert_eq!(
        world.create("x/y", ""),
        Err(NoNode),
        "as ZooKeeper looks for the parent first"
    );
    assert_eq!(world.create("/e/x", ""), Err(NoChildrenForEphemerals));
    world.create("/a", "").unwrap();
    assert_eq!(world.create("/a", ""), Err(NodeExists));
    // The list is checked before the parent, the session before the list, and the TTL first.
    let create = |world: &mut World, path: &str, ttl_ms| {
        world.create_with(path, "", CreateMode::Ttl, &[], ttl_ms)
    };
    assert_eq!(create(&mut world, "/x/y", 1), Err(OpError::InvalidAcl));
    world.session = SessionId::new(99);
    assert_eq!(create(&mut world, "/x/y", 1), Err(OpError::SessionExpired));
    assert_eq!(create(&mut world, "/x/y", 0), Err(BadArguments));
}

#[test]
fn deletion_fails_in_zookeepers_order() {
    let mut world = World::new();
    for path in [
        "/",
        "/zookeeper",
        "/zookeeper/quota",
        "/zookeeper/config",
        "",
        "a",
        "/a\0",
    ] {
        assert_eq!(world.delete(path, -1), Err(BadArguments), "{path:?}");
    }
    world.create("/a", "").unwrap();
    world.create("/a/b", "").unwrap();
    assert_eq!(world.delete("/x/y", -1), Err(NoNode));
    assert_eq!(world.delete("/a/", -1), Err(NoNode));
    assert_eq!(world.delete("//a", -1), Err(NoNode));
    assert_eq!(world.delete("//", -1), Err(NoNode));
    assert_eq!(
        world.delete("/a", 7),
        Err(BadVersion),
        "before children are considered"
    );
    assert_eq!(world.delete("/a", 0), Err(OpError::NotEmpty));
    assert_eq!(world.delete("/a/b", 0), Ok(()));
    assert_eq!(world.delete("/a/b", 0), Err(NoNode));
    assert_eq!(world.delete("/a", 0), Ok(()));
    assert_eq!(world.machine.node_count(), 4);
}

#[test]
fn reads_take_paths_as_they_are() {
    let mut world = World::new();
    world.create("/a", "").unwrap();
    world.create("/a/b", "").unwrap();
    world.create("/a/b/c", "").unwrap();
    assert_eq!(world.machine.get("", &[]), world.machine.get("/", &[]));
    for path in ["a", "/a/", "//a", "/b", "/a/c", "/a//b"] {
        assert_eq!(
            world.machine.get(path, &[]).unwrap_err(),
            NoNode,
            "{path:?}"
        );
    }
    assert_eq!(world.machine.exists("/a\0", &[]), Err(BadArguments));
    assert_eq!(world.machine.exists("/x", &[]), Err(NoNode));
    assert_eq!(world.machine.all_children_number("/", &[]), Ok(6));
    assert_eq!(world.machine.all_children_number("", &[]), Ok(7));
    assert_eq!(world.machine.all_children_number("/a", &[]), Ok(2));
    assert_eq!(world.machine.all_children_number("/a/b/c", &[]), Ok(0));
}

#[test]
fn failures_take_a_transaction_too() {
    let mut world = World::new();
    let before = world.machine.last_zxid();
    world.delete("/x", -1).unwrap_err();
    assert_eq!(world.machine.last_zxid(), before.plus(1));
}

#[test]
fn time_never_goes_back() {
    let mut world = World::new();
    let command = Command {
        origin: None,
        session: ALICE,
        caller: Vec::new(),
        kind: Kind::Write(create("/a")),
    };
    let (zxid, now) = (world.next_zxid(), world.machine.time_ms());
    world.machine.apply(&command, zxid, now - 500);
    assert_eq!(world.stat("/a").ctime_ms, now);
}

#[test]
fn a_batch_is_applied_once() {
    let mut world = World::new();
    let command = |kind| Command {
        origin: None,
        session: ALICE,
        caller: Vec::new(),
        kind,
    };
    let batch = Batch {
        first: Zxid::new(1 << 32),
        time_ms: 7,
        commands: vec![
            command(Kind::Write(create("/a"))),
            command(Kind::Write(create("/b"))),
        ],
    };
    let applied = world.machine.apply_batch(&batch).unwrap();
    assert_eq!(applied[1].zxid, Zxid::new((1 << 32) + 1));
    assert_eq!(world.stat("/b").czxid, applied[1].zxid);
    let error = world.machine.apply_batch(&batch).unwrap_err();
    assert_eq!(
        error,
        BatchOutOfOrder {
            first: batch.first,
            applied: applied[1].zxid
        }
    );
    let single = Batch {
        first: world.next_zxid(),
        commands: batch.commands[..1].to_vec(),
        ..batch
    };
    world.machine.apply_batch(&single).unwrap();
    world.machine.apply_batch(&single).unwrap_err();
}

#[test]
fn the_config_is_set_by_the_service_alone() {
    let mut world = World::new();
    assert_eq!(
        world.set("/zookeeper/config", "x", -1),
        Err(OpError::NoAuth)
    );
    let data = b"server.1=a".to_vec();
    world.run(Kind::SetConfig { data }).unwrap();
    assert_eq!(world.data("/zookeeper/config"), "server.1=a");
    assert_eq!(world.stat("/zookeeper/config").version, 1);
    assert_eq!(
        world.events(),
        [(EventKind::DataChanged, "/zookeeper/config")]
    );
}

#[test]
fn the_number_of_nodes_is_bounded() {
    let mut world = World::new();
    world.machine.tree.set_limit(6);
    world.create("/a", "").unwrap();
    world.create("/b", "").unwrap();
    assert_eq!(world.create("/c", ""), Err(OpError::QuotaExceeded));
    world.delete("/a", -1).unwrap();
    world.create("/c", "").unwrap();
}

#[test]
fn paths_are_bounded() {
    let mut world = World::new();
    let path = |bytes: usize| format!("/{}", "x".repeat(bytes - 1));
    assert_eq!(
        world.create(&path(MAX_PATH_BYTES + 1), ""),
        Err(BadArguments)
    );
    let mode = CreateMode::PersistentSequential;
    assert_eq!(
        world.create_as(&path(MAX_PATH_BYTES - 9), "", mode),
        Err(BadArguments),
        "with its number"
    );
    world
        .create_as(&path(MAX_PATH_BYTES - 10), "", mode)
        .unwrap();
    let longest = path(MAX_PATH_BYTES);
    world.create(&longest, "").unwrap();
    assert_eq!(
        world.create(&format!("{longest}/y"), ""),
        Err(BadArguments),
        "with its parent"
    );
}
