//! ZooKeeper 3.9's wire contract, without I/O: frames, and the records that they hold in the jute
//! encoding. Servers decode requests and encode replies with it; clients do the reverse.
//!
//! It guarantees that bytes from outside never cause a panic, and that a length that they claim
//! never determines an allocation: what is allocated is at most a small multiple of the bytes that
//! arrived. Strings and buffers share the memory of the received bytes, so copy what is kept for
//! long. It never interprets a request: paths, versions, ACLs and most flags are passed on as they
//! came.

#[macro_use]
mod record;

mod codes;
mod connect;
mod data;
mod error;
mod frame;
mod message;
mod multi;
mod request;
mod response;
mod wire;
mod word;

pub use bytestring::ByteString;

pub use codes::{
    AddWatchMode, CreateMode, ErrorCode, EventType, KeeperState, OpCode, WatcherType, permission,
    xid,
};
pub use connect::{ConnectRequest, ConnectResponse, PASSWORD_LEN};
pub use data::{Acl, ClientInfo, Id, Stat};
pub use error::{DecodeError, FrameError, UnknownCode};
pub use frame::{DEFAULT_MAX_FRAME, FrameDecoder, frame};
pub use message::{
    ReplyHeader, RequestHeader, ServerMessage, decode_request, encode_event, encode_reply,
    encode_request,
};
pub use multi::{
    MultiHeader, MultiOp, MultiReadRequest, MultiRequest, MultiResponse, OpResult, ReadOp,
};
pub use request::{
    AddWatchRequest, AuthPacket, CheckVersionRequest, CheckWatchesRequest, CreateRequest,
    CreateSessionRequest, CreateTtlRequest, DeleteContainerRequest, DeleteRequest, ExistsRequest,
    GetAclRequest, GetAllChildrenNumberRequest, GetChildren2Request, GetChildrenRequest,
    GetDataRequest, GetEphemeralsRequest, GetSaslRequest, ReconfigRequest, RemoveWatchesRequest,
    Request, SetAclRequest, SetDataRequest, SetWatches, SetWatches2, SyncRequest,
};
pub use response::{
    Create2Response, CreateResponse, ErrorResponse, ExistsResponse, GetAclResponse,
    GetAllChildrenNumberResponse, GetChildren2Response, GetChildrenResponse, GetDataResponse,
    GetEphemeralsResponse, Response, SetAclResponse, SetDataResponse, SetSaslResponse,
    SyncResponse, WatcherEvent, WhoAmIResponse,
};
pub use wire::{Decode, Encode};
pub use word::FourLetterWord;

#[cfg(test)]
mod tests;
