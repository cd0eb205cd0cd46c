//! The generated service traits: decode, one domain call, encode.

pub(crate) mod cluster;
pub(crate) mod kv;
mod large_read;
mod leaderless;
pub(crate) mod lease;
pub(crate) mod maintenance;
mod reply;
mod snapshot;
pub(crate) mod unsupported;
pub(crate) mod watch;

use tonic::Response;
use tonic::metadata::MetadataValue;

use crate::shared::ServiceContext;

/// The metadata of `Status`, and of `MemberList` on the peer port, with the name of the consensus
/// algorithm. etcd's messages have no place for it.
pub const ALGORITHM_METADATA: &str = "synod-engine";

/// A response that tells the algorithm beside what etcd's would.
fn with_engine<T>(shared: &ServiceContext, message: T) -> Response<T> {
    let mut response = Response::new(message);
    if let Ok(name) = MetadataValue::try_from(shared.settings.algorithm.to_string()) {
        response.metadata_mut().insert(ALGORITHM_METADATA, name);
    }
    response
}
