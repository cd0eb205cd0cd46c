//! What is encoded is decoded to the same.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};
use proptest::test_runner::TestCaseError;

use super::strategies::{connect_request, connect_response, event, request, response};
use crate::*;

/// Checks one record alone.
fn round_trip<T: Encode + Decode + PartialEq + Debug>(value: &T) -> Result<(), TestCaseError> {
    let mut out = BytesMut::new();
    value.encode(&mut out);
    prop_assert_eq!(out.len(), value.encoded_len());
    prop_assert!(out.len() >= T::MIN_LEN);
    let mut from = out.freeze();
    prop_assert_eq!(&T::decode(&mut from)?, value);
    prop_assert!(from.is_empty());
    Ok(())
}

/// The content of the only frame in `out`.
fn only_frame(out: &BytesMut) -> Bytes {
    let mut decoder = FrameDecoder::new(out.len());
    decoder.buffer().extend_from_slice(out);
    let frame = decoder.next_frame().unwrap().unwrap();
    assert_eq!(frame.len() + 4, out.len());
    frame
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn requests(request in request(), xid in any::<i32>()) {
        let mut out = BytesMut::new();
        encode_request(&mut out, xid, &request)?;
        prop_assert_eq!(out.len(), 12 + request.encoded_len());
        let (header, decoded) = decode_request(only_frame(&out))?;
        prop_assert_eq!(header, RequestHeader { xid, op: request.op().code() });
        prop_assert_eq!(decoded?, request);
    }

    #[test]
    fn responses(response in response(), xid in 0..i32::MAX, zxid in any::<i64>()) {
        let mut out = BytesMut::new();
        encode_reply(&mut out, xid, zxid, Ok(&response))?;
        prop_assert_eq!(out.len(), 20 + response.encoded_len());
        let ServerMessage::Reply { header, mut body } = ServerMessage::decode(only_frame(&out))?
        else {
            return Err(TestCaseError::fail("not a reply"));
        };
        prop_assert_eq!(header, ReplyHeader { xid, zxid, err: 0 });
        prop_assert_eq!(Response::decode(response.op(), &mut body)?, response);
        prop_assert!(body.is_empty());
    }

    #[test]
    fn events(event in event(), zxid in any::<i64>()) {
        let mut out = BytesMut::new();
        encode_event(&mut out, zxid, &event)?;
        let decoded = ServerMessage::decode(only_frame(&out))?;
        prop_assert_eq!(decoded, ServerMessage::Event { zxid, event });
    }

    #[test]
    fn handshakes(request in connect_request(), response in connect_response()) {
        round_trip(&request)?;
        round_trip(&response)?;
    }
}

#[test]
fn an_error_has_no_body() {
    let mut out = BytesMut::new();
    encode_reply(&mut out, 7, 9, Err(ErrorCode::NoNode)).unwrap();
    let header = ReplyHeader {
        xid: 7,
        zxid: 9,
        err: -101,
    };
    let body = Bytes::new();
    assert_eq!(
        ServerMessage::decode(only_frame(&out)).unwrap(),
        ServerMessage::Reply { header, body }
    );
}

#[test]
fn strings_and_buffers_share_the_frame() {
    let request = Request::SetData(SetDataRequest {
        path: ByteString::from_static("/path"),
        data: Some(Bytes::from_static(b"content")),
        version: 3,
    });
    let mut out = BytesMut::new();
    encode_request(&mut out, 1, &request).unwrap();
    let frame = only_frame(&out);
    let within = frame.as_ptr_range();
    let (_, decoded) = decode_request(frame.clone()).unwrap();
    let Ok(Request::SetData(decoded)) = decoded else {
        panic!("{decoded:?}");
    };
    assert!(within.contains(&decoded.path.as_bytes().as_ptr()));
    assert!(within.contains(&decoded.data.unwrap().as_ptr()));
}

#[test]
fn codes_are_their_numbers() {
    fn check<T: Copy + Debug + PartialEq + TryFrom<i32>>(all: &[T], code: impl Fn(T) -> i32) {
        for one in all {
            assert_eq!(T::try_from(code(*one)).ok(), Some(*one));
        }
        for unknown in [i32::MIN, 10, 99, i32::MAX] {
            assert!(T::try_from(unknown).is_err(), "{unknown}");
        }
    }
    check(OpCode::ALL, OpCode::code);
    check(ErrorCode::ALL, ErrorCode::code);
    check(EventType::ALL, EventType::code);
    check(KeeperState::ALL, KeeperState::code);
    check(CreateMode::ALL, CreateMode::code);
    check(AddWatchMode::ALL, AddWatchMode::code);
    check(WatcherType::ALL, WatcherType::code);
}

#[test]
fn create_modes_have_their_properties() {
    let with = |property: fn(CreateMode) -> bool| -> Vec<i32> {
        let modes = CreateMode::ALL.iter().copied();
        modes
            .filter(|mode| property(*mode))
            .map(CreateMode::code)
            .collect()
    };
    assert_eq!(with(CreateMode::is_ephemeral), [1, 3]);
    assert_eq!(with(CreateMode::is_sequential), [2, 3, 6]);
    assert_eq!(with(CreateMode::has_ttl), [5, 6]);
}
