//! Sessions, their ephemeral nodes, and pods.

use super::*;
use crate::OpError::{BadArguments, SessionExpired, SessionMoved};
use crate::{MAX_EPHEMERAL_BYTES, MAX_PATH_BYTES};

const POD: PodId = PodId::new(7);

fn from(pod: PodId, number: u64) -> Option<Origin> {
    Some(Origin { pod, number })
}

fn refused(error: OpError) -> Result<Reply, Refused> {
    Err(Refused::Op(error))
}

#[test]
fn a_session_that_closes_takes_its_ephemerals_along() {
    let mut world = World::new();
    world.create("/a", "").unwrap();
    for name in ["x", "y"] {
        world
            .create_as(&format!("/a/{name}"), "", CreateMode::Ephemeral)
            .unwrap();
    }
    world.session = BOB;
    world
        .create_as("/a/bob", "", CreateMode::EphemeralSequential)
        .unwrap();
    assert_eq!(world.stat("/a/x").ephemeral_owner, ALICE);
    assert_eq!(world.machine.session(ALICE).unwrap().ephemerals, 2);
    assert_eq!(world.machine.ephemerals(ALICE, ""), ["/a/x", "/a/y"]);
    assert_eq!(world.machine.ephemerals(ALICE, "/"), ["/a/x", "/a/y"]);
    assert_eq!(world.machine.ephemerals(ALICE, "/a/y"), ["/a/y"]);

    world.session = ALICE;
    let zxid = world.next_zxid();
    world.run(Kind::CloseSession).unwrap();
    assert_eq!(world.names("/a"), ["bob0000000002"]);
    assert_eq!(world.stat("/a").pzxid, zxid, "one transaction");
    assert_eq!(
        world.events(),
        [
            (EventKind::Deleted, "/a/x"),
            (EventKind::ChildrenChanged, "/a"),
            (EventKind::Deleted, "/a/y"),
            (EventKind::ChildrenChanged, "/a"),
        ]
    );
    assert!(world.machine.session(ALICE).is_none());
    assert_eq!(world.create("/b", ""), Err(SessionExpired));
    assert_eq!(
        world.run(Kind::CloseSession),
        Ok(Reply::Done),
        "nothing to close"
    );
    let events = &world.applied[world.applied.len() - 3].events;
    assert!(Arc::ptr_eq(&events[1].path, &events[3].path), "kept once");
}

#[test]
fn the_paths_of_a_sessions_ephemerals_are_bounded() {
    let mut world = World::new();
    let name = |n: u64| format!("/{n:0>width$}", width = MAX_PATH_BYTES - 1);
    let most = MAX_EPHEMERAL_BYTES / MAX_PATH_BYTES as u64;
    for n in 0..most {
        world
            .create_as(&name(n), "", CreateMode::Ephemeral)
            .unwrap();
    }
    let refused = world.create_as("/x", "", CreateMode::Ephemeral);
    assert_eq!(refused, Err(OpError::QuotaExceeded));
    world.create("/x", "").unwrap();
    world.session = BOB;
    world.create_as("/bob", "", CreateMode::Ephemeral).unwrap();
    world.session = ALICE;
    world.delete(&name(0), -1).unwrap();
    let largest = name(most);
    let refused = world.create_as(&format!("/x{largest}"), "", CreateMode::Ephemeral);
    assert_eq!(refused, Err(BadArguments), "a longer path");
    world
        .create_as(&largest, "", CreateMode::Ephemeral)
        .unwrap();
    world.run(Kind::CloseSession).unwrap();
    assert_eq!(world.names("/"), ["bob", "x", "zookeeper"]);
}

#[test]
fn an_ephemeral_that_was_deleted_is_not_deleted_again() {
    let mut world = World::new();
    world.create_as("/e", "", CreateMode::Ephemeral).unwrap();
    world.delete("/e", -1).unwrap();
    world.create("/e", "").unwrap();
    world.run(Kind::CloseSession).unwrap();
    assert_eq!(world.names("/"), ["e", "zookeeper"]);
}

