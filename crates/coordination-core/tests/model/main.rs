//! Random commands on the machine and on a naive model of ZooKeeper's tree: paths in a map, and a
//! copy of everything to undo a multi. Replies, stats, events, and what pods that load checkpoints
//! compute must be equal.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod naive;

use std::collections::BTreeMap;

use naive::Naive;
use proptest::prelude::*;
use synod_coordination_core::{
    Acl, Applied, Command, CreateMode, EventKind, Id, Kind, Loader, Machine, Op, PageId, Password,
    Perms, Refused, SessionId, Zxid,
};

type Stored = BTreeMap<PageId, Vec<Vec<u8>>>;

const SESSIONS: i64 = 3;

fn id(name: &str) -> Id {
    Id::new("digest", &format!("{name}:hash"))
}

/// Few names, so that commands meet. Some paths are not valid.
fn path() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        8 => prop::sample::select(vec!["a", "b", "c"]),
        1 => prop::sample::select(vec!["", ".", "é", "x\0", "zookeeper"]),
    ];
    let names = prop::collection::vec(name, 0..4);
    prop_oneof![
        9 => names.clone().prop_map(|names| format!("/{}", names.join("/"))),
        1 => names.prop_map(|names| names.join("/")),
    ]
}

fn data() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop_oneof![
        1 => Just(None),
        8 => (0..50_usize).prop_map(|len| Some(vec![7; len])),
        1 => (0..70_000_usize).prop_map(|len| Some(vec![8; len])),
    ]
}

fn acl() -> impl Strategy<Value = Vec<Acl>> {
    let granted = |perms, name| {
        vec![Acl {
            perms,
            id: id(name),
        }]
    };
    prop_oneof![
        8 => Just(Acl::open()),
        1 => Just(vec![Acl::world(Perms::READ), Acl { perms: Perms::ALL, id: id("alice") }]),
        1 => Just(granted(Perms::ALL, "alice")),
        1 => (0..32).prop_map(move |bits| granted(Perms::new(bits), "bob")),
        1 => Just(vec![Acl { perms: Perms::ALL, id: Id::new("auth", "") }]),
        1 => Just(Vec::new()),
    ]
}

fn version() -> impl Strategy<Value = i32> {
    prop_oneof![3 => Just(-1), 2 => 0..3]
}

fn op() -> impl Strategy<Value = Op> {
    let mode = prop::sample::select(vec![
        (CreateMode::Persistent, -1),
        (CreateMode::Persistent, -1),
        (CreateMode::Persistent, 5),
        (CreateMode::PersistentSequential, -1),
        (CreateMode::Ephemeral, -1),
        (CreateMode::EphemeralSequential, -1),
        (CreateMode::Container, -1),
        (CreateMode::ContainerSequential, -1),
        (CreateMode::Ttl, 3),
        (CreateMode::Ttl, 0),
        (CreateMode::TtlSequential, 9),
    ]);
    prop_oneof![
        5 => (path(), data(), acl(), mode).prop_map(|(path, data, acl, (mode, ttl_ms))| {
            Op::Create { path, data, acl, mode, ttl_ms }
        }),
        3 => (path(), version()).prop_map(|(path, version)| Op::Delete { path, version }),
        3 => (path(), data(), version())
            .prop_map(|(path, data, version)| Op::SetData { path, data, version }),
        1 => (path(), acl(), version())
            .prop_map(|(path, acl, version)| Op::SetAcl { path, acl, version }),
        1 => (path(), version()).prop_map(|(path, version)| Op::Check { path, version }),
    ]
}

fn command() -> impl Strategy<Value = Command> {
    let password = Password::new([0; 16]);
    let kind = prop_oneof![
        12 => op().prop_map(Kind::Write),
        4 => prop::collection::vec(op(), 0..5).prop_map(Kind::Multi),
        2 => Just(Kind::CreateSession { timeout_ms: 1, password }),
        1 => Just(Kind::AttachSession { timeout_ms: 2, password }),
        1 => Just(Kind::CloseSession),
        1 => (1..9_i64).prop_map(|zxid| Kind::ExpireSession { attached: Zxid::new(zxid) }),
        2 => path().prop_map(|path| Kind::Reap { path }),
    ];
    let caller = prop::sample::select(vec![
        vec![],
        vec![id("alice")],
        vec![Id::new("ip", "10.0.0.1"), id("bob")],
        vec![Id::new("super", "")],
    ]);
    (1..=SESSIONS, caller, kind).prop_map(|(session, caller, kind)| Command {
        origin: None,
        session: SessionId::new(session),
        caller,
        kind,
    })
}

/// Opens all sessions, so that the other commands find them.
fn sessions() -> Vec<Command> {
    let sessions = (1..=SESSIONS).map(|session| Command {
        origin: None,
        session: SessionId::new(session),
        caller: Vec::new(),
        kind: Kind::CreateSession {
            timeout_ms: 1,
            password: Password::new([0; 16]),
        },
    });
    sessions.collect()
}

const MAX_COUNT: usize = 4;
const MAX_BYTES: usize = 50_000;

