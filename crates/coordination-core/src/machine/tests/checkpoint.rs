//! The state as pages, and back.

use std::collections::BTreeMap;

use super::*;
use crate::page::{MAX_PART_BYTES, Part};
use crate::{DecodeError, Directory, LoadError, Loader, PageId};

type Stored = BTreeMap<PageId, Vec<Vec<u8>>>;

fn save(machine: &mut Machine, since: Option<Zxid>, stored: &mut Stored) -> usize {
    machine.start_checkpoint(since);
    let mut pages = 0;
    while let Some(write) = machine.next_page() {
        pages += 1;
        store(write, stored);
    }
    pages
}

fn store(write: PageWrite, stored: &mut Stored) {
    assert!(write.parts.iter().all(|part| part.len() <= MAX_PART_BYTES));
    if write.parts.is_empty() {
        stored.remove(&write.page);
    } else {
        stored.insert(write.page, write.parts);
    }
}

fn load(stored: &Stored) -> Result<Machine, LoadError> {
    let mut loader = Loader::new(99, &stored[&PageId::Meta])?;
    for (&page, parts) in stored
        .iter()
        .rev()
        .filter(|(page, _)| **page != PageId::Meta)
    {
        loader.add(page, parts)?;
    }
    loader.finish()
}

/// A world with something of everything, in several pages.
fn rich() -> World {
    let mut world = World::new();
    let owner = Origin {
        pod: PodId::new(7),
        number: 1,
    };
    world.run_from(Some(owner), REGISTER).unwrap();
    world.create("/a", "").unwrap();
    for n in 0..1000 {
        world
            .create(&format!("/a/{n}"), &"x".repeat(n % 200))
            .unwrap();
    }
    world
        .create_as("/e", "", CreateMode::EphemeralSequential)
        .unwrap();
    world.create_as("/c", "", CreateMode::Container).unwrap();
    world.create("/c/x", "").unwrap();
    world.delete("/c/x", -1).unwrap();
    world
        .create_with("/t", "", CreateMode::Ttl, &[Acl::world(Perms::READ)], 5)
        .unwrap();
    world
        .create("/huge", &"y".repeat(2 * MAX_PART_BYTES))
        .unwrap();
    world.create("/zookeeper/quota/a", "").unwrap();
    let limits = "count=-1,bytes=-1=;countHardLimit=1001";
    world
        .create("/zookeeper/quota/a/zookeeper_limits", limits)
        .unwrap();
    world
        .create("/zookeeper/quota/a/zookeeper_stats", "")
        .unwrap();
    world
}

#[test]
fn a_loaded_machine_goes_on_as_the_other() {
    let mut world = rich();
    let mut stored = Stored::new();
    save(&mut world.machine, None, &mut stored);
    assert!(stored.len() > 5);
    let mut loaded = load(&stored).unwrap();
    assert_eq!(loaded.state_hash(), world.machine.state_hash());
    assert_eq!(loaded.ephemerals(ALICE, ""), ["/e0000000001"]);
    assert_eq!(loaded.due(i64::MAX, 9), world.machine.due(i64::MAX, 9));
    assert_eq!(loaded.due(i64::MAX, 9).len(), 2);

    let sequential = || {
        new(
            "/t2/",
            "",
            CreateMode::PersistentSequential,
            &Acl::open(),
            -1,
        )
    };
    let kinds = [
        Kind::Write(create("/t2")),
        Kind::Write(sequential()),
        Kind::Write(create("/a/over-quota")),
        Kind::Write(sequential()),
        Kind::Write(delete("/a/7", -1)),
        Kind::Write(sequential()),
        Kind::Write(set("/a/8", &"z".repeat(90_000), -1)),
        Kind::Reap {
            path: "/c".to_owned(),
        },
        Kind::Write(delete("/huge", -1)),
        Kind::CloseSession,
    ];
    for kind in kinds {
        let zxid = world.next_zxid();
        let command = Command {
            origin: None,
            session: ALICE,
            caller: Vec::new(),
            kind,
        };
        let expected = world.machine.apply(&command, zxid, 0);
        assert_eq!(loaded.apply(&command, zxid, 0), expected);
        assert_eq!(
            loaded.state_hash(),
            world.machine.state_hash(),
            "{command:?}"
        );
    }
    // Both write the same pages next.
    let since = Directory::from_parts(&stored[&PageId::Meta])
        .unwrap()
        .last_zxid();
    let mut other = stored.clone();
    save(&mut world.machine, Some(since), &mut stored);
    save(&mut loaded, Some(since), &mut other);
    assert_eq!(stored, other);
    assert_eq!(load(&stored).unwrap().state_hash(), loaded.state_hash());
}

