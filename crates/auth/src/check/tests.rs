use std::collections::BTreeMap;

use synod_proto::consensus::v1::auth_command::Command;
use synod_proto::consensus::v1::{AuthRecord, RoleRecord, UserAdd, UserChangePassword, UserRecord};
use synod_proto::etcd::authpb::Permission;
use synod_proto::etcd::authpb::permission::Type;
use synod_proto::etcd::etcdserverpb::{
    AuthDisableRequest, AuthUserDeleteRequest, AuthUserGrantRoleRequest, Compare,
};

use super::*;

const REVISION: u64 = 10;

/// What a host says of leases: 7 has a key that alice may write and one that she may only read, 8
/// one that she may write, 9 none.
fn key_from(lease: i64, start: &[u8]) -> Result<Option<Bytes>, String> {
    let keys: &[&[u8]] = match lease {
        7 => &[b"r/1", b"rw/1"],
        8 => &[b"rw/2"],
        0 => return Err("zero is no lease".to_owned()),
        66 => return Err("the disk broke".to_owned()),
        _ => &[],
    };
    let found = keys.iter().find(|key| **key >= start);
    Ok(found.map(|key| Bytes::from_static(key)))
}

fn row(key: &str, value: &impl prost::Message) -> (Bytes, Bytes) {
    (
        Bytes::copy_from_slice(key.as_bytes()),
        value.encode_to_vec().into(),
    )
}

fn permission(kind: Type, key: &'static str, range_end: &'static str) -> Permission {
    Permission {
        perm_type: kind.into(),
        key: Bytes::from_static(key.as_bytes()),
        range_end: Bytes::from_static(range_end.as_bytes()),
    }
}

/// Root may do everything, alice a little, and bob has no role.
fn state(enabled: bool) -> AuthState {
    let user = |roles: &[&str]| UserRecord {
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        ..UserRecord::default()
    };
    let role = |permissions: &[Permission]| RoleRecord {
        permissions: permissions.to_vec(),
    };
    AuthState::load([
        row(
            "auth/record",
            &AuthRecord {
                enabled,
                revision: REVISION,
            },
        ),
        row("auth/user/root", &user(&["root"])),
        row("auth/user/alice", &user(&["reader", "writer"])),
        row("auth/user/bob", &user(&[])),
        row(
            "auth/role/reader",
            &role(&[
                permission(Type::Read, "r/", "r0"),
                permission(Type::Readwrite, "rw/", "rw0"),
            ]),
        ),
        row(
            "auth/role/writer",
            &role(&[
                permission(Type::Write, "w", ""),
                permission(Type::Write, "w/", "w0"),
            ]),
        ),
        row("auth/role/other", &RoleRecord::default()),
    ])
    .unwrap()
}

fn at(user: &str, revision: u64) -> Identity {
    Identity {
        user: user.into(),
        revision,
    }
}

fn named(user: &str) -> Identity {
    at(user, REVISION)
}

fn range(key: &'static str, range_end: &'static str) -> RangeRequest {
    RangeRequest {
        key: Bytes::from_static(key.as_bytes()),
        range_end: Bytes::from_static(range_end.as_bytes()),
        ..RangeRequest::default()
    }
}

fn put(key: &'static str, lease: i64, prev_kv: bool) -> PutRequest {
    PutRequest {
        key: Bytes::from_static(key.as_bytes()),
        lease,
        prev_kv,
        ..PutRequest::default()
    }
}

fn delete(key: &'static str, range_end: &'static str, prev_kv: bool) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: Bytes::from_static(key.as_bytes()),
        range_end: Bytes::from_static(range_end.as_bytes()),
        prev_kv,
    }
}

fn ops(requests: Vec<Request>) -> Vec<RequestOp> {
    let op = |request| RequestOp {
        request: Some(request),
    };
    requests.into_iter().map(op).collect()
}

fn then(requests: Vec<Request>) -> TxnRequest {
    TxnRequest {
        success: ops(requests),
        ..TxnRequest::default()
    }
}

fn denied(result: Result<(), CheckError<String>>) -> Result<(), AuthError> {
    result.map_err(|error| match error {
        CheckError::Denied(error) => error,
        CheckError::Host(error) => panic!("{error}"),
    })
}

