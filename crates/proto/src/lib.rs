//! Synod's wire contracts, compiled from /proto at build time: the etcd v3 API and our own internal
//! services.
//!
//! Two things differ from prost's usual output. Neither is visible on the wire:
//! - `bytes` fields are [`bytes::Bytes`], so that keys and values are shared, not copied;
//! - some message fields are declared as `bytes` and hold an *encoded* message:
//!   `RangeResponse.kvs`, `PutResponse.prev_kv`, `DeleteRangeResponse.prev_kvs` (each a
//!   [`etcd::mvccpb::KeyValue`]) and `WatchResponse.events` (each a [`etcd::mvccpb::Event`]). A
//!   store that keeps values in wire form passes them through as they are.
//!
//! [`FILE_DESCRIPTOR_SET`] describes the original services, for reflection.

mod codec;
mod generated;
pub mod http;

/// The content of the `google.rpc.ErrorInfo` in the details of a failed call.
pub mod status {
    /// The domain of our errors.
    pub const ERROR_DOMAIN: &str = "synod";
    /// The request was certainly not done. It is safe to repeat it.
    pub const NOT_DONE: &str = "NOT_DONE";
    /// The request may have been done, or may still be. Read before repeating a request that is not
    /// idempotent.
    pub const OUTCOME_UNKNOWN: &str = "OUTCOME_UNKNOWN";
}

/// The etcd v3 API, with etcd's packages, services, methods and numbers.
pub mod etcd {
    pub use crate::generated::{authpb, etcdserverpb, mvccpb, v3electionpb, v3lockpb};
}

pub use codec::Codec;
pub use generated::synod::{consensus, coordination, replica};

/// The encoded `google.protobuf.FileDescriptorSet` of everything in /proto, for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/synod.fds"));
