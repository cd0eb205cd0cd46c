//! Permissions of operations and reads.

use super::*;
use crate::OpError::{BadVersion, InvalidAcl, NoAuth, NoNode};
use crate::{MAX_IDENTITIES, MAX_IDENTITY_BYTES};

fn alice() -> Id {
    crate::digest("alice:secret")
}

fn only(perms: Perms, id: Id) -> Vec<Acl> {
    vec![Acl { perms, id }]
}

impl World {
    fn set_acl(&mut self, path: &str, acl: &[Acl], version: i32) -> Result<Stat, OpError> {
        let op = Op::SetAcl {
            path: path.to_owned(),
            acl: acl.to_vec(),
            version,
        };
        let reply = self.op(op)?;
        let Reply::AclSet(stat) = reply else {
            panic!("{reply:?}");
        };
        Ok(stat)
    }
}

#[test]
fn each_operation_needs_its_permission() {
    let cases: [(Perms, [bool; 6]); 5] = [
        // READ, WRITE, CREATE, DELETE, ADMIN, and READ or ADMIN for getAcl
        (Perms::READ, [true, false, false, false, false, true]),
        (Perms::WRITE, [false, true, false, false, false, false]),
        (Perms::CREATE, [false, false, true, false, false, false]),
        (Perms::DELETE, [false, false, false, true, false, false]),
        (Perms::ADMIN, [false, false, false, false, true, true]),
    ];
    for (perms, expected) in cases {
        let mut world = World::new();
        world.create("/p", "").unwrap();
        world.create("/p/x", "").unwrap();
        world.set_acl("/p", &[Acl::world(perms)], -1).unwrap();
        let may = |result: Result<(), OpError>| match result {
            Ok(()) => true,
            Err(NoAuth) => false,
            Err(other) => panic!("{other}"),
        };
        let read = [
            may(world.machine.get("/p", &[]).map(drop)),
            may(world.machine.exists("/p", &[]).map(drop)),
            may(world.machine.children("/p", &[]).map(drop)),
            may(world.machine.all_children_number("/p", &[]).map(drop)),
            may(world.op(check("/p", -1)).map(drop)),
        ];
        assert_eq!(read, [expected[0]; 5], "{perms:?}");
        let get_acl = may(world.machine.acl("/p", &[]).map(drop));
        let others = [
            may(world.set("/p", "", -1).map(drop)),
            may(world.create("/p/y", "").map(drop)),
            may(world.delete("/p/x", -1)),
            may(world.set_acl("/p", &[Acl::world(perms)], -1).map(drop)),
            get_acl,
        ];
        assert_eq!(others, expected[1..], "{perms:?}");
    }
}

#[test]
fn the_nodes_own_list_does_not_protect_it_from_deletion() {
    let mut world = World::new();
    world
        .create_with(
            "/p",
            "",
            CreateMode::Persistent,
            &only(Perms::ALL, alice()),
            -1,
        )
        .unwrap();
    assert_eq!(world.create("/p/x", ""), Err(NoAuth));
    assert_eq!(world.delete("/p", -1), Ok(()), "the parent's list counts");
}

#[test]
fn setting_a_list_raises_aversion_alone() {
    let mut world = World::new();
    world.create("/a", "x").unwrap();
    let before = world.stat("/a");
    let stat = world.set_acl("/a", &[Acl::world(Perms::ALL)], 0).unwrap();
    assert_eq!(
        stat,
        Stat {
            aversion: 1,
            ..before
        }
    );
    assert_eq!(world.events(), []);
    assert_eq!(world.set_acl("/a", &Acl::open(), 0), Err(BadVersion));
    assert_eq!(
        world.set_acl("/x", &[], 0),
        Err(InvalidAcl),
        "before the node is looked up"
    );
    assert_eq!(world.set_acl("/x", &Acl::open(), 0), Err(NoNode));
    assert_eq!(world.set_acl("/a/", &[], 0), Err(OpError::BadArguments));
}

#[test]
fn auth_becomes_the_caller() {
    let mut world = World::new();
    world.caller = vec![Id::new("ip", "10.0.0.1"), alice()];
    let auth = only(Perms::ALL, Id::new("auth", ""));
    world
        .create_with("/a", "", CreateMode::Persistent, &auth, -1)
        .unwrap();
    let (list, _) = world.machine.acl("/a", &[alice()]).unwrap();
    assert_eq!(list, only(Perms::ALL, alice()));
    world.caller = Vec::new();
    assert_eq!(world.set("/a", "", -1), Err(NoAuth));
    assert_eq!(world.set_acl("/a", &auth, -1), Err(InvalidAcl));
    world.caller = vec![Id::new("super", "")];
    world.set("/a", "", -1).unwrap();
}

#[test]
fn permission_comes_before_existence_of_the_child() {
    let mut world = World::new();
    world
        .create_with(
            "/p",
            "",
            CreateMode::Persistent,
            &[Acl::world(Perms::READ)],
            -1,
        )
        .unwrap();
    assert_eq!(world.delete("/p/missing", -1), Err(NoAuth));
    assert_eq!(
        world.create("/p/..", ""),
        Err(NoAuth),
        "and before the path is valid"
    );
    assert_eq!(
        world.set("/p", "", 9),
        Err(NoAuth),
        "and before the version"
    );
}

#[test]
fn lists_are_forgotten_with_their_nodes() {
    let mut world = World::new();
    let before = world.machine.acl_count();
    world
        .create_with(
            "/a",
            "",
            CreateMode::Persistent,
            &only(Perms::ALL, alice()),
            -1,
        )
        .unwrap();
    world
        .create_with(
            "/b",
            "",
            CreateMode::Ephemeral,
            &only(Perms::READ, alice()),
            -1,
        )
        .unwrap();
    assert_eq!(world.machine.acl_count(), before + 2);
    world.caller = vec![alice()];
    world.set_acl("/a", &Acl::open(), -1).unwrap();
    assert_eq!(world.machine.acl_count(), before + 1);
    world.run(Kind::CloseSession).unwrap();
    assert_eq!(world.machine.acl_count(), before);
}

#[test]
fn identities_are_bounded() {
    let mut world = World::new();
    let users = |count: usize| vec![Id::new("digest", "u:h"); count];
    let refused = Err(Refused::Op(OpError::BadArguments));
    world.caller = users(MAX_IDENTITIES + 1);
    assert_eq!(world.create("/a", ""), Err(OpError::BadArguments));
    assert_eq!(world.run(Kind::Multi(vec![create("/a")])), refused);
    world.caller = users(MAX_IDENTITIES);
    world.create("/a", "").unwrap();
    let long = |bytes: usize| vec![Id::new("digest", &"x".repeat(bytes - "digest".len()))];
    world.caller = long(MAX_IDENTITY_BYTES + 1);
    assert_eq!(world.create("/b", ""), Err(OpError::BadArguments));
    world.caller = long(MAX_IDENTITY_BYTES);
    world.create("/b", "").unwrap();
}
