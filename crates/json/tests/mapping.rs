//! JSON text and messages of etcd's API, in both directions, against what Go's protojson does.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests may fail loudly"
)]

use std::fmt::Debug;
use std::sync::LazyLock;

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;
use synod_json::{MessageId, Schema, Writer};
use synod_proto::etcd::etcdserverpb as pb;
use synod_proto::etcd::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use synod_proto::etcd::mvccpb;
use synod_proto::http::PATHS;

static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    let methods = PATHS.iter().map(|(_, method)| *method);
    Schema::new(synod_proto::FILE_DESCRIPTOR_SET, methods).unwrap()
});

fn input(method: &str) -> MessageId {
    SCHEMA.method(method).unwrap().input
}

fn output(method: &str) -> MessageId {
    SCHEMA.method(method).unwrap().output
}

fn read(id: MessageId, json: &[u8]) -> Result<Vec<u8>, String> {
    let mut wire = Vec::new();
    let read = SCHEMA.to_wire(id, json, &mut wire);
    read.map(|()| wire).map_err(|error| error.to_string())
}

fn written(id: MessageId, wire: Bytes) -> Result<String, String> {
    let (mut text, mut writer) = (Vec::new(), Writer::new(id, wire));
    while !writer
        .write(&SCHEMA, text.len() + 1, &mut text)
        .map_err(|error| error.to_string())?
    {}
    Ok(String::from_utf8(text).unwrap())
}

const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";
const TXN: &str = "/etcdserverpb.KV/Txn";
const WATCH: &str = "/etcdserverpb.Watch/Watch";
const GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
const MEMBER_ADD: &str = "/etcdserverpb.Cluster/MemberAdd";
const STATUS: &str = "/etcdserverpb.Maintenance/Status";

#[track_caller]
fn reads<M: Message + Default + PartialEq + Debug>(method: &str, json: &str, expected: &M) {
    let wire = read(input(method), json.as_bytes());
    let wire = wire.unwrap_or_else(|error| panic!("{json}: {error}"));
    assert_eq!(&M::decode(&*wire).unwrap(), expected, "{json}");
}

fn put(key: &'static [u8], value: &'static [u8], lease: i64) -> pb::PutRequest {
    pb::PutRequest {
        key: Bytes::from_static(key),
        value: Bytes::from_static(value),
        lease,
        ..Default::default()
    }
}