#[test]
fn a_checkpoint_has_what_changed() {
    let mut world = rich();
    let mut stored = Stored::new();
    let all = save(&mut world.machine, None, &mut stored);
    let since = world.machine.last_zxid();
    assert_eq!(
        save(&mut world.machine, Some(since), &mut Stored::new()),
        1,
        "the meta page"
    );
    world.create("/a/new", "").unwrap_err();
    world.delete("/a/5", -1).unwrap();
    let few = save(&mut world.machine, Some(since), &mut stored);
    assert!(few <= 4, "{few} of {all} pages");
    assert_eq!(
        load(&stored).unwrap().state_hash(),
        world.machine.state_hash()
    );
}

#[test]
fn a_checkpoint_deletes_no_page_of_a_later_one() {
    let mut world = rich();
    let mut stored = BTreeMap::new();
    let mut save = |machine: &mut Machine, since| {
        machine.start_checkpoint(since);
        let mut meta = None;
        while let Some(write) = machine.next_page() {
            if write.page == PageId::Meta {
                meta = Some(Directory::from_parts(&write.parts).unwrap());
            }
            stored.insert((write.page, write.modified), write.parts);
        }
        meta.unwrap()
    };
    let first = save(&mut world.machine, None);
    world.create("/later", "").unwrap();
    world.delete("/a/5", -1).unwrap();
    let second = save(&mut world.machine, Some(first.last_zxid()));
    let before = stored.len();
    // The first one's writer was slow.
    stored.retain(|&(page, modified), _| !first.is_obsolete(page, modified));
    assert_eq!(stored.len(), before);
    stored.retain(|&(page, modified), _| !second.is_obsolete(page, modified));
    let pages = second.pages().count() + 1;
    assert_eq!(stored.len(), pages, "one version of each page is left");
    let stored: Stored = stored
        .into_iter()
        .map(|((page, _), parts)| (page, parts))
        .collect();
    assert_eq!(
        load(&stored).unwrap().state_hash(),
        world.machine.state_hash()
    );
}

#[test]
fn a_checkpoint_does_not_repeat_the_last_transaction() {
    // The last transaction opened a session; then one created a node.
    let mut world = World::new();
    let since = Some(world.machine.last_zxid());
    assert_eq!(save(&mut world.machine, since, &mut Stored::new()), 1);
    world.create("/a", "").unwrap();
    assert_eq!(save(&mut world.machine, since, &mut Stored::new()), 2);
    let since = Some(world.machine.last_zxid());
    assert_eq!(save(&mut world.machine, since, &mut Stored::new()), 1);
}

#[test]
fn a_checkpoint_has_the_state_at_its_start() {
    let mut world = rich();
    let expected = world.machine.state_hash();
    world.machine.start_checkpoint(None);
    let mut stored = Stored::new();
    store(world.machine.next_page().unwrap(), &mut stored);
    // Every page changes, and the last one disappears, before they are fetched.
    for n in 0..1000 {
        world.set(&format!("/a/{n}"), "changed", -1).unwrap();
    }
    world.delete("/huge", -1).unwrap();
    world.create("/late", &"y".repeat(100_000)).unwrap();
    world.run(Kind::CloseSession).unwrap();
    while let Some(write) = world.machine.next_page() {
        store(write, &mut stored);
    }
    assert_eq!(load(&stored).unwrap().state_hash(), expected);
    let since = Directory::from_parts(&stored[&PageId::Meta])
        .unwrap()
        .last_zxid();
    save(&mut world.machine, Some(since), &mut stored);
    assert_eq!(
        load(&stored).unwrap().state_hash(),
        world.machine.state_hash()
    );
}

