//! Bytes that are not what they should be.

use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::{ProptestConfig, Strategy, any, proptest};
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::strategies::{connect_request, request_of, response_of};
use crate::*;

/// A few messages of each operation, the same in every run: `(op, request or not, body)`.
fn corpus() -> Vec<(OpCode, bool, Bytes)> {
    let mut runner = TestRunner::deterministic();
    let mut all = Vec::new();
    for op in OpCode::ALL {
        for _ in 0..8 {
            let mut body = BytesMut::new();
            let request = request_of(*op).new_tree(&mut runner).unwrap().current();
            request.encode(&mut body);
            all.push((*op, true, body.split().freeze()));
            let response = response_of(*op).new_tree(&mut runner).unwrap().current();
            response.encode(&mut body);
            all.push((*op, false, body.freeze()));
        }
    }
    all
}

/// Decodes a body; whether that succeeded.
fn decode(op: OpCode, is_request: bool, mut body: Bytes) -> Result<(), DecodeError> {
    if is_request {
        Request::decode(op, &mut body).map(drop)
    } else {
        Response::decode(op, &mut body).map(drop)
    }
}

#[test]
fn a_truncated_body_is_refused_wherever_it_ends() {
    for (op, is_request, body) in corpus() {
        for end in 0..body.len() {
            let error = decode(op, is_request, body.slice(..end)).unwrap_err();
            assert!(
                matches!(error, DecodeError::Truncated { needed, left } if left < needed && left <= end),
                "{op:?}, {end} of {} bytes: {error}",
                body.len()
            );
        }
        decode(op, is_request, body).unwrap();
    }
}

#[test]
fn bytes_behind_a_body_are_ignored() {
    for (op, is_request, body) in corpus() {
        let longer = [&body[..], &[0xff; 5]].concat();
        decode(op, is_request, Bytes::from(longer)).unwrap();
    }
}

/// Every four bytes are replaced by numbers that matter as lengths. Nothing panics, and what is
/// still read is encoded again without a loss.
#[test]
fn damaged_numbers_are_refused_or_read() {
    let numbers = [i32::MIN, -2, -1, 0, 1, 0x7fff, i32::MAX];
    let mut refused = 0;
    for (op, is_request, body) in corpus() {
        for at in 0..body.len().saturating_sub(3) {
            for number in numbers {
                let mut damaged = BytesMut::from(&body[..]);
                damaged[at..at + 4].copy_from_slice(&number.to_be_bytes());
                let damaged = damaged.freeze();
                if decode(op, is_request, damaged.clone()).is_err() {
                    refused += 1;
                } else if is_request {
                    let request = Request::decode(op, &mut damaged.clone()).unwrap();
                    let mut again = BytesMut::new();
                    request.encode(&mut again);
                    assert_eq!(Request::decode(op, &mut again.freeze()), Ok(request));
                }
            }
        }
    }
    assert!(refused > 10_000, "{refused}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let bytes = Bytes::from(bytes);
        for op in OpCode::ALL {
            drop(Request::decode(*op, &mut bytes.clone()));
            drop(Response::decode(*op, &mut bytes.clone()));
        }
        drop(decode_request(bytes.clone()));
        drop(ServerMessage::decode(bytes.clone()));
        drop(ConnectRequest::decode(&mut bytes.clone()));
        drop(ConnectResponse::decode(&mut bytes.clone()));
    }

    #[test]
    fn a_truncated_handshake_is_refused(request in connect_request()) {
        let mut out = BytesMut::new();
        request.encode(&mut out);
        let old_len = out.len() - usize::from(request.read_only.is_some());
        let out = out.freeze();
        for end in 0..old_len {
            assert!(ConnectRequest::decode(&mut out.slice(..end)).is_err());
        }
        // Without the last byte it is the request of an old client.
        let old = ConnectRequest::decode(&mut out.slice(..old_len)).unwrap();
        assert_eq!(old, ConnectRequest { read_only: None, ..request });
    }
}

/// A vector's length is checked before memory is reserved: this one would need 64 GiB.
#[test]
fn a_claimed_number_of_elements_reserves_nothing() {
    let mut body = BytesMut::new();
    0_i64.encode(&mut body);
    i32::MAX.encode(&mut body);
    body.put_bytes(0, 100);
    assert_eq!(
        Request::decode(OpCode::SetWatches, &mut body.freeze()),
        Err(DecodeError::Truncated {
            needed: 4 * 0x7fff_ffff,
            left: 100
        })
    );
}

