//! Why bytes were refused.

use crate::codes::{ErrorCode, OpCode};
use crate::message::RequestHeader;

/// A number that stands for none of the known values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{value} is not a known {kind}")]
pub struct UnknownCode {
    /// What the number should have been, for example `operation`.
    pub kind: &'static str,
    /// The number.
    pub value: i32,
}

/// A record that can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The frame ends inside the record.
    #[error("the frame ends early: {needed} more bytes are needed, {left} are left")]
    Truncated {
        /// The bytes that the next field needs at least.
        needed: usize,
        /// The bytes left in the frame.
        left: usize,
    },
    /// A length below -1. Only -1 has a meaning: null.
    #[error("the length {0} is negative")]
    NegativeLength(i32),
    /// Null where the record needs a value.
    #[error("a field is null that must have a value")]
    Null,
    /// A string that is not UTF-8.
    #[error("a string is not UTF-8")]
    NotUtf8,
    /// A number that stands for none of the known values.
    #[error(transparent)]
    Unknown(#[from] UnknownCode),
    /// An operation that can't be part of this kind of multi.
    #[error("a {outer:?} can't contain the operation {inner:?}")]
    NotInMulti {
        /// The operation that contains the others.
        outer: OpCode,
        /// The refused operation.
        inner: OpCode,
    },
    /// A create in a multi with a flag that needs a TTL, which this operation can't carry.
    #[error("the create mode {0} needs a TTL, which only the operation createTTL has")]
    NeedsTtl(i32),
}

impl DecodeError {
    /// The code to answer. It is the one of ZooKeeper's server, with three exceptions. It replaces
    /// damaged characters, and then refuses the path of a write with [`ErrorCode::BadArguments`]
    /// but finds no node in a read. It answers that code, too, if `setData` or `setACL` have a null
    /// path. And it takes a negative number of elements for none.
    #[must_use]
    pub fn code(self) -> ErrorCode {
        match self {
            Self::NotUtf8 => ErrorCode::BadArguments,
            Self::Truncated { .. }
            | Self::NegativeLength(_)
            | Self::Null
            | Self::Unknown(_)
            | Self::NotInMulti { .. }
            | Self::NeedsTtl(_) => ErrorCode::MarshallingError,
        }
    }
}

/// A frame that can't be read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The frame is longer than the limit. The decoder skips it, so the connection can be used
    /// further.
    #[error("a frame of {length} bytes exceeds the limit of {limit} bytes (jute.maxbuffer)")]
    TooLarge {
        /// The length that the frame claims.
        length: usize,
        /// The limit.
        limit: usize,
        /// The frame's first eight bytes: the header if this is a request.
        header: RequestHeader,
    },
    /// The frame is so much longer than the limit that it is hardly a frame. What follows can't be
    /// read: close the connection.
    #[error("a frame of {length} bytes is far over the limit of {limit} bytes (jute.maxbuffer)")]
    FarTooLarge {
        /// The length that the frame claims.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// A negative length. What follows can't be read: close the connection.
    #[error("the frame length {0} is negative")]
    NegativeLength(i32),
    /// A frame to be sent is too long for its length field.
    #[error("a frame of {0} bytes can't be sent: its length field has 31 bits")]
    Unencodable(usize),
}
