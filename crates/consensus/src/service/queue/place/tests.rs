use super::super::tests::entry;
use super::*;
use crate::server::tests::start;

#[test]
fn keys_are_those_of_etcds_clients() {
    for (name, lease, expected) in [
        ("n", 0x0694_3bc4, "n/6943bc4"),
        ("", 1, "/1"),
        ("a/b", i64::MAX, "a/b/7fffffffffffffff"),
        ("n", -1, "n/-1"),
        ("n", i64::MIN, "n/-8000000000000000"),
    ] {
        assert_eq!(key(name.as_bytes(), lease), expected, "{name} {lease}");
    }
}

#[test]
fn a_queues_range_holds_its_keys_and_no_others() {
    let (start, end) = (prefix_of(b"n"), prefix_end(b"n"));
    let holds = |key: &[u8]| start[..] <= *key && *key < end[..];
    assert!(holds(&key(b"n", 1)) && holds(&key(b"n", -1)) && holds(b"n/\xff\xff"));
    assert!(!holds(b"n") && !holds(&key(b"n0", 1)) && !holds(&key(b"m", 1)));
}

/// What was written to the key after the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Later {
    Nothing,
    /// A later call with the same lease, which may have been answered.
    Call,
}

#[tokio::test]
async fn a_call_that_leaves_takes_nothing_from_others() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path()).await;
    let queues = node.queues();
    // How it was taken, whether an older key exists, what came later, and whether the key remains.
    type Case = (fn(i64) -> Taken, bool, Later, bool);
    let cases: [Case; 10] = [
        (|_| Taken::Created, false, Later::Nothing, false),
        (|_| Taken::Created, true, Later::Nothing, false),
        (|_| Taken::Created, false, Later::Call, true),
        (|_| Taken::Created, true, Later::Call, true),
        // An earlier call may have been told that it is the first.
        (|_| Taken::Again, false, Later::Nothing, true),
        (|_| Taken::Again, true, Later::Nothing, false),
        (|_| Taken::Again, true, Later::Call, true),
        (
            |revision| Taken::Unknown { seen: revision - 1 },
            false,
            Later::Nothing,
            true,
        ),
        (
            |revision| Taken::Unknown { seen: revision - 1 },
            true,
            Later::Nothing,
            false,
        ),
        // It was not taken, and the key is that of an earlier call.
        (
            |revision| Taken::Unknown { seen: revision },
            true,
            Later::Nothing,
            true,
        ),
    ];
    for (number, (taken, older, later, remains)) in cases.into_iter().enumerate() {
        let name = format!("n{number}");
        if older {
            queues.put(&format!("{name}/older")).await;
        }
        let key = format!("{name}/own");
        let revision = queues.put(&key).await;
        let place = Place {
            key: Bytes::from(key.clone()),
            lease: 1,
            is_own_lease: false,
            taken: taken(revision),
            header: queues.shared().header(revision),
        };
        if later == Later::Call {
            queues.put(&key).await;
        }
        queues.leave(name.as_bytes(), &place).await.unwrap();
        let case = format!("{:?}, older: {older}, later: {later:?}", place.taken);
        assert_eq!(queues.has(key.as_bytes()), remains, "{case}");
    }
    node.shutdown().await;
}

/// A client gives up a call and makes another one, and the first is applied last.
#[tokio::test]
async fn a_late_transaction_does_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path()).await;
    let queues = node.queues();
    let lease = queues.lease().await;
    let own = key(b"n", lease);
    for purpose in [Purpose::Lock, Purpose::Election] {
        let entry = Entry {
            purpose,
            value: "late".into(),
            ..entry("n", lease)
        };
        let seen = modified(queues.shared(), &own).unwrap();
        let late = take(&entry, &own, lease, seen);
        let call = queues.soon();
        queues.take_place(&entry, &call, || false).await.unwrap();
        let now = modified(queues.shared(), &own).unwrap();
        let late = queues.kv().txn(late, &call).await.unwrap();
        assert!(!late.get_ref().succeeded);
        assert_eq!(modified(queues.shared(), &own), Ok(now));
    }
    node.shutdown().await;
}
