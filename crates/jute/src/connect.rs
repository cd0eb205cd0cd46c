//! The first frame in each direction.

use bytes::{Bytes, BytesMut};

use crate::error::DecodeError;
use crate::wire::{Decode, Encode};

/// The length of a session's password in bytes.
pub const PASSWORD_LEN: usize = 16;

/// What a client sends first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectRequest {
    /// Zero in all versions.
    pub protocol_version: i32,
    /// The newest zxid that the client has seen; zero in a new session.
    pub last_zxid_seen: i64,
    /// The session timeout that it asks for.
    pub timeout_ms: i32,
    /// The session that it goes on with; zero for a new one.
    pub session_id: i64,
    /// The session's password; of a new session's request it has no meaning.
    pub password: Option<Bytes>,
    /// Whether a server in read-only mode will do. `None` from clients before ZooKeeper 3.4, which
    /// don't send this field.
    pub read_only: Option<bool>,
}

/// What a server answers to a [`ConnectRequest`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectResponse {
    /// Zero in all versions.
    pub protocol_version: i32,
    /// The session timeout in force; zero if the session has expired or its password is wrong.
    pub timeout_ms: i32,
    /// The session; zero if it has expired or its password is wrong.
    pub session_id: i64,
    /// The session's password, of [`PASSWORD_LEN`] bytes.
    pub password: Option<Bytes>,
    /// Whether the server is in read-only mode. `None` for a client that doesn't know this field.
    pub read_only: Option<bool>,
}

impl Encode for ConnectRequest {
    fn encode(&self, out: &mut BytesMut) {
        self.protocol_version.encode(out);
        self.last_zxid_seen.encode(out);
        self.timeout_ms.encode(out);
        self.session_id.encode(out);
        self.password.encode(out);
        encode_last(self.read_only, out);
    }

    fn encoded_len(&self) -> usize {
        24 + self.password.encoded_len() + usize::from(self.read_only.is_some())
    }
}

impl Decode for ConnectRequest {
    const MIN_LEN: usize = 28;

    fn decode(from: &mut Bytes) -> Result<Self, DecodeError> {
        Ok(Self {
            protocol_version: Decode::decode(from)?,
            last_zxid_seen: Decode::decode(from)?,
            timeout_ms: Decode::decode(from)?,
            session_id: Decode::decode(from)?,
            password: Decode::decode(from)?,
            read_only: decode_last(from)?,
        })
    }
}

impl Encode for ConnectResponse {
    fn encode(&self, out: &mut BytesMut) {
        self.protocol_version.encode(out);
        self.timeout_ms.encode(out);
        self.session_id.encode(out);
        self.password.encode(out);
        encode_last(self.read_only, out);
    }

    fn encoded_len(&self) -> usize {
        16 + self.password.encoded_len() + usize::from(self.read_only.is_some())
    }
}

impl Decode for ConnectResponse {
    const MIN_LEN: usize = 20;

    fn decode(from: &mut Bytes) -> Result<Self, DecodeError> {
        Ok(Self {
            protocol_version: Decode::decode(from)?,
            timeout_ms: Decode::decode(from)?,
            session_id: Decode::decode(from)?,
            password: Decode::decode(from)?,
            read_only: decode_last(from)?,
        })
    }
}

/// Writes a last field that may be absent.
fn encode_last(value: Option<bool>, out: &mut BytesMut) {
    if let Some(value) = value {
        value.encode(out);
    }
}

/// Reads a last field that may be absent.
fn decode_last(from: &mut Bytes) -> Result<Option<bool>, DecodeError> {
    if from.is_empty() {
        return Ok(None);
    }
    bool::decode(from).map(Some)
}