#[test]
fn damage_is_detected() {
    let mut world = rich();
    let mut stored = Stored::new();
    save(&mut world.machine, None, &mut stored);
    let pages: Vec<_> = stored.keys().copied().collect();
    for page in pages {
        for part in 0..stored[&page].len() {
            let len = stored[&page][part].len();
            for place in [0, 1, 3, 5, 13, len / 2, len - 1] {
                let mut damaged = stored.clone();
                damaged.get_mut(&page).unwrap()[part][place] ^= 0x10;
                let error = load(&damaged).unwrap_err();
                assert!(
                    matches!(error, LoadError::Page { page: at, .. } if at == page),
                    "{error}"
                );
            }
            let mut truncated = stored.clone();
            truncated.get_mut(&page).unwrap()[part].pop();
            load(&truncated).unwrap_err();
        }
        if page != PageId::Meta {
            let mut missing = stored.clone();
            missing.remove(&page);
            assert_eq!(load(&missing).unwrap_err(), LoadError::WrongPage(page));
        }
    }
    let mut parts = stored.clone();
    huge_mut(&mut parts).swap(0, 1);
    load(&parts).unwrap_err();
    huge_part_missing(&stored);
    let mut other = stored.clone();
    let (&page, first) = other
        .iter()
        .find(|(page, _)| matches!(page, PageId::Nodes(1)))
        .unwrap();
    let first = first.clone();
    other.insert(PageId::Nodes(2), first);
    let error = DecodeError::Invalid("page id");
    assert_eq!(
        load(&other).unwrap_err(),
        LoadError::Page {
            page: PageId::Nodes(2),
            error
        }
    );
    let surplus = stored[&page].clone();
    stored.insert(PageId::Nodes(9999), surplus);
    assert_eq!(
        load(&stored).unwrap_err(),
        LoadError::WrongPage(PageId::Nodes(9999))
    );
}

fn huge_part_missing(stored: &Stored) {
    let mut parts = stored.clone();
    huge_mut(&mut parts).pop();
    load(&parts).unwrap_err();
    huge_mut(&mut parts).clear();
    load(&parts).unwrap_err();
}

fn huge_mut(stored: &mut Stored) -> &mut Vec<Vec<u8>> {
    let mut pages = stored.values_mut();
    pages.find(|parts| parts.len() > 1).unwrap()
}

#[test]
fn parts_behind_the_last_one_are_left_from_another_encoding() {
    let mut world = rich();
    let mut stored = Stored::new();
    save(&mut world.machine, None, &mut stored);
    let huge = huge_mut(&mut stored);
    huge.push(huge[1].clone());
    huge.push(vec![9]);
    load(&stored).unwrap();
    huge_mut(&mut stored).swap(0, 1);
    load(&stored).unwrap_err();
}

