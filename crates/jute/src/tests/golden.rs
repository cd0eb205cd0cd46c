//! Frames whose bytes are known.

use std::fmt::Write;

use bytes::{Bytes, BytesMut};

use crate::*;

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}

/// Groups of digits, for reading, without the spaces between them.
fn joined(groups: &str) -> String {
    groups.split_whitespace().collect()
}

fn path(text: &'static str) -> ByteString {
    ByteString::from_static(text)
}

fn check_request(xid: i32, request: &Request, expected: &str) {
    let mut out = BytesMut::new();
    encode_request(&mut out, xid, request).unwrap();
    assert_eq!(hex(&out), joined(expected), "{request:?}");
    let (header, decoded) = decode_request(out.freeze().slice(4..)).unwrap();
    assert_eq!((header.xid, decoded.as_ref()), (xid, Ok(request)));
}

#[test]
fn connect() {
    let new = ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: 0,
        timeout_ms: 30_000,
        session_id: 0,
        password: Some(Bytes::from_static(&[0; PASSWORD_LEN])),
        read_only: Some(false),
    };
    let core = "00000000 0000000000000000 00007530 0000000000000000 \
                00000010 00000000000000000000000000000000";
    let mut out = BytesMut::new();
    new.encode(&mut out);
    assert_eq!(hex(&out), joined(core) + "00");
    let old = ConnectRequest {
        read_only: None,
        ..new
    };
    out.clear();
    old.encode(&mut out);
    assert_eq!(hex(&out), joined(core));

    let refusal = ConnectResponse {
        password: Some(Bytes::from_static(&[0; PASSWORD_LEN])),
        read_only: Some(false),
        ..ConnectResponse::default()
    };
    out.clear();
    refusal.encode(&mut out);
    let expected = "00000000 00000000 0000000000000000 \
                    00000010 00000000000000000000000000000000 00";
    assert_eq!(hex(&out), joined(expected));
}

#[test]
fn requests() {
    let create = CreateRequest {
        path: path("/a"),
        data: Some(Bytes::from_static(b"hi")),
        acl: Some(vec![Acl::open()]),
        flags: 3,
    };
    check_request(
        1,
        &Request::Create(create.clone()),
        "00000033 00000001 00000001 00000002 2f61 00000002 6869 00000001 0000001f \
         00000005 776f726c64 00000006 616e796f6e65 00000003",
    );
    check_request(
        2,
        &Request::GetData(GetDataRequest {
            path: path("/"),
            watch: true,
        }),
        "0000000e 00000002 00000004 00000001 2f 01",
    );
    check_request(xid::PING, &Request::Ping, "00000008 fffffffe 0000000b");
    check_request(3, &Request::CloseSession, "00000008 00000003 fffffff5");
    check_request(
        4,
        &Request::Multi(MultiRequest {
            ops: vec![MultiOp::Check(CheckVersionRequest {
                path: path("/a"),
                version: -1,
            })],
        }),
        "00000024 00000004 0000000e 0000000d 00 ffffffff 00000002 2f61 ffffffff \
         ffffffff 01 ffffffff",
    );
    check_request(
        xid::SET_WATCHES,
        &Request::SetWatches(SetWatches {
            relative_zxid: 5,
            data_watches: vec![path("/a")],
            exist_watches: vec![],
            child_watches: vec![],
        }),
        "00000022 fffffff8 00000065 0000000000000005 00000001 00000002 2f61 00000000 00000000",
    );
    check_request(
        xid::AUTH,
        &Request::Auth(AuthPacket {
            kind: 0,
            scheme: Some(path("digest")),
            auth: None,
        }),
        "0000001a fffffffc 00000064 00000000 00000006 646967657374 ffffffff",
    );
}

/// Records with neighbours of one type, which a round trip can't tell apart.
#[test]
fn requests_with_similar_fields() {
    let lists = "00000001 00000002 2f61 00000001 00000002 2f62 00000001 00000002 2f63";
    check_request(
        1,
        &Request::SetWatches(SetWatches {
            relative_zxid: 5,
            data_watches: vec![path("/a")],
            exist_watches: vec![path("/b")],
            child_watches: vec![path("/c")],
        }),
        &format!("0000002e 00000001 00000065 0000000000000005 {lists}"),
    );
    check_request(
        1,
        &Request::SetWatches2(SetWatches2 {
            relative_zxid: 5,
            data_watches: vec![path("/a")],
            exist_watches: vec![path("/b")],
            child_watches: vec![path("/c")],
            persistent_watches: vec![path("/d")],
            persistent_recursive_watches: vec![path("/e")],
        }),
        &format!(
            "00000042 00000001 00000069 0000000000000005 {lists} \
             00000001 00000002 2f64 00000001 00000002 2f65"
        ),
    );
    check_request(
        1,
        &Request::Reconfig(ReconfigRequest {
            joining_servers: Some(path("j")),
            leaving_servers: Some(path("l")),
            new_members: None,
            cur_config_id: -1,
        }),
        "0000001e 00000001 00000010 00000001 6a 00000001 6c ffffffff ffffffffffffffff",
    );
    check_request(
        1,
        &Request::CreateTtl(CreateTtlRequest {
            path: path("/t"),
            data: None,
            acl: Some(vec![]),
            flags: 6,
            ttl_ms: 1000,
        }),
        "00000022 00000001 00000015 00000002 2f74 ffffffff 00000000 00000006 00000000000003e8",
    );
}

#[test]
fn identities() {
    let client_info = vec![ClientInfo {
        auth_scheme: path("ip"),
        user: path("::1"),
    }];
    let mut out = BytesMut::new();
    WhoAmIResponse { client_info }.encode(&mut out);
    assert_eq!(hex(&out), joined("00000001 00000002 6970 00000003 3a3a31"));
}

#[test]
fn replies() {
    let stat = Stat {
        czxid: 1,
        mzxid: 2,
        ctime: 3,
        mtime: 4,
        version: 5,
        cversion: 6,
        aversion: 7,
        ephemeral_owner: 8,
        data_length: 9,
        num_children: 10,
        pzxid: 11,
    };
    let stat_hex = "0000000000000001 0000000000000002 0000000000000003 0000000000000004 \
                    00000005 00000006 00000007 0000000000000008 00000009 0000000a \
                    000000000000000b";
    let mut out = BytesMut::new();
    encode_reply(
        &mut out,
        1,
        2,
        Ok(&Response::Exists(ExistsResponse { stat })),
    )
    .unwrap();
    let header = "00000054 00000001 0000000000000002 00000000";
    assert_eq!(hex(&out), joined(header) + &joined(stat_hex));

    out.clear();
    let results = vec![OpResult::Error(0), OpResult::Error(-101)];
    let failed = Response::Multi(MultiResponse { results });
    encode_reply(&mut out, 1, 2, Ok(&failed)).unwrap();
    let expected = "00000033 00000001 0000000000000002 00000000 \
                    ffffffff 00 00000000 00000000 ffffffff 00 ffffff9b ffffff9b \
                    ffffffff 01 ffffffff";
    assert_eq!(hex(&out), joined(expected));

    out.clear();
    let event = WatcherEvent {
        kind: EventType::NodeDeleted,
        state: KeeperState::SyncConnected,
        path: path("/a"),
    };
    encode_event(&mut out, 0x1234, &event).unwrap();
    let expected = "0000001e ffffffff 0000000000001234 00000000 00000002 00000003 00000002 2f61";
    assert_eq!(hex(&out), joined(expected));
}
