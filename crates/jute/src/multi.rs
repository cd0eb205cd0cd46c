//! Several operations in one request. Each is preceded by a header, and a last header says that
//! there are no more.

use bytes::{Bytes, BytesMut};

use crate::codes::{CreateMode, OpCode};
use crate::error::{DecodeError, UnknownCode};
use crate::request::{
    CheckVersionRequest, CreateRequest, CreateTtlRequest, DeleteRequest, GetChildrenRequest,
    GetDataRequest, SetDataRequest,
};
use crate::response::{
    Create2Response, CreateResponse, ErrorResponse, GetChildrenResponse, GetDataResponse,
    SetDataResponse,
};
use crate::wire::{Decode, Encode};

/// In a header: no operation. With `done` the end, and otherwise an error's result.
const NONE: i32 = -1;

record! {
    /// Precedes each operation and each result.
    #[derive(Copy)]
    MultiHeader {
        /// The operation.
        op: i32,
        /// Whether this is the end.
        done: bool,
        /// In a result, zero or the error; otherwise -1.
        err: i32,
    }
}

/// The last header.
const END: MultiHeader = MultiHeader {
    op: NONE,
    done: true,
    err: -1,
};

/// A write in a multi.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MultiOp {
    /// Create a node; the result is its path.
    Create(CreateRequest),
    /// Create a node; the result is its path and Stat.
    Create2(CreateRequest),
    /// Create a container.
    CreateContainer(CreateRequest),
    /// Create a node with a TTL.
    CreateTtl(CreateTtlRequest),
    /// Delete a node.
    Delete(DeleteRequest),
    /// Replace a node's data.
    SetData(SetDataRequest),
    /// Check a node's version.
    Check(CheckVersionRequest),
}

/// A read in a multi.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadOp {
    /// Read a node's data. ZooKeeper sets no watch, whatever the request says.
    GetData(GetDataRequest),
    /// List a node's children. ZooKeeper sets no watch, whatever the request says.
    GetChildren(GetChildrenRequest),
}

/// The result of one operation of a multi.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpResult {
    /// An [`crate::ErrorCode`], or zero for an operation before the one that failed.
    Error(i32),
    /// Created.
    Create(CreateResponse),
    /// Created, of all operations but `create`.
    Create2(Create2Response),
    /// Deleted.
    Delete,
    /// Replaced.
    SetData(SetDataResponse),
    /// The node has that version.
    Check,
    /// The data.
    GetData(GetDataResponse),
    /// The children.
    GetChildren(GetChildrenResponse),
}

/// Body of `multi`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MultiRequest {
    /// The writes, in order.
    pub ops: Vec<MultiOp>,
}

/// Body of `multiRead`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MultiReadRequest {
    /// The reads, in order.
    pub ops: Vec<ReadOp>,
}

/// Reply to `multi` and `multiRead`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MultiResponse {
    /// The results, in the order of the operations.
    pub results: Vec<OpResult>,
}

/// One element of a multi, without its header.
trait Element: Sized {
    /// The header that precedes it.
    fn header(&self) -> MultiHeader;

    fn encode_body(&self, out: &mut BytesMut);

    fn body_len(&self) -> usize;

    fn decode_body(header: MultiHeader, from: &mut Bytes) -> Result<Self, DecodeError>;
}

fn encode_all<T: Element>(elements: &[T], out: &mut BytesMut) {
    for element in elements {
        element.header().encode(out);
        element.encode_body(out);
    }
    END.encode(out);
}

fn len_of_all<T: Element>(elements: &[T]) -> usize {
    let bodies: usize = elements.iter().map(Element::body_len).sum();
    bodies + (elements.len() + 1) * MultiHeader::MIN_LEN
}

fn decode_all<T: Element>(from: &mut Bytes) -> Result<Vec<T>, DecodeError> {
    let mut elements = Vec::new();
    loop {
        let header = MultiHeader::decode(from)?;
        if header.done {
            return Ok(elements);
        }
        elements.push(T::decode_body(header, from)?);
    }
}