#[test]
fn the_format_is_pinned() {
    let mut world = World::new();
    world.create("/a", "data").unwrap();
    let mut stored = Stored::new();
    save(&mut world.machine, None, &mut stored);
    let contents: Vec<_> = stored
        .values()
        .map(|parts| Part::join(parts).unwrap())
        .collect();
    let pages: Vec<_> = stored.keys().map(PageId::to_string).collect();
    assert_eq!(pages, ["meta", "sessions/12", "sessions/117", "nodes/0"]);
    let sizes: Vec<_> = contents
        .iter()
        .map(|content| (content.len(), Part::hash(content)))
        .collect();
    let expected = [
        (61, 5_699_373_192_129_078_820),
        (54, 336_513_201_602_675_749),
        (54, 17_791_432_982_439_682_101),
        (397, 12_282_301_507_267_425_463),
    ];
    assert_eq!(sizes, expected);
    // Version, page, transaction, one session: id, timeout, password, pod, last attach.
    let mut session = vec![
        1, 1, 12, 1, 0, 0, 0, 0, 0, 0, 0, 1, 11, 0, 0, 0, 0, 0, 0, 0, 0xa0, 0x1f,
    ];
    session.extend([1; 16]);
    session.extend([0; 8]);
    session.extend([1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(contents[1], session);
}

#[test]
fn damage_behind_the_checksum_never_panics() {
    let mut world = World::new();
    let owner = Origin {
        pod: PodId::new(7),
        number: 1,
    };
    world.run_from(Some(owner), REGISTER).unwrap();
    world.create_as("/e", "x", CreateMode::Ephemeral).unwrap();
    let mut stored = Stored::new();
    save(&mut world.machine, None, &mut stored);
    let (mut accepted, mut refused) = (0, 0);
    for page in stored.keys() {
        let content = Part::join(&stored[page]).unwrap();
        for place in 0..content.len() {
            for flip in [0x01, 0x40, 0xff] {
                let mut damaged = content.clone();
                damaged[place] ^= flip;
                let mut others = stored.clone();
                others.insert(*page, Part::split(&damaged));
                match load(&others) {
                    Ok(mut machine) => {
                        accepted += 1;
                        machine.state_hash();
                    }
                    Err(_) => refused += 1,
                }
            }
        }
    }
    assert!(
        accepted > 0 && refused > 0,
        "{accepted} accepted, {refused} refused"
    );
}

#[test]
fn pages_of_different_checkpoints_do_not_mix() {
    let mut world = rich();
    let mut stored = Stored::new();
    save(&mut world.machine, None, &mut stored);
    let before = stored.clone();
    let since = world.machine.last_zxid();
    world.set("/a/5", "x", -1).unwrap();
    world.run(Kind::CloseSession).unwrap();
    save(&mut world.machine, Some(since), &mut stored);
    let changed = stored.keys().filter(|page| stored[page] != before[page]);
    let changed: Vec<_> = changed
        .copied()
        .filter(|page| *page != PageId::Meta)
        .collect();
    assert!(changed.len() >= 2);
    for page in changed {
        let mut mixed = stored.clone();
        mixed.insert(page, before[&page].clone());
        assert_eq!(load(&mixed).unwrap_err(), LoadError::WrongPage(page));
    }
}

#[test]
fn pods_and_sessions_are_loaded_as_they_were() {
    let mut world = World::new();
    let pods = [PodId::new(7), PodId::new(8)];
    for pod in pods {
        let origin = |number| Some(Origin { pod, number });
        world.run_from(origin(1), REGISTER).unwrap();
    }
    let attach = Kind::AttachSession {
        timeout_ms: 9,
        password: PASSWORD,
    };
    let origin = Origin {
        pod: pods[0],
        number: 2,
    };
    world.run_from(Some(origin), attach).unwrap();
    let mut stored = Stored::new();
    save(&mut world.machine, None, &mut stored);
    let mut loaded = load(&stored).unwrap();
    assert_eq!(loaded.session(ALICE), world.machine.session(ALICE));
    assert!(loaded.pods().eq(world.machine.pods()));
    for time_ms in [POD_IDLE_MS, POD_IDLE_MS + 4_000, i64::MAX] {
        let idle = world.machine.idle_pods(time_ms);
        assert!(loaded.idle_pods(time_ms).eq(idle), "at {time_ms}");
    }
    let idle: Vec<_> = loaded.idle_pods(i64::MAX).collect();
    assert_eq!(idle, [(pods[1], 1)], "the other one has a session");
    // The counts of sessions go on from there.
    world.machine = std::mem::replace(&mut loaded, Machine::new(0));
    world.run(Kind::CloseSession).unwrap();
    assert_eq!(world.machine.idle_pods(i64::MAX).count(), 2);

    world.later_ms += 2 * POD_IDLE_MS;
    let (pod, last) = (pods[1], 1);
    world.run(Kind::ForgetPod { pod, last }).unwrap();
    let mut stored = Stored::new();
    save(&mut world.machine, None, &mut stored);
    let loaded = load(&stored).unwrap();
    assert_eq!(loaded.last_forgotten(), world.machine.last_zxid());
    assert_eq!(loaded.pods().count(), 1);
}

#[test]
fn an_ephemeral_node_has_a_session() {
    let mut world = rich();
    let zxid = world.machine.last_zxid();
    world.machine.sessions.remove(ALICE, zxid);
    let mut stored = Stored::new();
    save(&mut world.machine, None, &mut stored);
    let error = LoadError::Inconsistent("an ephemeral node without a session");
    assert_eq!(load(&stored).unwrap_err(), error);
}

#[test]
fn the_hash_covers_the_whole_state() {
    let mut hashes = vec![rich().machine.state_hash()];
    let mut changed = |kind: Kind| {
        let mut world = rich();
        world.machine.state_hash();
        world.later_ms += POD_IDLE_MS;
        world.run(kind).unwrap();
        hashes.push(world.machine.state_hash());
    };
    changed(Kind::Nothing);
    changed(Kind::Write(set("/a/1", "y", -1)));
    changed(Kind::Write(create("/z")));
    changed(Kind::CloseSession);
    let pod = PodId::new(7);
    changed(Kind::ForgetPod { pod, last: 1 });
    changed(Kind::AttachSession {
        timeout_ms: 1,
        password: PASSWORD,
    });
    let acl = vec![Acl::world(Perms::ALL), Acl::world(Perms::READ)];
    changed(Kind::Write(Op::SetAcl {
        path: "/a".to_owned(),
        acl,
        version: -1,
    }));
    let count = hashes.len();
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), count);
    assert_eq!(rich().machine.state_hash(), rich().machine.state_hash());
}
