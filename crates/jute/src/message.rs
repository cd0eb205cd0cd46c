//! Whole messages: a header and a body.

use bytes::{Bytes, BytesMut};

use crate::codes::{ErrorCode, OpCode, xid};
use crate::error::{DecodeError, FrameError};
use crate::frame::frame;
use crate::request::Request;
use crate::response::{Response, WatcherEvent};
use crate::wire::{Decode, Encode};

record! {
    /// The start of every request but the connect request.
    #[derive(Copy)]
    RequestHeader {
        /// The client's number of the request, which its reply repeats; see [`crate::xid`].
        xid: i32,
        /// The operation: an [`OpCode`], unless the client knows more of them than we do.
        op: i32,
    }

    /// The start of every reply but that to a connect request, and of every event.
    #[derive(Copy)]
    ReplyHeader {
        /// The xid of the request, or [`xid::EVENT`].
        xid: i32,
        /// The newest zxid that the reply reflects. Of an event, the zxid of the change, or -1 if
        /// the event answers watches that were set again. Zero in replies to `auth` and `sasl`, and
        /// -1 with [`ErrorCode::Unimplemented`].
        zxid: i64,
        /// Zero, or an [`ErrorCode`]; then no body follows. (ZooKeeper adds one to a few errors,
        /// which means nothing.)
        err: i32,
    }
}

impl RequestHeader {
    pub(crate) fn from_bytes(bytes: [u8; 8]) -> Self {
        let [a, b, c, d, e, f, g, h] = bytes;
        Self {
            xid: i32::from_be_bytes([a, b, c, d]),
            op: i32::from_be_bytes([e, f, g, h]),
        }
    }
}

/// A frame from a server, after its reply to the connect request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerMessage {
    /// A watch fired.
    Event {
        /// The zxid of the change, or -1 if the event answers watches that were set again.
        zxid: i64,
        /// What happened.
        event: WatcherEvent,
    },
    /// A reply. Its body depends on the request with that xid: [`Response::decode`] reads it.
    Reply {
        /// The header.
        header: ReplyHeader,
        /// The body's bytes.
        body: Bytes,
    },
}

impl ServerMessage {
    /// Reads a frame.
    ///
    /// # Errors
    /// It has no reply header, or is a damaged event.
    pub fn decode(mut frame: Bytes) -> Result<Self, DecodeError> {
        let header = ReplyHeader::decode(&mut frame)?;
        if header.xid != xid::EVENT {
            return Ok(Self::Reply {
                header,
                body: frame,
            });
        }
        Ok(Self::Event {
            zxid: header.zxid,
            event: WatcherEvent::decode(&mut frame)?,
        })
    }
}

/// Reads a request's frame. A request with a readable header can be answered even if its body
/// can't be read: with [`ErrorCode::Unimplemented`] if the operation is unknown, which closes the
/// connection in ZooKeeper, or else with [`DecodeError::code`].
///
/// # Errors
/// The header can't be read: close the connection.
pub fn decode_request(
    mut frame: Bytes,
) -> Result<(RequestHeader, Result<Request, DecodeError>), DecodeError> {
    let header = RequestHeader::decode(&mut frame)?;
    let request = OpCode::try_from(header.op)
        .map_err(DecodeError::from)
        .and_then(|op| Request::decode(op, &mut frame));
    Ok((header, request))
}

/// Appends the frame of a request.
///
/// # Errors
/// The frame is too long for its length field.
pub fn encode_request(out: &mut BytesMut, xid: i32, request: &Request) -> Result<(), FrameError> {
    frame(out, |out| {
        let op = request.op().code();
        out.reserve(8 + request.encoded_len());
        RequestHeader { xid, op }.encode(out);
        request.encode(out);
    })
}

/// Appends the frame of a reply: a response, or an error without a body.
///
/// # Errors
/// The frame is too long for its length field.
pub fn encode_reply(
    out: &mut BytesMut,
    xid: i32,
    zxid: i64,
    outcome: Result<&Response, ErrorCode>,
) -> Result<(), FrameError> {
    frame(out, |out| {
        let err = outcome.err().map_or(0, ErrorCode::code);
        out.reserve(16 + outcome.map_or(0, Encode::encoded_len));
        ReplyHeader { xid, zxid, err }.encode(out);
        if let Ok(response) = outcome {
            response.encode(out);
        }
    })
}

/// Appends the frame of an event. Its `zxid` is that of the change, or -1 if the event answers
/// watches that were set again.
///
/// # Errors
/// The frame is too long for its length field.
pub fn encode_event(out: &mut BytesMut, zxid: i64, event: &WatcherEvent) -> Result<(), FrameError> {
    frame(out, |out| {
        let xid = xid::EVENT;
        out.reserve(16 + event.encoded_len());
        ReplyHeader { xid, zxid, err: 0 }.encode(out);
        event.encode(out);
    })
}
