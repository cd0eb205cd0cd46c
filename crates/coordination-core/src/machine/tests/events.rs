//! What operations tell watches.

use super::*;

#[test]
fn each_event_names_its_own_parent() {
    let mut world = World::new();
    let paths = ["/a", "/b", "/a/x", "/b/y", "/a/z"];
    let ops = paths.into_iter().map(create).collect();
    world.run(Kind::Multi(ops)).unwrap();
    let events = world.events();
    let changed = events
        .iter()
        .filter(|(kind, _)| *kind == EventKind::ChildrenChanged);
    assert!(
        changed
            .map(|(_, path)| *path)
            .eq(["/", "/", "/a", "/b", "/a"])
    );
}

#[test]
fn operations_cause_events_in_order() {
    let mut world = World::new();
    world.create("/a", "").unwrap();
    assert_eq!(
        world.events(),
        [
            (EventKind::Created, "/a"),
            (EventKind::ChildrenChanged, "/")
        ]
    );
    world.create("/a/b", "").unwrap();
    assert_eq!(
        world.events(),
        [
            (EventKind::Created, "/a/b"),
            (EventKind::ChildrenChanged, "/a")
        ]
    );
    world.set("/a", "x", -1).unwrap();
    assert_eq!(world.events(), [(EventKind::DataChanged, "/a")]);
    let zxid = world.next_zxid();
    world.delete("/a/b", -1).unwrap();
    assert_eq!(
        world.events(),
        [
            (EventKind::Deleted, "/a/b"),
            (EventKind::ChildrenChanged, "/a")
        ]
    );
    assert!(
        world
            .applied
            .last()
            .unwrap()
            .events
            .iter()
            .all(|event| event.zxid == zxid)
    );
    world.delete("/a", 9).unwrap_err();
    assert_eq!(world.events(), []);
    world.op(check("/a", -1)).unwrap();
    assert_eq!(world.events(), []);
}

#[test]
fn events_carry_the_list_that_guards_the_node() {
    let mut world = World::new();
    let admin = [Acl::world(
        Perms::ADMIN.union(Perms::CREATE).union(Perms::DELETE),
    )];
    let mode = CreateMode::Persistent;
    world.create_with("/a", "", mode, &admin, -1).unwrap();
    let lists = |world: &World| -> Vec<Vec<Acl>> {
        let events = &world.applied.last().unwrap().events;
        events.iter().map(|event| event.acl.to_vec()).collect()
    };
    assert_eq!(lists(&world), [admin.to_vec(), Acl::open()]);
    let write = [Acl::world(Perms::WRITE)];
    world.create_with("/a/b", "", mode, &write, -1).unwrap();
    assert_eq!(lists(&world), [write.to_vec(), admin.to_vec()]);
    world.set("/a/b", "", -1).unwrap();
    assert_eq!(lists(&world), [write.to_vec()]);
    world.delete("/a/b", -1).unwrap();
    assert_eq!(lists(&world), [write.to_vec(), admin.to_vec()]);
}
