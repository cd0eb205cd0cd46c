//! A fixed corpus of requests and log entries, whole and damaged: the checks refuse a request or
//! the state machine applies it, and no entry stops the machine.

use prost::Message;
use synod_proto::consensus::v1::auth_command::Command as Change;
use synod_proto::consensus::v1::{AuthCommand, LeaseRevoke, Requester};
use synod_proto::etcd::authpb;
use synod_proto::etcd::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use synod_proto::etcd::etcdserverpb::request_op::Request;

use super::*;
use crate::convert::{check_delete, check_put, check_range, check_range_stream, check_txn};

const MAX_OPS: usize = 8;

fn range() -> pb::RangeRequest {
    pb::RangeRequest {
        key: Bytes::from_static(b"a"),
        range_end: Bytes::from_static(b"m"),
        limit: 3,
        revision: 2,
        sort_order: 1,
        sort_target: 3,
        min_mod_revision: 1,
        max_create_revision: i64::MAX,
        ..Default::default()
    }
}

fn delete() -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest {
        key: Bytes::from_static(b"k"),
        range_end: Bytes::from_static(&[0]),
        prev_kv: true,
    }
}

fn txn() -> pb::TxnRequest {
    let op = |request| pb::RequestOp {
        request: Some(request),
    };
    let Kind::Put(put) = put("k", 5) else {
        unreachable!()
    };
    let inner = pb::TxnRequest {
        success: vec![op(Request::RequestDeleteRange(delete()))],
        ..Default::default()
    };
    pb::TxnRequest {
        compare: vec![pb::Compare {
            result: CompareResult::NotEqual.into(),
            target: CompareTarget::Version.into(),
            key: Bytes::from_static(b"k"),
            range_end: Bytes::from_static(b"l"),
            target_union: Some(TargetUnion::Version(7)),
        }],
        success: vec![
            op(Request::RequestRange(range())),
            op(Request::RequestTxn(inner)),
        ],
        failure: vec![op(Request::RequestPut(put))],
    }
}

/// The message itself, every beginning of it, and with each byte replaced by some others.
fn damaged(message: &impl Message, mut visit: impl FnMut(&[u8])) {
    let wire = message.encode_to_vec();
    for length in 0..=wire.len() {
        visit(&wire[..length]);
    }
    let mut copy = wire.clone();
    for at in 0..wire.len() {
        for byte in [
            0,
            1,
            0x0a,
            0x12,
            0x7f,
            0x80,
            0xff,
            wire[at] ^ 1,
            wire[at] ^ 0x80,
        ] {
            copy[at] = byte;
            visit(&copy);
        }
        copy[at] = wire[at];
    }
}

/// Applies entries. Each has an outcome, and the machine goes on.
fn apply_all(fixture: &mut Fixture, mut entries: Vec<Entry>) {
    let mut left = entries.len();
    while left > 0 {
        let (rest, outcomes) = fixture.apply(entries).unwrap();
        assert!(!outcomes.is_empty(), "a call applies something");
        left -= outcomes.len();
        assert_eq!(rest.len(), left);
        entries = rest;
    }
}

/// Checks damaged forms of a request as the service does, and applies those that pass.
fn check_and_apply<R: Message + Default>(
    request: &R,
    check: impl Fn(&R) -> bool,
    kind: impl Fn(R) -> Kind,
) {
    let mut fixture = Fixture::new();
    let (mut passed, mut refused) = (Vec::new(), 0);
    damaged(request, |wire| match R::decode(wire) {
        Ok(request) if check(&request) => passed.push(fixture.command(kind(request))),
        Ok(_) | Err(_) => refused += 1,
    });
    assert!(passed.len() > 10 && refused > 10, "both occur");
    apply_all(&mut fixture, passed);
}

#[test]
fn a_request_is_refused_or_can_be_applied() {
    let Kind::Put(put) = put("k", 5) else {
        unreachable!()
    };
    check_and_apply(&put, |put| check_put(put).is_ok(), Kind::Put);
    check_and_apply(
        &delete(),
        |delete| check_delete(delete).is_ok(),
        Kind::DeleteRange,
    );
    check_and_apply(&txn(), |txn| check_txn(txn, MAX_OPS).is_ok(), Kind::Txn);
}

#[test]
fn a_range_is_refused_or_can_be_read() {
    let mut fixture = Fixture::new();
    let puts = ["a", "b", "c", "k"].map(|key| fixture.command(put(key, 10)));
    apply_all(&mut fixture, puts.into());
    let view = fixture.machine.view.reader().view();
    let mut read = 0;
    damaged(&range(), |wire| {
        let Ok(request) = pb::RangeRequest::decode(wire) else {
            return;
        };
        let _either = check_range_stream(&request);
        if check_range(&request).is_ok() {
            read += usize::from(view.range(&crate::convert::range_query(&request)).is_ok());
        }
    });
    assert!(read > 10);
}

/// Except one that raises the feature level above the machine's, on purpose.
#[test]
fn no_entry_stops_the_machine() {
    let auth = |change| {
        Kind::Auth(AuthCommand {
            command: Some(change),
        })
    };
    let grant = pb::AuthRoleGrantPermissionRequest {
        name: "role".to_owned(),
        perm: Some(authpb::Permission {
            perm_type: 2,
            key: Bytes::from_static(b"k"),
            range_end: Bytes::from_static(b"l"),
        }),
    };
    let role = pb::AuthRoleAddRequest {
        name: "role".to_owned(),
    };
    let kinds = [
        put("k", 5),
        Kind::DeleteRange(delete()),
        Kind::Txn(txn()),
        Kind::Compact(pb::CompactionRequest {
            revision: 3,
            physical: true,
        }),
        Kind::LeaseGrant(pb::LeaseGrantRequest { ttl: 5, id: 9 }),
        Kind::LeaseRevoke(LeaseRevoke {
            ids: vec![9, 10],
            ..Default::default()
        }),
        Kind::Alarm(pb::AlarmRequest {
            action: 1,
            member_id: MEMBER.get(),
            alarm: 1,
        }),
        auth(Change::RoleAdd(role)),
        auth(Change::RoleGrantPermission(grant)),
    ];
    for kind in kinds {
        let mut fixture = Fixture::new();
        let command = Command {
            command: Some(kind),
            requester: Some(Requester {
                user: "root".to_owned(),
                auth_revision: 1,
                member: false,
            }),
        };
        let mut entries = Vec::new();
        damaged(&command, |wire| {
            let data = Bytes::copy_from_slice(wire);
            entries.push(fixture.entry(EntryKind::Normal, data));
        });
        apply_all(&mut fixture, entries);
    }
}
