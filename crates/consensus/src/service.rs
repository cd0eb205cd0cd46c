//! The generated service traits: decode, one domain call, encode.

pub(crate) mod cluster;
pub(crate) mod kv;
pub(crate) mod lease;
pub(crate) mod maintenance;
mod snapshot;
pub(crate) mod unsupported;
pub(crate) mod watch;
