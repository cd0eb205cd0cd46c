//! Tests that a peer with only the original schema can read messages with pre-encoded parts.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test helpers may panic")]

use bytes::Bytes;
use prost::Message as _;
use protox::prost_reflect::{DescriptorPool, DynamicMessage};
use synod_proto::{
    FILE_DESCRIPTOR_SET,
    etcd::{etcdserverpb as pb, mvccpb},
};

fn key_value(key: &str) -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        key: Bytes::copy_from_slice(key.as_bytes()),
        create_revision: 2,
        mod_revision: 3,
        version: 2,
        value: Bytes::from_static(b"v"),
        lease: 0,
    }
}

fn encoded(message: &impl prost::Message) -> Bytes {
    message.encode_to_vec().into()
}

/// A typed peer's view of `message`, in protobuf's text format.
fn as_peer_sees(name: &str, message: &impl prost::Message) -> String {
    let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap();
    let descriptor = pool.get_message_by_name(name).unwrap();
    let bytes = message.encode_to_vec();
    let dynamic = DynamicMessage::decode(descriptor, bytes.as_slice()).unwrap();
    assert_eq!(dynamic.encode_to_vec(), bytes, "{name} round trip");
    assert_eq!(dynamic.unknown_fields().count(), 0);
    dynamic.to_string()
}

const KEY_VALUE: &str = r#"{key:"a",create_revision:2,mod_revision:3,version:2,value:"v"}"#;

#[test]
fn range_put_and_delete_responses() {
    let range = pb::RangeResponse {
        header: None,
        kvs: vec![encoded(&key_value("a")), encoded(&key_value("a"))],
        more: true,
        count: 9,
    };
    let seen = as_peer_sees("etcdserverpb.RangeResponse", &range);
    assert_eq!(
        seen,
        format!("kvs:[{KEY_VALUE},{KEY_VALUE}],more:true,count:9")
    );

    let put = pb::PutResponse {
        header: None,
        prev_kv: Some(encoded(&key_value("a"))),
    };
    let seen = as_peer_sees("etcdserverpb.PutResponse", &put);
    assert_eq!(seen, format!("prev_kv{KEY_VALUE}"));

    let delete = pb::DeleteRangeResponse {
        header: None,
        deleted: 1,
        prev_kvs: vec![encoded(&key_value("a"))],
    };
    let txn = pb::TxnResponse {
        header: None,
        succeeded: true,
        responses: vec![pb::ResponseOp {
            response: Some(pb::response_op::Response::ResponseDeleteRange(delete)),
        }],
    };
    let seen = as_peer_sees("etcdserverpb.TxnResponse", &txn);
    let expected = format!(
        "succeeded:true,responses:[{{response_delete_range{{deleted:1,prev_kvs:[{KEY_VALUE}]}}}}]"
    );
    assert_eq!(seen, expected);
}

#[test]
fn an_absent_and_an_empty_previous_value_differ() {
    let name = "etcdserverpb.PutResponse";
    let absent = pb::PutResponse::default();
    assert_eq!(as_peer_sees(name, &absent), "");
    let empty = pb::PutResponse {
        prev_kv: Some(Bytes::new()),
        ..absent
    };
    assert_eq!(as_peer_sees(name, &empty), "prev_kv{}");
    let back = pb::PutResponse::decode(empty.encode_to_vec().as_slice()).unwrap();
    assert_eq!(back.prev_kv, Some(Bytes::new()));
}

#[test]
fn watch_events_hold_encoded_events() {
    let event = mvccpb::Event {
        r#type: mvccpb::event::EventType::Delete.into(),
        kv: Some(key_value("a")),
        prev_kv: None,
    };
    let watch = pb::WatchResponse {
        watch_id: 7,
        events: vec![encoded(&event)],
        ..pb::WatchResponse::default()
    };
    let seen = as_peer_sees("etcdserverpb.WatchResponse", &watch);
    assert_eq!(
        seen,
        format!("watch_id:7,events:[{{type:DELETE,kv{KEY_VALUE}}}]")
    );
}