#[test]
fn requests_are_read_as_grpc_gateway_reads_them() {
    for (json, message) in [
        ("", put(b"", b"", 0)),
        (" \r\n\t", put(b"", b"", 0)),
        ("{}", put(b"", b"", 0)),
        (r#"{"key":"Zm9v","value":"YmFy"}"#, put(b"foo", b"bar", 0)),
        // The order of fields is free.
        (r#" {"lease" : "7" , "key":"Zm9v"} "#, put(b"foo", b"", 7)),
        // Both alphabets, with and without padding, and with line breaks.
        (r#"{"key":"+/+/"}"#, put(b"\xfb\xff\xbf", b"", 0)),
        (r#"{"key":"-_-_"}"#, put(b"\xfb\xff\xbf", b"", 0)),
        (r#"{"key":"Zg=="}"#, put(b"f", b"", 0)),
        (r#"{"key":"Zg"}"#, put(b"f", b"", 0)),
        (r#"{"key":"Zh"}"#, put(b"f", b"", 0)),
        (r#"{"key":"Zm9v\nZm9v\r\nZm8"}"#, put(b"foofoofo", b"", 0)),
        (r#"{"key":"Zm9v"}"#, put(b"foo", b"", 0)),
        // 64-bit integers are text or numbers, with any spelling of a whole number.
        (r#"{"lease":9223372036854775807}"#, put(b"", b"", i64::MAX)),
        (
            r#"{"lease":"-9223372036854775808"}"#,
            put(b"", b"", i64::MIN),
        ),
        (r#"{"lease":1e3}"#, put(b"", b"", 1000)),
        (r#"{"lease":"1.0"}"#, put(b"", b"", 1)),
        (r#"{"lease":0}"#, put(b"", b"", 0)),
        // Unknown names, absent values, and what follows the first value.
        (r#"{"x":[{"y":1e999}],"lease":1}"#, put(b"", b"", 1)),
        (r#"{"key":null,"lease":1}"#, put(b"", b"", 1)),
        (r#"{"lease":1} {]"#, put(b"", b"", 1)),
        (r#"{"lease":1}}"#, put(b"", b"", 1)),
    ] {
        reads(PUT, json, &message);
    }
}

#[test]
fn names_enums_and_lists_have_several_spellings() {
    let sorted = pb::RangeRequest {
        sort_order: pb::range_request::SortOrder::Descend.into(),
        sort_target: pb::range_request::SortTarget::Mod.into(),
        keys_only: true,
        ..Default::default()
    };
    for json in [
        r#"{"sort_order":"DESCEND","sort_target":"MOD","keys_only":true}"#,
        r#"{"sortOrder":2,"sortTarget":3,"keysOnly":true}"#,
        r#"{"sort\u004frder":"DESC\u0045ND","sort_target":3.0,"keys_only":true}"#,
    ] {
        reads(RANGE, json, &sorted);
    }
    // A value that the enum does not have is skipped, a number is taken.
    reads(
        RANGE,
        r#"{"sort_order":"NOPE"}"#,
        &pb::RangeRequest::default(),
    );
    let unknown = pb::RangeRequest {
        sort_order: 77,
        ..Default::default()
    };
    reads(RANGE, r#"{"sort_order":77}"#, &unknown);
    let filters = |filters| pb::WatchRequest {
        request_union: Some(pb::watch_request::RequestUnion::CreateRequest(
            pb::WatchCreateRequest {
                filters,
                ..Default::default()
            },
        )),
    };
    for (json, expected) in [
        (r#"["NODELETE",0,"NOPE",1]"#, vec![1, 0, 1]),
        ("[]", vec![]),
        ("null", vec![]),
        (r#"["NOPE"]"#, vec![]),
    ] {
        let json = format!(r#"{{"create_request":{{"filters":{json}}}}}"#);
        reads(WATCH, &json, &filters(expected));
    }
    let member = pb::MemberAddRequest {
        peer_urls: vec!["http://a:1".to_owned(), "é\n😀".to_owned()],
        is_learner: true,
    };
    let json = r#"{"peerURLs":["http:\/\/a:1","\u00e9\n\ud83d\ude00"],"isLearner":true}"#;
    reads(MEMBER_ADD, json, &member);
    reads(
        GRANT,
        r#"{"TTL":"5","ID":6}"#,
        &pb::LeaseGrantRequest { ttl: 5, id: 6 },
    );
}

#[test]
fn transactions_nest_and_know_which_field_of_several_is_set() {
    let compare = |target, union| pb::Compare {
        result: CompareResult::Equal.into(),
        target: i32::from(target),
        key: Bytes::from_static(b"a"),
        range_end: Bytes::new(),
        target_union: union,
    };
    let inner = pb::TxnRequest {
        compare: vec![compare(
            CompareTarget::Version,
            Some(TargetUnion::Version(0)),
        )],
        ..Default::default()
    };
    let op = |request| pb::RequestOp {
        request: Some(request),
    };
    let expected = pb::TxnRequest {
        compare: vec![
            compare(CompareTarget::Version, None),
            compare(CompareTarget::Value, Some(TargetUnion::Value(Bytes::new()))),
        ],
        success: vec![
            op(pb::request_op::Request::RequestPut(put(b"a", b"1", 0))),
            op(pb::request_op::Request::RequestTxn(inner)),
        ],
        failure: vec![pb::RequestOp { request: None }],
    };
    let json = r#"{
        "compare": [{"key": "YQ==", "version": null}, {"key": "YQ==", "target": "VALUE", "value": ""}],
        "success": [
            {"request_put": {"key": "YQ==", "value": "MQ=="}},
            {"requestTxn": {"compare": [{"key": "YQ==", "version": "0"}]}}
        ],
        "failure": [{}]
    }"#;
    reads(TXN, json, &expected);
}

#[test]
fn what_is_not_the_message_is_refused() {
    let deep = format!(
        "{}{}",
        r#"{"x":"#.repeat(200),
        "1".to_owned() + &"}".repeat(200)
    );
    let deep_txn = r#"{"success":[{"request_txn":"#.repeat(60);
    for (method, json, reason) in [
        (PUT, "null", "null"),
        (PUT, "[]", "expected an object"),
        (PUT, "7", "expected an object"),
        (PUT, r#""text""#, "expected an object"),
        (PUT, "{", "unexpected end"),
        (PUT, r#"{"key":"Zm9v""#, "unexpected end"),
        (PUT, r#"{"key""#, "unexpected end"),
        (PUT, "{'key':1}", "line 1 column 2"),
        (PUT, r#"{"key":}"#, "line 1"),
        (PUT, r#"{"key":"Zm9v",}"#, "line 1"),
        (PUT, r#"{"key":"Zm9v" "value":""}"#, "line 1"),
        (PUT, "{\"key\":\"a\u{1}\"}", "line 1"),
        (PUT, r#"{"key":"%%"}"#, r#"field "key": "%%""#),
        (PUT, r#"{"key":"Zg="}"#, "field \"key\""),
        (PUT, r#"{"key":"Z"}"#, "field \"key\""),
        (PUT, r#"{"key":"+_+_"}"#, "field \"key\""),
        (PUT, r#"{"key":"===="}"#, "field \"key\""),
        (PUT, r#"{"key":1}"#, "field \"key\": 1"),
        (PUT, r#"{"key":true}"#, "field \"key\""),
        (PUT, r#"{"key":["YQ=="]}"#, "field \"key\""),
        (PUT, r#"{"key":{}}"#, "field \"key\""),
        (
            PUT,
            r#"{"key":"YQ==","key":"YQ=="}"#,
            r#"duplicate field "key""#,
        ),
        (
            PUT,
            r#"{"key":null,"key":"YQ=="}"#,
            r#"duplicate field "key""#,
        ),
        (
            PUT,
            r#"{"prev_kv":true,"prevKv":true}"#,
            r#"duplicate field "prev_kv""#,
        ),
        (PUT, r#"{"lease":9223372036854775808}"#, "field \"lease\""),
        (PUT, r#"{"lease":1.5}"#, "field \"lease\""),
        (PUT, r#"{"lease":" 1"}"#, "field \"lease\""),
        (PUT, r#"{"lease":"0x1"}"#, "field \"lease\""),
        (PUT, r#"{"lease":""}"#, "field \"lease\""),
        (PUT, r#"{"lease":01}"#, "line 1"),
        (PUT, r#"{"lease":true}"#, "field \"lease\""),
        (PUT, r#"{"prev_kv":"true"}"#, "field \"prev_kv\""),
        (PUT, r#"{"prev_kv":1}"#, "field \"prev_kv\""),
        (
            RANGE,
            r#"{"sort_order":2147483648}"#,
            "field \"sort_order\"",
        ),
        (RANGE, r#"{"sort_order":1.5}"#, "field \"sort_order\""),
        (RANGE, r#"{"sort_order":true}"#, "field \"sort_order\""),
        (
            MEMBER_ADD,
            r#"{"peerURLs":"a"}"#,
            "an array for field peerURLs",
        ),
        (
            MEMBER_ADD,
            r#"{"peerURLs":[null]}"#,
            "field \"peerURLs\": null",
        ),
        (
            MEMBER_ADD,
            r#"{"peerURLs":["\ud800"]}"#,
            "field \"peerURLs\"",
        ),
        (TXN, r#"{"compare":[null]}"#, "expected an object"),
        (TXN, r#"{"compare":{}}"#, "an array for field compare"),
        (
            TXN,
            r#"{"compare":[{"version":1,"value":""}]}"#,
            r#"field "value" is one of several"#,
        ),
        (TXN, &deep_txn, "recursion limit"),
    ] {
        let error = read(input(method), json.as_bytes()).expect_err(json);
        assert!(error.contains(reason), "{json}: {error}");
    }
    // What is skipped is not limited in depth, but is read without recursion.
    assert!(read(input(PUT), deep.as_bytes()).is_ok());
    for bytes in [&b"{\"key\":\"\xff\"}"[..], b"{\"\xff\":1}", b"\xff", b"\0"] {
        assert!(read(input(PUT), bytes).is_err(), "{bytes:?}");
    }
}

fn header() -> pb::ResponseHeader {
    pb::ResponseHeader {
        cluster_id: u64::MAX,
        member_id: 1,
        revision: 2,
        raft_term: 0,
    }
}

const HEADER: &str =
    r#""header":{"cluster_id":"18446744073709551615","member_id":"1","revision":"2"}"#;

#[track_caller]
fn writes(method: &str, message: &impl Message, expected: &str) {
    let wire = Bytes::from(message.encode_to_vec());
    let text = written(output(method), wire).unwrap();
    assert_eq!(text, expected);
}

#[test]
fn responses_are_written_as_grpc_gateway_writes_them() {
    writes(PUT, &pb::PutResponse::default(), "{}");
    let header = Some(header());
    let empty = pb::PutResponse {
        header: Some(pb::ResponseHeader::default()),
        ..Default::default()
    };
    writes(PUT, &empty, r#"{"header":{}}"#);
    let kv = |key: &'static [u8], lease| {
        let kv = mvccpb::KeyValue {
            key: Bytes::from_static(key),
            create_revision: 3,
            mod_revision: 4,
            version: 0,
            value: Bytes::from_static(b"\xfb\xff"),
            lease,
        };
        Bytes::from(kv.encode_to_vec())
    };
    let range = pb::RangeResponse {
        header,
        kvs: vec![kv(b"a", 0), kv(b"", -1)],
        more: true,
        count: 2,
    };
    let kvs = concat!(
        r#""kvs":[{"key":"YQ==","create_revision":"3","mod_revision":"4","value":"+/8="},"#,
        r#"{"create_revision":"3","mod_revision":"4","value":"+/8=","lease":"-1"}]"#
    );
    let text = format!(r#"{{{HEADER},{kvs},"more":true,"count":"2"}}"#);
    writes(RANGE, &range, &text);
    let range = pb::RangeResponse {
        kvs: vec![Bytes::new(), Bytes::new()],
        ..Default::default()
    };
    writes(RANGE, &range, r#"{"kvs":[{},{}]}"#);
    let status = pb::StatusResponse {
        version: "3.7\"\\\u{1}\n<é".to_owned(),
        errors: vec![String::new(), "a".to_owned()],
        is_learner: true,
        ..Default::default()
    };
    let text = r#"{"version":"3.7\"\\\u0001\n<é","errors":["","a"],"isLearner":true}"#;
    writes(STATUS, &status, text);
    let event = |kind: i32| mvccpb::Event {
        r#type: kind,
        ..Default::default()
    };
    let watch = pb::WatchResponse {
        events: [0, 1, 7]
            .map(|kind| event(kind).encode_to_vec().into())
            .into(),
        ..Default::default()
    };
    let text = r#"{"events":[{},{"type":"DELETE"},{"type":7}]}"#;
    writes(WATCH, &watch, text);
}

#[test]
fn a_large_response_is_written_in_pieces() {
    let kvs = (0..1000_u32).map(|index| mvccpb::KeyValue {
        key: index.to_be_bytes().to_vec().into(),
        value: vec![7; 100].into(),
        ..Default::default()
    });
    let range = pb::RangeResponse {
        header: Some(header()),
        kvs: kvs.map(|kv| kv.encode_to_vec().into()).collect(),
        count: 1000,
        ..Default::default()
    };
    let wire = Bytes::from(range.encode_to_vec());
    let id = output(RANGE);
    let whole = written(id, wire.clone()).unwrap();
    let (mut pieces, mut writer) = (Vec::new(), Writer::new(id, wire));
    loop {
        let mut piece = Vec::new();
        let is_complete = writer.write(&SCHEMA, 4096, &mut piece).unwrap();
        assert!(piece.len() < 5000, "{}", piece.len());
        pieces.push(piece);
        if is_complete {
            break;
        }
    }
    assert!(pieces.len() > 30, "{}", pieces.len());
    assert_eq!(String::from_utf8(pieces.concat()).unwrap(), whole);
}

#[test]
fn messages_that_are_broken_are_errors() {
    for (wire, reason) in [
        (&[0x0a, 5, 1][..], "cut off"),
        (&[0x0a], "cut off"),
        // A header that is a varint, a count that has a length.
        (&[0x08, 1], "another wire type"),
        (&[0x22, 1, 1], "another wire type"),
        // The count twice, and kvs around it.
        (&[0x20, 1, 0x20, 1], "comes twice"),
        (&[0x12, 0, 0x20, 1, 0x12, 0], "comes twice"),
        (&[0x0b], "invalid tag"),
        (&[0x0a, 1, 0x08], "cut off"),
    ] {
        let error = written(output(RANGE), Bytes::from_static(wire)).unwrap_err();
        assert!(error.contains(reason), "{wire:?}: {error}");
    }
    // A field that this release does not know is skipped.
    let unknown = Bytes::from_static(&[0xf8, 7, 1, 0x20, 2]);
    assert_eq!(written(output(RANGE), unknown).unwrap(), r#"{"count":"2"}"#);
    let bad_text = Bytes::from_static(&[0x12, 1, 0xff]);
    let error = written(output(STATUS), bad_text).unwrap_err();
    assert!(error.contains("not UTF-8"), "{error}");
    // Success of a transaction that is the success of a transaction, ...
    let mut nested = Vec::new();
    for _ in 0..60 {
        for tag in [0x22, 0x12] {
            let mut outer = vec![tag];
            prost::encoding::encode_varint(nested.len() as u64, &mut outer);
            outer.append(&mut nested);
            nested = outer;
        }
    }
    let error = written(input(TXN), nested.into()).unwrap_err();
    assert!(error.contains("nested too deep"), "{error}");
}

fn bytes() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn put_request() -> impl Strategy<Value = pb::PutRequest> {
    (bytes(), bytes(), any::<i64>(), any::<bool>()).prop_map(|(key, value, lease, prev_kv)| {
        pb::PutRequest {
            key,
            value,
            lease,
            prev_kv,
            ..Default::default()
        }
    })
}

fn compare() -> impl Strategy<Value = pb::Compare> {
    let union = prop::option::of(prop_oneof![
        any::<i64>().prop_map(TargetUnion::Version),
        bytes().prop_map(TargetUnion::Value),
    ]);
    (any::<i32>(), 0..6_i32, bytes(), union).prop_map(|(result, target, key, target_union)| {
        pb::Compare {
            result,
            target,
            key,
            target_union,
            ..Default::default()
        }
    })
}

fn transaction() -> impl Strategy<Value = pb::TxnRequest> {
    let leaf = put_request().prop_map(pb::request_op::Request::RequestPut);
    let op = leaf.prop_recursive(4, 16, 4, |inner| {
        let op = prop::option::of(inner).prop_map(|request| pb::RequestOp { request });
        let list = prop::collection::vec(op, 0..4);
        (prop::collection::vec(compare(), 0..3), list).prop_map(|(compare, success)| {
            pb::request_op::Request::RequestTxn(pb::TxnRequest {
                compare,
                success,
                ..Default::default()
            })
        })
    });
    prop::collection::vec(op, 0..4).prop_map(|ops| pb::TxnRequest {
        failure: ops
            .into_iter()
            .map(|request| pb::RequestOp {
                request: Some(request),
            })
            .collect(),
        ..Default::default()
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(message in transaction()) {
        let text = written(input(TXN), message.encode_to_vec().into()).unwrap();
        let wire = read(input(TXN), text.as_bytes()).unwrap();
        prop_assert_eq!(pb::TxnRequest::decode(&*wire).unwrap(), message, "{}", text);
    }
}
