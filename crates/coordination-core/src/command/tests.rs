use super::*;
use crate::{DecodeError, Perms};

fn batch() -> Batch {
    let acl = vec![
        Acl::world(Perms::READ),
        Acl {
            perms: Perms::new(-1),
            id: Id::new("digest", "u:h"),
        },
    ];
    let create = |mode, data: Option<&[u8]>, ttl_ms| Op::Create {
        path: "/a/é".to_owned(),
        data: data.map(<[u8]>::to_vec),
        acl: acl.clone(),
        mode,
        ttl_ms,
    };
    let path = || "/a".to_owned();
    let ops = vec![
        create(CreateMode::Persistent, None, -1),
        create(CreateMode::PersistentSequential, Some(b""), i64::MIN),
        create(CreateMode::Ephemeral, Some(b"x"), i64::MAX),
        create(CreateMode::EphemeralSequential, Some(&[7; 300]), 0),
        create(CreateMode::Container, None, -1),
        create(CreateMode::Ttl, None, 1000),
        create(CreateMode::TtlSequential, None, 1),
        create(CreateMode::ContainerSequential, None, -1),
        Op::Delete {
            path: path(),
            version: i32::MIN,
        },
        Op::SetData {
            path: path(),
            data: Some(b"y".to_vec()),
            version: -1,
        },
        Op::SetAcl {
            path: String::new(),
            acl: Vec::new(),
            version: 0,
        },
        Op::Check {
            path: path(),
            version: i32::MAX,
        },
    ];
    let password = Password::new([9; 16]);
    let mut kinds: Vec<Kind> = ops.iter().cloned().map(Kind::Write).collect();
    kinds.extend([
        Kind::Multi(ops),
        Kind::Multi(Vec::new()),
        Kind::CreateSession {
            timeout_ms: u32::MAX,
            password,
        },
        Kind::AttachSession {
            timeout_ms: 0,
            password,
        },
        Kind::CloseSession,
        Kind::Reap { path: path() },
        Kind::SetConfig {
            data: b"server.1=a".to_vec(),
        },
        Kind::RegisterPod { seen: Zxid::new(9) },
        Kind::ForgetPod {
            pod: PodId::new(u64::MAX),
            last: 300,
        },
        Kind::ExpireSession {
            attached: Zxid::new(-2),
        },
        Kind::Nothing,
    ]);
    let commands = kinds.into_iter().zip(0..).map(|(kind, number)| Command {
        origin: (number % 2 == 0).then_some(Origin {
            pod: PodId::new(3),
            number,
        }),
        session: SessionId::new(if number % 3 == 0 { i64::MIN } else { 5 }),
        caller: vec![Id::new("ip", "127.0.0.1"); usize::try_from(number % 3).unwrap()],
        kind,
    });
    Batch {
        first: Zxid::new(1 << 32),
        time_ms: 1_700_000_000_000,
        commands: commands.collect(),
    }
}

#[test]
fn a_batch_survives_its_encoding() {
    let batch = batch();
    assert_eq!(Batch::decode(&batch.encode()), Ok(batch.clone()));
    for command in &batch.commands {
        assert_eq!(Command::decode(&command.encode()).as_ref(), Ok(command));
    }
}

#[test]
fn the_format_is_pinned() {
    let batch = Batch {
        first: Zxid::new(0x0102),
        time_ms: -1,
        commands: vec![Command {
            origin: Some(Origin {
                pod: PodId::new(7),
                number: 300,
            }),
            session: SessionId::new(-3),
            caller: vec![Id::new("ip", "1")],
            kind: Kind::Write(Op::Create {
                path: "/a".to_owned(),
                data: Some(b"d".to_vec()),
                acl: vec![Acl::world(Perms::ALL)],
                mode: CreateMode::Ephemeral,
                ttl_ms: -1,
            }),
        }],
    };
    let mut expected = vec![1, 2, 1, 0, 0, 0, 0, 0, 0];
    expected.extend([0xff; 8]);
    expected.extend([
        1, 1, 7, 0, 0, 0, 0, 0, 0, 0, 0xac, 2, 5, 1, 2, b'i', b'p', 1, b'1',
    ]);
    expected.extend([0, 1, 2, b'/', b'a', 2, b'd', 1, 31, 0, 0, 0]);
    expected.extend(b"\x05world\x06anyone\x01");
    assert_eq!(batch.encode(), expected);
}

#[test]
fn truncated_batches_are_refused() {
    let bytes = batch().encode();
    for len in 0..bytes.len() {
        assert!(Batch::decode(&bytes[..len]).is_err(), "{len} bytes");
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert_eq!(Batch::decode(&longer), Err(DecodeError::Trailing(1)));
    let mut newer = bytes;
    newer[0] = 2;
    assert_eq!(Batch::decode(&newer), Err(DecodeError::Version(2)));
}

#[test]
fn damage_never_panics() {
    let bytes = batch().encode();
    for place in 0..bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[place] ^= flip;
            if let Ok(batch) = Batch::decode(&damaged) {
                // What is accepted has one encoding.
                assert_eq!(batch.encode(), damaged, "byte {place}");
            }
        }
    }
}

#[test]
fn a_batch_has_transactions_for_all_commands() {
    let mut batch = batch();
    batch.first = Zxid::new(i64::MAX - 20);
    assert_eq!(
        Batch::decode(&batch.encode()),
        Err(DecodeError::Invalid("zxid"))
    );
}

#[test]
fn versions_wrap() {
    assert_eq!(next_version(i32::MAX, -1), Ok(i32::MIN));
    assert_eq!(next_version(i32::MAX, i32::MAX), Ok(i32::MIN));
    assert_eq!(next_version(-2, -2), Ok(-1));
    assert_eq!(next_version(-1, 0), Err(OpError::BadVersion));
}
