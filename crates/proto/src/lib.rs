//! Synod's wire contracts, compiled from /proto at build time: the etcd v3 API and our own internal
//! services.
//!
//! Two things differ from what prost generates usually, neither of them visible on the wire:
//! - `bytes` fields are [`bytes::Bytes`], so that keys and values are shared, not copied;
//! - some message fields are declared as `bytes` and hold an *encoded* message:
//!   `RangeResponse.kvs`, `PutResponse.prev_kv`, `DeleteRangeResponse.prev_kvs` (each a
//!   [`etcd::mvccpb::KeyValue`]) and `WatchResponse.events` (each a [`etcd::mvccpb::Event`]). A
//!   store that keeps values in wire form passes them through as they are.
//!
//! [`FILE_DESCRIPTOR_SET`] describes the services as they really are, for reflection.

mod codec;
mod generated;

/// What the `google.rpc.ErrorInfo` in the details of a failed call says.
pub mod status {
    /// The domain of our errors.
    pub const ERROR_DOMAIN: &str = "synod";
    /// The request certainly was not done: it is safe to make it again.
    pub const NOT_DONE: &str = "NOT_DONE";
    /// The request may have been done, or may still be: read before repeating what is not
    /// idempotent.
    pub const OUTCOME_UNKNOWN: &str = "OUTCOME_UNKNOWN";
}

/// The etcd v3 API: same packages, services, methods and numbers as etcd's own.
pub mod etcd {
    pub use crate::generated::{authpb, etcdserverpb, mvccpb, v3electionpb, v3lockpb};
}

pub use codec::Codec;
pub use generated::synod::{consensus, replica};

/// The encoded `google.protobuf.FileDescriptorSet` of everything in /proto, for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/synod.fds"));