/// A message that consists of elements.
macro_rules! multi {
    ($($name:ident.$field:ident),+) => {$(
        impl Encode for $name {
            fn encode(&self, out: &mut BytesMut) {
                encode_all(&self.$field, out);
            }

            fn encoded_len(&self) -> usize {
                len_of_all(&self.$field)
            }
        }

        impl Decode for $name {
            const MIN_LEN: usize = MultiHeader::MIN_LEN;

            fn decode(from: &mut Bytes) -> Result<Self, DecodeError> {
                let $field = decode_all(from)?;
                Ok(Self { $field })
            }
        }
    )+};
}

multi!(
    MultiRequest.ops,
    MultiReadRequest.ops,
    MultiResponse.results
);

/// The header of an operation in a request.
fn request_header(op: OpCode) -> MultiHeader {
    MultiHeader {
        op: op.code(),
        done: false,
        err: -1,
    }
}

/// Refuses an operation that can't be part of `outer`.
fn refuse(outer: OpCode, op: i32) -> DecodeError {
    OpCode::try_from(op).map_or_else(DecodeError::from, |inner| DecodeError::NotInMulti {
        outer,
        inner,
    })
}

/// ZooKeeper checks these flags while it reads a multi, so a wrong one spoils the whole request.
fn decode_create(from: &mut Bytes) -> Result<CreateRequest, DecodeError> {
    let create = CreateRequest::decode(from)?;
    if CreateMode::try_from(create.flags)?.has_ttl() {
        return Err(DecodeError::NeedsTtl(create.flags));
    }
    Ok(create)
}

impl MultiOp {
    /// The operation.
    #[must_use]
    pub fn op(&self) -> OpCode {
        match self {
            Self::Create(_) => OpCode::Create,
            Self::Create2(_) => OpCode::Create2,
            Self::CreateContainer(_) => OpCode::CreateContainer,
            Self::CreateTtl(_) => OpCode::CreateTtl,
            Self::Delete(_) => OpCode::Delete,
            Self::SetData(_) => OpCode::SetData,
            Self::Check(_) => OpCode::Check,
        }
    }

    fn body(&self) -> &dyn Encode {
        match self {
            Self::Create(body) | Self::Create2(body) | Self::CreateContainer(body) => body,
            Self::CreateTtl(body) => body,
            Self::Delete(body) => body,
            Self::SetData(body) => body,
            Self::Check(body) => body,
        }
    }
}

impl Element for MultiOp {
    fn header(&self) -> MultiHeader {
        request_header(self.op())
    }

    fn encode_body(&self, out: &mut BytesMut) {
        self.body().encode(out);
    }

    fn body_len(&self) -> usize {
        self.body().encoded_len()
    }

    fn decode_body(header: MultiHeader, from: &mut Bytes) -> Result<Self, DecodeError> {
        const CREATE: i32 = OpCode::Create.code();
        const CREATE2: i32 = OpCode::Create2.code();
        const CREATE_CONTAINER: i32 = OpCode::CreateContainer.code();
        const CREATE_TTL: i32 = OpCode::CreateTtl.code();
        const DELETE: i32 = OpCode::Delete.code();
        const SET_DATA: i32 = OpCode::SetData.code();
        const CHECK: i32 = OpCode::Check.code();
        Ok(match header.op {
            CREATE => Self::Create(decode_create(from)?),
            CREATE2 => Self::Create2(decode_create(from)?),
            CREATE_CONTAINER => Self::CreateContainer(decode_create(from)?),
            CREATE_TTL => Self::CreateTtl(Decode::decode(from)?),
            DELETE => Self::Delete(Decode::decode(from)?),
            SET_DATA => Self::SetData(Decode::decode(from)?),
            CHECK => Self::Check(Decode::decode(from)?),
            other => return Err(refuse(OpCode::Multi, other)),
        })
    }
}