/// Whether alice may, as seen by each kind of caller.
fn assert_keys(
    name: &str,
    may: bool,
    check: impl Fn(&AuthState, Option<&Identity>) -> Result<(), AuthError>,
) {
    let (on, off) = (state(true), state(false));
    let expected = if may {
        Ok(())
    } else {
        Err(AuthError::PermissionDenied)
    };
    assert_eq!(check(&on, Some(&named("alice"))), expected, "{name}");
    assert_eq!(
        check(&on, Some(&at("alice", REVISION + 1))),
        expected,
        "{name}: a member that is ahead"
    );
    assert_eq!(check(&on, Some(&named("root"))), Ok(()), "{name}: root");
    for (by, error) in [
        (None, AuthError::UserEmpty),
        (Some(at("alice", 0)), AuthError::UserEmpty),
        (Some(at("alice", REVISION - 1)), AuthError::OldRevision),
        (Some(named("nobody")), AuthError::PermissionDenied),
    ] {
        assert_eq!(check(&on, by.as_ref()), Err(error), "{name}: {by:?}");
    }
    for by in [None, Some(named("nobody")), Some(at("bob", 1))] {
        assert_eq!(
            check(&off, by.as_ref()),
            Ok(()),
            "{name}: not enforced, {by:?}"
        );
    }
}

#[test]
fn ranges() {
    for (key, range_end, may) in [
        ("r/1", "", true),
        ("r/", "r0", true),
        ("r/1", "r/5", true),
        ("rw/1", "", true),
        ("r/", "rw0", false),
        ("w", "", false),
        ("r0", "", false),
        ("r/", "\0", false),
        ("\0", "\0", false),
    ] {
        let request = range(key, range_end);
        assert_keys(&format!("range {key:?} {range_end:?}"), may, |state, by| {
            state.check_range(by, &request)
        });
    }
    let bob = state(true).check_range(Some(&named("bob")), &range("r/1", ""));
    assert_eq!(bob, Err(AuthError::PermissionDenied));
}

#[test]
fn old_roots_may_not_touch_keys() {
    let old = at("root", REVISION - 1);
    let checked = state(true).check_range(Some(&old), &range("r/1", ""));
    assert_eq!(checked, Err(AuthError::OldRevision));
}

#[test]
fn puts() {
    for (key, lease, prev_kv, may) in [
        ("w", 0, false, true),
        ("w/1", 0, false, true),
        ("rw/1", 0, true, true),
        ("w/1", 0, true, false),
        ("r/1", 0, false, false),
        ("w/1", 8, false, true),
        ("w/1", 9, false, true),
        ("w/1", 7, false, false),
        ("r/1", 8, false, false),
    ] {
        let request = put(key, lease, prev_kv);
        assert_keys(&format!("put {key} {lease} {prev_kv}"), may, |state, by| {
            denied(state.check_put(by, &request, &key_from))
        });
    }
}

#[test]
fn deletions() {
    for (key, range_end, prev_kv, may) in [
        ("w/", "w0", false, true),
        ("w/", "w0", true, false),
        ("rw/", "rw0", true, true),
        ("r/1", "", false, false),
        ("w", "w0", false, false),
        ("w/", "\0", false, false),
    ] {
        let request = delete(key, range_end, prev_kv);
        assert_keys(
            &format!("delete {key} {range_end} {prev_kv}"),
            may,
            |state, by| state.check_delete_range(by, &request),
        );
    }
}

fn compare(key: &'static str, range_end: &'static str) -> TxnRequest {
    TxnRequest {
        compare: vec![Compare {
            key: Bytes::from_static(key.as_bytes()),
            range_end: Bytes::from_static(range_end.as_bytes()),
            ..Compare::default()
        }],
        ..TxnRequest::default()
    }
}

fn or_else(requests: Vec<Request>) -> TxnRequest {
    TxnRequest {
        failure: ops(requests),
        ..TxnRequest::default()
    }
}

fn assert_txns(cases: Vec<(&str, TxnRequest, bool)>) {
    for (name, request, may) in cases {
        assert_keys(name, may, |state, by| {
            denied(state.check_txn(by, &request, &key_from))
        });
    }
}

#[test]
fn transactions() {
    use Request::{RequestDeleteRange as Delete, RequestPut as Put, RequestRange as Get};
    let empty_op = TxnRequest {
        success: vec![RequestOp::default()],
        ..TxnRequest::default()
    };
    assert_txns(vec![
        ("nothing", TxnRequest::default(), true),
        ("an empty op", empty_op, true),
        ("compare", compare("r/1", ""), true),
        ("compare a range", compare("r/1", "r0"), true),
        ("compare what may only be written", compare("w", ""), false),
        ("compare too much", compare("r/1", "\0"), false),
        ("get", then(vec![Get(range("r/1", ""))]), true),
        ("get w", then(vec![Get(range("w", ""))]), false),
        ("put", then(vec![Put(put("w", 8, false))]), true),
        (
            "put with another's lease",
            then(vec![Put(put("w", 7, false))]),
            false,
        ),
        ("put that reads", then(vec![Put(put("w", 0, true))]), false),
        (
            "delete",
            then(vec![Delete(delete("w/", "w0", false))]),
            true,
        ),
        (
            "delete that reads",
            then(vec![Delete(delete("w/", "w0", true))]),
            false,
        ),
        (
            "delete r",
            then(vec![Delete(delete("r/1", "", false))]),
            false,
        ),
        ("else put", or_else(vec![Put(put("w", 0, false))]), true),
        (
            "else put r",
            or_else(vec![Put(put("r/1", 0, false))]),
            false,
        ),
    ]);
}