#[test]
fn only_the_pod_of_the_session_writes() {
    let mut world = World::new();
    for pod in [7, 8] {
        world.run_from(from(PodId::new(pod), 1), REGISTER).unwrap();
    }
    let attach = |password| Kind::AttachSession {
        timeout_ms: 9,
        password,
    };
    let wrong = Password::new([2; 16]);
    let write = |path| Kind::Write(create(path));
    assert_eq!(
        world.run_from(from(POD, 2), write("/a")),
        refused(SessionMoved)
    );
    assert_eq!(
        world.run_from(from(POD, 3), attach(wrong)),
        refused(SessionExpired)
    );
    assert_eq!(
        world.run_from(from(POD, 4), write("/a")),
        refused(SessionMoved)
    );
    world.run_from(from(POD, 5), attach(PASSWORD)).unwrap();
    world.run_from(from(POD, 6), write("/a")).unwrap();
    let other = PodId::new(8);
    assert_eq!(
        world.run_from(from(other, 2), write("/b")),
        refused(SessionMoved)
    );
    assert_eq!(
        world.run_from(from(other, 3), Kind::Multi(Vec::new())),
        refused(SessionMoved),
        "a multi without operations too"
    );
    let session = world.machine.session(ALICE).unwrap();
    assert_eq!((session.pod, session.timeout_ms), (POD, 9));
    world.session = SessionId::new(99);
    assert_eq!(
        world.run_from(from(POD, 7), attach(PASSWORD)),
        refused(SessionExpired)
    );
    world
        .run_from(
            from(POD, 8),
            Kind::CreateSession {
                timeout_ms: 1,
                password: wrong,
            },
        )
        .unwrap();
    assert_eq!(world.machine.session(world.session).unwrap().pod, POD);
}

#[test]
fn a_session_is_opened_once() {
    let mut world = World::new();
    world.create_as("/e", "", CreateMode::Ephemeral).unwrap();
    assert_eq!(world.open_session(), refused(SessionMoved));
    assert_eq!(world.machine.session_count(), 2);
    assert_eq!(world.machine.session(ALICE).unwrap().ephemerals, 1);
    world.session = SessionId::default();
    assert_eq!(
        world.open_session(),
        refused(BadArguments),
        "zero is no session"
    );
}

#[test]
fn a_command_that_is_sent_twice_is_applied_once() {
    let mut world = World::new();
    assert_eq!(
        world.run_from(from(POD, 1), Kind::Nothing),
        Err(Refused::UnknownPod(POD))
    );
    assert_eq!(
        world.run_from(from(POD, 2), REGISTER),
        Err(Refused::Gap { expected: 1 })
    );
    world.run_from(from(POD, 1), REGISTER).unwrap();
    assert_eq!(
        world.run_from(from(POD, 1), REGISTER),
        Err(Refused::Duplicate)
    );
    let password = PASSWORD;
    world
        .run_from(
            from(POD, 2),
            Kind::AttachSession {
                timeout_ms: 1,
                password,
            },
        )
        .unwrap();
    let append = || {
        Kind::Write(new(
            "/s",
            "",
            CreateMode::PersistentSequential,
            &Acl::open(),
            -1,
        ))
    };
    assert_eq!(
        world.run_from(from(POD, 4), append()),
        Err(Refused::Gap { expected: 3 }),
        "a command that overtakes another would hide it"
    );
    world.run_from(from(POD, 3), append()).unwrap();
    assert_eq!(
        world.run_from(from(POD, 3), append()),
        Err(Refused::Duplicate)
    );
    world.run_from(from(POD, 4), append()).unwrap();
    assert_eq!(
        world.names("/"),
        ["s0000000000", "s0000000001", "zookeeper"]
    );
    assert_eq!(world.machine.pods().collect::<Vec<_>>(), [(POD, 4)]);

    world.run(Kind::CloseSession).unwrap();
    world.later_ms += POD_IDLE_MS;
    world.run(Kind::ForgetPod { pod: POD, last: 4 }).unwrap();
    assert_eq!(
        world.run_from(from(POD, 5), append()),
        Err(Refused::UnknownPod(POD))
    );
}

#[test]
fn a_refused_write_has_its_number_nevertheless() {
    let mut world = World::new();
    world.run_from(from(POD, 1), REGISTER).unwrap();
    let write = || Kind::Write(delete("/x", -1));
    assert_eq!(world.run_from(from(POD, 2), write()), refused(SessionMoved));
    assert_eq!(
        world.run_from(from(POD, 2), write()),
        Err(Refused::Duplicate)
    );
}

#[test]
fn the_table_of_pods_is_bounded() {
    let mut world = World::new();
    let mut number = 0;
    let refusal = loop {
        number += 1;
        if let Err(refusal) = world.run_from(from(PodId::new(number), 1), REGISTER) {
            break refusal;
        }
    };
    assert_eq!((refusal, number), (Refused::TooManyPods, 4097));
    world.later_ms += POD_IDLE_MS;
    let pod = PodId::new(1);
    world.run(Kind::ForgetPod { pod, last: 1 }).unwrap();
    let seen = world.machine.last_zxid();
    world
        .run_from(from(PodId::new(number), 1), Kind::RegisterPod { seen })
        .unwrap();
}