impl Element for ReadOp {
    fn header(&self) -> MultiHeader {
        request_header(match self {
            Self::GetData(_) => OpCode::GetData,
            Self::GetChildren(_) => OpCode::GetChildren,
        })
    }

    fn encode_body(&self, out: &mut BytesMut) {
        match self {
            Self::GetData(body) => body.encode(out),
            Self::GetChildren(body) => body.encode(out),
        }
    }

    fn body_len(&self) -> usize {
        match self {
            Self::GetData(body) => body.encoded_len(),
            Self::GetChildren(body) => body.encoded_len(),
        }
    }

    fn decode_body(header: MultiHeader, from: &mut Bytes) -> Result<Self, DecodeError> {
        const GET_DATA: i32 = OpCode::GetData.code();
        const GET_CHILDREN: i32 = OpCode::GetChildren.code();
        Ok(match header.op {
            GET_DATA => Self::GetData(Decode::decode(from)?),
            GET_CHILDREN => Self::GetChildren(Decode::decode(from)?),
            other => return Err(refuse(OpCode::MultiRead, other)),
        })
    }
}

impl Element for OpResult {
    fn header(&self) -> MultiHeader {
        let (op, err) = match self {
            Self::Error(err) => (NONE, *err),
            Self::Create(_) => (OpCode::Create.code(), 0),
            Self::Create2(_) => (OpCode::Create2.code(), 0),
            Self::Delete => (OpCode::Delete.code(), 0),
            Self::SetData(_) => (OpCode::SetData.code(), 0),
            Self::Check => (OpCode::Check.code(), 0),
            Self::GetData(_) => (OpCode::GetData.code(), 0),
            Self::GetChildren(_) => (OpCode::GetChildren.code(), 0),
        };
        MultiHeader {
            op,
            done: false,
            err,
        }
    }

    fn encode_body(&self, out: &mut BytesMut) {
        match self {
            Self::Error(err) => ErrorResponse { err: *err }.encode(out),
            Self::Create(body) => body.encode(out),
            Self::Create2(body) => body.encode(out),
            Self::SetData(body) => body.encode(out),
            Self::GetData(body) => body.encode(out),
            Self::GetChildren(body) => body.encode(out),
            Self::Delete | Self::Check => {}
        }
    }

    fn body_len(&self) -> usize {
        match self {
            Self::Error(err) => err.encoded_len(),
            Self::Create(body) => body.encoded_len(),
            Self::Create2(body) => body.encoded_len(),
            Self::SetData(body) => body.encoded_len(),
            Self::GetData(body) => body.encoded_len(),
            Self::GetChildren(body) => body.encoded_len(),
            Self::Delete | Self::Check => 0,
        }
    }

    fn decode_body(header: MultiHeader, from: &mut Bytes) -> Result<Self, DecodeError> {
        const CREATE: i32 = OpCode::Create.code();
        const CREATE2: i32 = OpCode::Create2.code();
        const DELETE: i32 = OpCode::Delete.code();
        const SET_DATA: i32 = OpCode::SetData.code();
        const CHECK: i32 = OpCode::Check.code();
        const GET_DATA: i32 = OpCode::GetData.code();
        const GET_CHILDREN: i32 = OpCode::GetChildren.code();
        Ok(match header.op {
            NONE => Self::Error(ErrorResponse::decode(from)?.err),
            CREATE => Self::Create(Decode::decode(from)?),
            CREATE2 => Self::Create2(Decode::decode(from)?),
            DELETE => Self::Delete,
            SET_DATA => Self::SetData(Decode::decode(from)?),
            CHECK => Self::Check,
            GET_DATA => Self::GetData(Decode::decode(from)?),
            GET_CHILDREN => Self::GetChildren(Decode::decode(from)?),
            value => {
                let kind = "result of a multi";
                return Err(UnknownCode { kind, value }.into());
            }
        })
    }
}