#[test]
fn every_operation_of_a_transaction_is_looked_at() {
    use Request::{RequestPut as Put, RequestRange as Get, RequestTxn as Nested};
    let nested = |txn: TxnRequest| then(vec![Nested(then(vec![Nested(txn)]))]);
    let two = |first, second| then(vec![Put(put(first, 0, false)), Put(put(second, 0, false))]);
    assert_txns(vec![
        ("two", two("w", "w/1"), true),
        ("the first of two", two("r/1", "w"), false),
        ("the second of two", two("w", "r/1"), false),
        (
            "nested put",
            nested(then(vec![Put(put("w", 0, false))])),
            true,
        ),
        (
            "nested put r",
            nested(then(vec![Put(put("r/1", 0, false))])),
            false,
        ),
        ("nested compare", nested(compare("w", "")), false),
        (
            "nested else",
            nested(or_else(vec![Get(range("w", ""))])),
            false,
        ),
    ]);
}

#[test]
fn watches() {
    for (key, range_end, may) in [
        ("r/", "r0", true),
        ("r/1", "", true),
        ("w", "", false),
        ("", "", false),
        ("", "\0", false),
        ("r/", "\0", false),
    ] {
        let request = WatchCreateRequest {
            key: Bytes::from_static(key.as_bytes()),
            range_end: Bytes::from_static(range_end.as_bytes()),
            ..WatchCreateRequest::default()
        };
        assert_keys(&format!("watch {key:?} {range_end:?}"), may, |state, by| {
            state.check_watch(by, &request)
        });
    }
    // Without a key a watch begins at the smallest one.
    let mut rows: BTreeMap<_, _> = [
        row(
            "auth/record",
            &AuthRecord {
                enabled: true,
                revision: REVISION,
            },
        ),
        row(
            "auth/user/carol",
            &UserRecord {
                roles: vec!["all".to_owned()],
                ..UserRecord::default()
            },
        ),
    ]
    .into();
    let all = RoleRecord {
        permissions: vec![permission(Type::Read, "\0", "\0")],
    };
    rows.extend([row("auth/role/all", &all)]);
    let state = AuthState::load(rows).unwrap();
    let everything = WatchCreateRequest {
        range_end: Bytes::from_static(b"\0"),
        ..WatchCreateRequest::default()
    };
    assert_eq!(
        state.check_watch(Some(&named("carol")), &everything),
        Ok(())
    );
    assert_eq!(
        state.check_watch(Some(&named("carol")), &WatchCreateRequest::default()),
        Ok(())
    );
}

#[test]
fn leases_are_kept_and_ended_by_who_may_write_their_keys() {
    for (lease, may) in [(7, false), (8, true), (9, true), (0, true)] {
        assert_keys(&format!("lease {lease}"), may, |state, by| {
            denied(state.check_lease(by, lease, &key_from))
        });
    }
    let old = at("root", 1);
    assert_eq!(
        state(true).check_lease(Some(&old), 7, &key_from),
        Ok(()),
        "as in etcd"
    );
}

#[test]
fn the_keys_of_a_lease_are_for_who_may_read_them() {
    let state = state(true);
    let (alice, bob) = (named("alice"), named("bob"));
    let check = |by: Option<&Identity>, lease, with_keys| {
        denied(state.check_time_to_live(by, lease, with_keys, &key_from))
    };
    assert_eq!(check(Some(&alice), 7, true), Ok(()));
    assert_eq!(check(Some(&bob), 7, true), Err(AuthError::PermissionDenied));
    assert_eq!(check(Some(&bob), 7, false), Ok(()));
    assert_eq!(check(Some(&bob), 9, true), Ok(()), "it has none");
    assert_eq!(check(Some(&at("bob", 1)), 7, false), Ok(()), "as in etcd");
    assert_eq!(
        check(Some(&at("alice", 1)), 7, true),
        Err(AuthError::OldRevision)
    );
    assert_eq!(check(Some(&at("root", 1)), 7, true), Ok(()));
    assert_eq!(check(None, 7, false), Err(AuthError::UserEmpty));
    let all = |by: Option<&Identity>, leases: &[i64]| {
        denied(state.check_leases(by, leases.to_vec(), &key_from))
    };
    assert_eq!(all(Some(&alice), &[7, 8, 9]), Ok(()));
    assert_eq!(all(Some(&bob), &[9]), Ok(()));
    assert_eq!(all(Some(&bob), &[9, 8]), Err(AuthError::PermissionDenied));
    assert_eq!(all(Some(&named("root")), &[66]), Ok(()), "nobody looks");
    assert_eq!(all(None, &[]), Err(AuthError::UserEmpty));
    assert_eq!(all(Some(&at("alice", 1)), &[]), Err(AuthError::OldRevision));
}

