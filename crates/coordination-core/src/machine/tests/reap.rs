//! Containers and nodes with a TTL.

use super::*;
use crate::OpError::{BadArguments, BadVersion, NoNode, NotEmpty};
use crate::Owner;

impl World {
    fn reap(&mut self, path: &str) -> Result<Reply, Refused> {
        self.session = SessionId::default();
        let reply = self.run(Kind::Reap {
            path: path.to_owned(),
        });
        self.session = ALICE;
        reply
    }
}

fn refused(error: OpError) -> Result<Reply, Refused> {
    Err(Refused::Op(error))
}

#[test]
fn an_abandoned_container_is_reaped() {
    let mut world = World::new();
    world.create_as("/c", "", CreateMode::Container).unwrap();
    assert_eq!(world.stat("/c").ephemeral_owner, SessionId::default());
    assert_eq!(
        world.reap("/c"),
        refused(BadVersion),
        "it never had children"
    );
    world.create("/c/x", "").unwrap();
    assert_eq!(world.machine.due(i64::MAX, 9), Vec::<String>::new());
    assert_eq!(world.reap("/c"), refused(NotEmpty));
    world.delete("/c/x", -1).unwrap();
    assert_eq!(world.machine.due(0, 9), ["/c"]);
    assert_eq!(world.machine.due(0, 0), Vec::<String>::new());
    world.create("/c/y", "").unwrap();
    assert_eq!(world.machine.due(i64::MAX, 9), Vec::<String>::new());
    world.delete("/c/y", -1).unwrap();
    assert_eq!(world.machine.due(0, 9), ["/c"]);
    assert_eq!(world.reap("//c"), refused(NoNode));
    assert_eq!(world.reap("/c"), Ok(Reply::Deleted));
    assert_eq!(
        world.events(),
        [
            (EventKind::Deleted, "/c"),
            (EventKind::ChildrenChanged, "/")
        ]
    );
    assert_eq!(world.reap("/c"), refused(NoNode));
    assert_eq!(world.machine.due(i64::MAX, 9), Vec::<String>::new());
}

#[test]
fn a_node_is_reaped_after_its_ttl() {
    let mut world = World::new();
    let open = Acl::open();
    world
        .create_with("/t", "", CreateMode::Ttl, &open, 2000)
        .unwrap();
    let mtime_ms = world.stat("/t").mtime_ms;
    assert_eq!(world.machine.due(mtime_ms + 2000, 9), Vec::<String>::new());
    assert_eq!(world.machine.due(mtime_ms + 2001, 9), ["/t"]);
    assert_eq!(world.reap("/t"), refused(BadVersion), "after one second");
    world.set("/t", "", -1).unwrap();
    assert_eq!(world.reap("/t"), refused(BadVersion));
    assert_eq!(
        world.reap("/t"),
        refused(BadVersion),
        "setting data began the time anew"
    );
    world.create("/t/x", "").unwrap();
    assert_eq!(world.reap("/t"), refused(NotEmpty));
    world.delete("/t/x", -1).unwrap();
    assert_eq!(world.reap("/t"), Ok(Reply::Deleted));
}

#[test]
fn other_nodes_are_never_reaped() {
    let mut world = World::new();
    world.create("/p", "").unwrap();
    world.create_as("/e", "", CreateMode::Ephemeral).unwrap();
    assert_eq!(world.reap("/p"), refused(BadVersion));
    assert_eq!(world.reap("/e"), refused(BadVersion));
    assert_eq!(world.reap("/"), refused(BadArguments));
    assert_eq!(world.machine.due(i64::MAX, 9), Vec::<String>::new());
}

#[test]
fn a_ttl_is_positive_and_only_for_its_modes() {
    let mut world = World::new();
    let open = Acl::open();
    let mut create = |mode, ttl_ms| world.create_with("/t", "", mode, &open, ttl_ms);
    for ttl_ms in [i64::MIN, -1, 0, Owner::MAX_TTL_MS + 1, i64::MAX] {
        assert_eq!(
            create(CreateMode::Ttl, ttl_ms),
            Err(BadArguments),
            "{ttl_ms}"
        );
    }
    for ttl_ms in [0, 1, Owner::MAX_TTL_MS + 1] {
        assert_eq!(
            create(CreateMode::Persistent, ttl_ms),
            Err(BadArguments),
            "{ttl_ms}"
        );
    }
    create(CreateMode::TtlSequential, Owner::MAX_TTL_MS).unwrap();
    create(CreateMode::Persistent, -2).unwrap();
}

#[test]
fn owners_have_zookeepers_markers() {
    assert_eq!(Owner::None.marker(), 0);
    assert_eq!(Owner::Session(ALICE).marker(), 10);
    assert_eq!(Owner::Container.marker(), i64::MIN);
    assert_eq!(
        Owner::Ttl { ttl_ms: 0x1234 }.marker().cast_unsigned(),
        0xff00_0000_0000_1234
    );
}