#[test]
fn null_is_refused_where_a_value_is_needed() {
    let mut body = BytesMut::new();
    (-1_i32).encode(&mut body);
    body.put_bytes(0, 100);
    let body = body.freeze();
    for op in [OpCode::Create, OpCode::Exists, OpCode::Sync, OpCode::Sasl] {
        let error = Request::decode(op, &mut body.clone()).unwrap_err();
        assert_eq!(error, DecodeError::Null, "{op:?}");
        assert_eq!(error.code(), ErrorCode::MarshallingError);
    }
    let all = Request::decode(OpCode::GetEphemerals, &mut body.clone()).unwrap();
    let expected = GetEphemeralsRequest { prefix_path: None };
    assert_eq!(all, Request::GetEphemerals(expected));
    let mut negative = Bytes::from_static(&[0xff, 0xff, 0xff, 0xfe, 0, 0, 0, 0]);
    assert_eq!(
        Request::decode(OpCode::GetEphemerals, &mut negative),
        Err(DecodeError::NegativeLength(-2))
    );
}

#[test]
fn text_that_is_not_utf8_is_refused() {
    let mut body = Bytes::from_static(&[0, 0, 0, 2, b'/', 0xff, 0]);
    let error = Request::decode(OpCode::Exists, &mut body).unwrap_err();
    assert_eq!(error, DecodeError::NotUtf8);
    assert_eq!(error.code(), ErrorCode::BadArguments);
}

#[test]
fn an_unknown_operation_keeps_its_header() {
    let frame = Bytes::from_static(&[0, 0, 0, 5, 0, 0, 3, 231, 1, 2]);
    let (header, request) = decode_request(frame).unwrap();
    assert_eq!(header, RequestHeader { xid: 5, op: 999 });
    let kind = "operation";
    let error = DecodeError::Unknown(UnknownCode { kind, value: 999 });
    assert_eq!(request, Err(error));
    assert!(decode_request(Bytes::from_static(&[0; 7])).is_err());
}

/// The bodies of a multi with one operation.
fn multi_of(op: i32, body: &dyn Encode) -> Bytes {
    let (done, err) = (false, -1);
    let mut out = BytesMut::new();
    MultiHeader { op, done, err }.encode(&mut out);
    body.encode(&mut out);
    let (op, done) = (-1, true);
    MultiHeader { op, done, err }.encode(&mut out);
    out.freeze()
}

#[test]
fn operations_in_the_wrong_kind_of_multi_are_refused() {
    let read = GetDataRequest {
        path: ByteString::from_static("/"),
        watch: false,
    };
    let delete = DeleteRequest {
        path: ByteString::from_static("/"),
        version: -1,
    };
    let reads = multi_of(OpCode::GetData.code(), &read);
    let writes = multi_of(OpCode::Delete.code(), &delete);
    assert!(Request::decode(OpCode::MultiRead, &mut reads.clone()).is_ok());
    assert!(Request::decode(OpCode::Multi, &mut writes.clone()).is_ok());
    let (outer, inner) = (OpCode::Multi, OpCode::GetData);
    assert_eq!(
        Request::decode(outer, &mut reads.clone()),
        Err(DecodeError::NotInMulti { outer, inner })
    );
    let (outer, inner) = (OpCode::MultiRead, OpCode::Delete);
    assert_eq!(
        Request::decode(outer, &mut writes.clone()),
        Err(DecodeError::NotInMulti { outer, inner })
    );
}

#[test]
fn create_flags_in_a_multi_are_checked() {
    let decode = |op: OpCode, flags: i32| {
        let create = CreateRequest {
            path: ByteString::from_static("/a"),
            data: None,
            acl: Some(vec![Acl::open()]),
            flags,
        };
        Request::decode(OpCode::Multi, &mut multi_of(op.code(), &create)).map(drop)
    };
    for op in [OpCode::Create, OpCode::Create2, OpCode::CreateContainer] {
        assert_eq!(decode(op, 4), Ok(()));
        assert_eq!(decode(op, 5), Err(DecodeError::NeedsTtl(5)));
        let (kind, value) = ("create mode", 7);
        let unknown = UnknownCode { kind, value };
        assert_eq!(decode(op, 7), Err(DecodeError::Unknown(unknown)));
    }
}