#[test]
fn the_hosts_failure_is_no_denial() {
    let state = state(true);
    let alice = named("alice");
    let failed = Err(CheckError::Host("the disk broke".to_owned()));
    assert_eq!(state.check_lease(Some(&alice), 66, &key_from), failed);
    assert_eq!(
        state.check_put(Some(&alice), &put("w", 66, false), &key_from),
        failed
    );
    assert_eq!(
        state.check_put(Some(&named("root")), &put("w", 66, false), &key_from),
        Ok(())
    );
    assert_eq!(
        state.check_time_to_live(Some(&alice), 66, true, &key_from),
        failed
    );
}

#[test]
fn what_only_root_may() {
    let (on, off) = (state(true), state(false));
    for (by, expected) in [
        (Some(named("root")), Ok(())),
        (Some(at("root", 1)), Ok(())),
        (Some(named("alice")), Err(AuthError::PermissionDenied)),
        (Some(named("nobody")), Err(AuthError::UserNotFound)),
        (Some(named("")), Err(AuthError::UserEmpty)),
        (None, Err(AuthError::UserEmpty)),
    ] {
        assert_eq!(on.check_root(by.as_ref()), expected, "{by:?}");
        assert_eq!(off.check_root(by.as_ref()), Ok(()), "{by:?}");
    }
}

#[test]
fn alarms_are_seen_by_all_and_set_by_root() {
    let state = state(true);
    let alarm = |action: AlarmAction| AlarmRequest {
        action: action.into(),
        ..AlarmRequest::default()
    };
    let (root, alice) = (named("root"), named("alice"));
    for action in [AlarmAction::Activate, AlarmAction::Deactivate] {
        assert_eq!(state.check_alarm(Some(&root), &alarm(action)), Ok(()));
        assert_eq!(
            state.check_alarm(Some(&alice), &alarm(action)),
            Err(AuthError::PermissionDenied)
        );
        assert_eq!(
            state.check_alarm(None, &alarm(action)),
            Err(AuthError::UserEmpty)
        );
    }
    assert_eq!(
        state.check_alarm(Some(&alice), &alarm(AlarmAction::Get)),
        Ok(())
    );
    assert_eq!(
        state.check_alarm(None, &alarm(AlarmAction::Get)),
        Err(AuthError::UserEmpty)
    );
    let unknown = AlarmRequest {
        action: 99,
        ..AlarmRequest::default()
    };
    assert_eq!(
        state.check_alarm(Some(&alice), &unknown),
        Err(AuthError::PermissionDenied)
    );
}

#[test]
fn everybody_may_look_at_themselves() {
    let state = state(true);
    let (root, alice) = (named("root"), named("alice"));
    assert_eq!(state.check_user_get(Some(&root), "alice"), Ok(()));
    assert_eq!(state.check_user_get(Some(&alice), "alice"), Ok(()));
    assert_eq!(
        state.check_user_get(Some(&alice), "bob"),
        Err(AuthError::PermissionDenied)
    );
    assert_eq!(
        state.check_user_get(None, "alice"),
        Err(AuthError::UserEmpty)
    );
    assert_eq!(
        state.check_user_get(Some(&named("")), ""),
        Err(AuthError::UserEmpty)
    );
    assert_eq!(state.check_role_get(Some(&root), "other"), Ok(()));
    assert_eq!(state.check_role_get(Some(&alice), "reader"), Ok(()));
    assert_eq!(
        state.check_role_get(Some(&alice), "other"),
        Err(AuthError::PermissionDenied)
    );
    assert_eq!(
        state.check_role_get(Some(&named("nobody")), "reader"),
        Err(AuthError::UserNotFound)
    );
    assert_eq!(
        state.check_role_get(None, "reader"),
        Err(AuthError::UserEmpty)
    );
}