/// Limits what is below `/a`.
fn quota() -> Vec<Command> {
    let limits = format!("count=2,bytes=9=;byteHardLimit={MAX_BYTES};countHardLimit={MAX_COUNT}");
    let nodes = [
        ("/zookeeper/quota/a", String::new()),
        ("/zookeeper/quota/a/zookeeper_limits", limits),
        ("/zookeeper/quota/a/zookeeper_stats", String::new()),
    ];
    let commands = nodes.into_iter().map(|(path, data)| Command {
        origin: None,
        session: SessionId::new(1),
        caller: Vec::new(),
        kind: Kind::Write(Op::Create {
            path: path.to_owned(),
            data: Some(data.into_bytes()),
            acl: Acl::open(),
            mode: CreateMode::Persistent,
            ttl_ms: -1,
        }),
    });
    commands.collect()
}

/// The number of nodes from a path on, and their bytes.
fn usage(machine: &Machine, path: &str) -> (usize, usize) {
    let all = [Id::new("super", "")];
    let Ok((data, _)) = machine.get(path, &all) else {
        return (0, 0);
    };
    let (names, _) = machine.children(path, &all).unwrap();
    let own = (1, data.map_or(0, <[u8]>::len));
    names.fold(own, |(count, bytes), name| {
        let below = usage(machine, &format!("{path}/{name}"));
        (count + below.0, bytes + below.1)
    })
}

type Told = Vec<(EventKind, String, Vec<Acl>)>;

fn told(applied: &Applied, command: &Command) -> Told {
    let events = applied.events.iter();
    let told = events.map(|event| (event.kind, event.path.to_string(), event.acl.to_vec()));
    sorted(told.collect(), command)
}

/// In what order a closed session's nodes are deleted depends on their ids, which the model hasn't.
fn sorted(mut told: Told, command: &Command) -> Told {
    if matches!(
        command.kind,
        Kind::CloseSession | Kind::ExpireSession { .. }
    ) {
        told.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    }
    told
}

/// What the checkpoint that is being written still has to store.
fn drain(machine: &mut Machine, stored: &mut Stored) {
    while let Some(write) = machine.next_page() {
        if write.parts.is_empty() {
            stored.remove(&write.page);
        } else {
            stored.insert(write.page, write.parts);
        }
    }
}

fn load(stored: &Stored) -> Machine {
    let mut loader = Loader::new(5, &stored[&PageId::Meta]).unwrap();
    for (&page, parts) in stored.iter().filter(|(page, _)| **page != PageId::Meta) {
        loader.add(page, parts).unwrap();
    }
    loader.finish().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn the_machine_behaves_as_the_model(
        random in prop::collection::vec(command(), 1..120),
    ) {
        let commands = [sessions(), random].concat();
        let mut machine = Machine::new(1);
        let mut other = Machine::new(2);
        let mut naive = Naive::new();
        let (mut stored, mut since) = (Stored::new(), None);
        for (number, command) in (1..).zip(&commands) {
            let zxid = Zxid::new(number);
            // Start a checkpoint now and then, and finish it some commands later.
            if number % 20 == 7 {
                machine.start_checkpoint(since);
                since = Some(machine.last_zxid());
            }
            let applied = machine.apply(command, zxid, number);
            let decoded = Command::decode(&command.encode()).unwrap();
            prop_assert_eq!(&other.apply(&decoded, zxid, number), &applied);
            let (reply, events) = naive.apply(command, zxid, number);
            prop_assert_eq!(&applied.reply, &reply);
            prop_assert_eq!(told(&applied, command), sorted(events, command));
            if number % 20 == 12 {
                drain(&mut machine, &mut stored);
                let mut loaded = load(&stored);
                for (later, command) in (loaded.last_zxid().get() + 1..=number)
                    .map(|number| (number, &commands[usize::try_from(number - 1).unwrap()]))
                {
                    loaded.apply(command, Zxid::new(later), later);
                }
                prop_assert_eq!(loaded.state_hash(), machine.state_hash());
                // It takes the place of the other pod, with which it must agree from now on.
                other = loaded;
            }
        }
        prop_assert_eq!(machine.state_hash(), other.state_hash());
        naive.compare(&machine);
        naive.compare(&other);
    }

    #[test]
    fn a_quota_counts_what_is_there(random in prop::collection::vec(command(), 1..120)) {
        let mut machine = Machine::new(1);
        let commands = [sessions(), quota(), random].concat();
        for (number, command) in (1..).zip(&commands) {
            machine.apply(command, Zxid::new(number), number);
        }
        let (stats, _) = machine.get("/zookeeper/quota/a/zookeeper_stats", &[]).unwrap();
        let (count, bytes) = usage(&machine, "/a");
        let expected = format!("count={count},bytes={bytes}");
        prop_assert_eq!(std::str::from_utf8(stats.unwrap()).unwrap(), expected);
        prop_assert!(count <= MAX_COUNT && bytes <= MAX_BYTES);
    }

    #[test]
    fn commands_survive_their_encoding(command in command()) {
        prop_assert_eq!(Command::decode(&command.encode()).unwrap(), command);
    }

    #[test]
    fn random_bytes_are_no_commands(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(command) = Command::decode(&bytes) {
            prop_assert_eq!(command.encode(), bytes);
        }
    }
}

#[test]
fn the_model_refuses_too() {
    // A guard against a model that accepts whatever it is given.
    let mut naive = Naive::new();
    let kind = Kind::Write(Op::Delete {
        path: "/a".to_owned(),
        version: -1,
    });
    let command = Command {
        origin: None,
        session: SessionId::new(1),
        caller: Vec::new(),
        kind,
    };
    let (reply, events) = naive.apply(&command, Zxid::new(1), 1);
    assert!(matches!(reply, Err(Refused::Op(_))));
    assert!(events.is_empty());
}