#[test]
fn a_forgotten_pod_is_never_registered_again() {
    let mut world = World::new();
    let register = |seen| Kind::RegisterPod { seen };
    let unknown = Err(Refused::UnknownPod(POD));
    let seen = world.machine.last_zxid();
    world.run_from(from(POD, 1), register(seen)).unwrap();
    world.run_from(from(POD, 2), Kind::Nothing).unwrap();
    let before = world.machine.last_zxid();
    world.later_ms += POD_IDLE_MS;
    world.run(Kind::ForgetPod { pod: POD, last: 2 }).unwrap();
    let forgotten = world.machine.last_zxid();
    assert_eq!(world.machine.last_forgotten(), forgotten);
    assert_eq!(world.run_from(from(POD, 1), register(seen)), unknown);
    assert_eq!(world.run_from(from(POD, 2), Kind::Nothing), unknown);
    let other = PodId::new(8);
    let unknown = Err(Refused::UnknownPod(other));
    assert_eq!(world.run_from(from(other, 1), register(before)), unknown);
    world.run_from(from(other, 1), register(forgotten)).unwrap();
}

#[test]
fn a_pod_in_use_is_not_forgotten() {
    let mut world = World::new();
    let forget = |last| Kind::ForgetPod { pod: POD, last };
    let in_use = Err(Refused::PodInUse(POD));
    world.run_from(from(POD, 1), REGISTER).unwrap();
    let registered_ms = world.machine.time_ms();
    let idle = |world: &World, time_ms| {
        world
            .machine
            .idle_pods(time_ms)
            .collect::<Vec<(PodId, u64)>>()
    };
    assert_eq!(idle(&world, registered_ms + POD_IDLE_MS - 1), []);
    assert_eq!(idle(&world, registered_ms + POD_IDLE_MS), [(POD, 1)]);
    assert_eq!(world.run(forget(1)), in_use, "it has sent a command lately");

    world.later_ms += POD_IDLE_MS;
    world.run_from(from(POD, 2), Kind::Nothing).unwrap();
    let last_ms = world.machine.time_ms();
    assert_eq!(idle(&world, last_ms + POD_IDLE_MS - 1), []);
    assert_eq!(idle(&world, last_ms + POD_IDLE_MS), [(POD, 2)]);
    world.later_ms += POD_IDLE_MS;
    assert_eq!(world.run(forget(1)), in_use, "it has sent another one");

    let attach = Kind::AttachSession {
        timeout_ms: 9,
        password: PASSWORD,
    };
    world.run_from(from(POD, 3), attach.clone()).unwrap();
    world.later_ms += POD_IDLE_MS;
    assert_eq!(idle(&world, world.machine.time_ms() + POD_IDLE_MS), []);
    assert_eq!(world.run(forget(3)), in_use, "it has a session");
    // The session moves to another pod.
    let other = PodId::new(8);
    world.run_from(from(other, 1), REGISTER).unwrap();
    world.run_from(from(other, 2), attach.clone()).unwrap();
    assert_eq!(world.run(forget(3)), Ok(Reply::Done));
    assert_eq!(world.run(forget(3)), Ok(Reply::Done), "it is forgotten");
    let forget = Kind::ForgetPod {
        pod: other,
        last: 2,
    };
    world.later_ms += POD_IDLE_MS;
    assert_eq!(world.run(forget.clone()), Err(Refused::PodInUse(other)));
    world.run(Kind::CloseSession).unwrap();
    assert_eq!(world.run(forget), Ok(Reply::Done));
}

#[test]
fn a_session_that_was_attached_again_does_not_expire() {
    let mut world = World::new();
    world.create_as("/e", "", CreateMode::Ephemeral).unwrap();
    let attached = |world: &World| world.machine.session(ALICE).unwrap().attached;
    let expire = |attached| Kind::ExpireSession { attached };
    let opened = attached(&world);
    assert_eq!(opened, Zxid::new(2));

    let attach = |password| Kind::AttachSession {
        timeout_ms: 9,
        password,
    };
    assert!(world.run(attach(Password::new([2; 16]))).is_err());
    assert_eq!(
        attached(&world),
        opened,
        "a wrong password attaches nothing"
    );
    let zxid = world.next_zxid();
    world.run(attach(PASSWORD)).unwrap();
    assert_eq!(attached(&world), zxid);
    assert_eq!(world.run(expire(opened)), refused(SessionMoved));
    assert_eq!(world.events(), []);
    assert_eq!(world.names("/"), ["e", "zookeeper"]);

    assert_eq!(world.run(expire(zxid)), Ok(Reply::Done));
    assert!(world.machine.session(ALICE).is_none());
    assert_eq!(world.events()[0], (EventKind::Deleted, "/e"));
    assert_eq!(world.names("/"), ["zookeeper"]);
    assert_eq!(world.run(expire(zxid)), Ok(Reply::Done), "it is closed");
    // An id may come again.
    world.open_session().unwrap();
    assert_eq!(world.run(expire(zxid)), refused(SessionMoved));
}