#[test]
fn what_any_user_may_needs_a_user() {
    let (on, off) = (state(true), state(false));
    assert_eq!(on.check_authenticated(Some(&at("bob", 1))), Ok(()));
    assert_eq!(on.check_authenticated(None), Err(AuthError::UserEmpty));
    for nobody in ["nobody", ""] {
        let refused = on.check_authenticated(Some(&named(nobody)));
        let expected = match nobody {
            "" => AuthError::UserEmpty,
            _ => AuthError::PermissionDenied,
        };
        assert_eq!(refused, Err(expected), "{nobody}");
    }
    assert_eq!(off.check_authenticated(None), Ok(()));
}

#[test]
fn a_transaction_checks_each_lease_once() {
    let state = state(true);
    let asked = std::cell::RefCell::new(Vec::new());
    let key_from = |lease, start: &[u8]| {
        asked.borrow_mut().push(lease);
        key_from(lease, start)
    };
    let put = |lease| RequestOp {
        request: Some(Request::RequestPut(put("w", lease, false))),
    };
    let nested = TxnRequest {
        success: vec![put(8), put(9)],
        ..TxnRequest::default()
    };
    let nested = RequestOp {
        request: Some(Request::RequestTxn(nested)),
    };
    let request = |success| TxnRequest {
        success,
        failure: vec![put(9), put(8)],
        ..TxnRequest::default()
    };
    let alice = named("alice");
    let check = |request| state.check_txn(Some(&alice), &request, &key_from);
    assert_eq!(check(request(vec![put(8)])), Ok(()));
    let once = asked.take();
    assert_eq!(
        check(request(vec![put(8), put(9), put(8), put(9), nested])),
        Ok(())
    );
    assert_eq!(asked.take(), once);
    // A second lease is still checked.
    let denied = Err(CheckError::Denied(AuthError::PermissionDenied));
    assert_eq!(check(request(vec![put(8), put(7)])), denied);
}

#[test]
fn an_identity_older_than_the_password_is_refused() {
    let mut state = state(true);
    let root = named("root");
    let mut change = |command| state.apply(Some(&root), &command).unwrap();
    change(Command::UserChangePassword(UserChangePassword {
        name: "bob".to_owned(),
        password_hash: Bytes::from_static(b"hash"),
    }));
    change(Command::UserDelete(AuthUserDeleteRequest {
        name: "alice".to_owned(),
    }));
    change(Command::UserAdd(UserAdd {
        name: "alice".to_owned(),
        ..UserAdd::default()
    }));
    for user in ["alice", "bob"] {
        change(Command::UserGrantRole(AuthUserGrantRoleRequest {
            user: user.to_owned(),
            role: "root".to_owned(),
        }));
    }
    for (user, since) in [("alice", REVISION + 3), ("bob", REVISION + 1)] {
        let (old, new) = (at(user, since - 1), at(user, since));
        for (by, expected) in [(&old, Err(AuthError::OldRevision)), (&new, Ok(()))] {
            assert_eq!(state.check_root(Some(by)), expected, "{by:?}");
            assert_eq!(state.check_authenticated(Some(by)), expected, "{by:?}");
            assert_eq!(state.check_user_get(Some(by), user), expected, "{by:?}");
            assert_eq!(state.check_role_get(Some(by), "root"), expected, "{by:?}");
            let lease = state.check_lease(Some(by), 7, &key_from);
            assert_eq!(denied(lease), expected, "{by:?}");
        }
    }
}

#[test]
fn a_disabled_state_checks_nothing_any_more() {
    let mut state = state(true);
    let disable = Command::Disable(AuthDisableRequest {});
    assert_eq!(
        state.apply(Some(&named("alice")), &disable),
        Err(AuthError::PermissionDenied)
    );
    assert!(state.apply(Some(&named("root")), &disable).is_ok());
    assert_eq!(state.check_range(None, &range("w", "")), Ok(()));
}

#[test]
fn rows_that_cannot_be_read_are_damage() {
    for (key, value) in [
        ("auth/user/alice", &b"\xff"[..]),
        ("auth/role/reader", b"\xff"),
        ("auth/record", b"\xff"),
        ("auth/unknown", b""),
        ("other", b""),
    ] {
        let rows = [(
            Bytes::from_static(key.as_bytes()),
            Bytes::from_static(value),
        )];
        let error = AuthState::load(rows).unwrap_err().to_string();
        assert_eq!(
            error,
            format!("the row {key} of users and roles can't be decoded")
        );
    }
    let bad_name = [(Bytes::from_static(b"auth/user/\xff"), Bytes::new())];
    assert!(AuthState::load(bad_name).is_err());
}
