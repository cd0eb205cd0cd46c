//! Implements the generated service traits: decode, one domain call, encode.

pub(crate) mod auth;
pub(crate) mod cluster;
pub(crate) mod election;
pub(crate) mod kv;
mod large_read;
mod leaderless;
pub(crate) mod lease;
pub(crate) mod lock;
pub(crate) mod maintenance;
pub(crate) mod peer;
pub(crate) mod queue;
mod range_stream;
mod reply;
mod snapshot;
mod sorted_stream;
pub(crate) mod watch;

use synod_types::NodeId;
use tonic::Response;
use tonic::metadata::MetadataValue;

use crate::shared::ServiceContext;

/// The metadata with the name of the consensus algorithm, for which etcd's messages have no field.
/// It comes with `Status`, and with `MemberList` on the peer port.
pub const ALGORITHM_METADATA: &str = "synod-engine";

/// The metadata of `MemberList` that names the members that were added as voters and don't count
/// for the quorum yet: their ids in hexadecimal, separated by commas.
pub const JOINING_METADATA: &str = "synod-joining";

/// A response that names the members that don't count yet, if any.
fn with_joining<T>(shared: &ServiceContext, message: T) -> Response<T> {
    let mut response = Response::new(message);
    let ids: Vec<String> = shared.joining().iter().map(NodeId::to_string).collect();
    if !ids.is_empty()
        && let Ok(ids) = MetadataValue::try_from(ids.join(","))
    {
        response.metadata_mut().insert(JOINING_METADATA, ids);
    }
    response
}

/// A response that names the algorithm.
fn with_engine<T>(shared: &ServiceContext, message: T) -> Response<T> {
    let mut response = Response::new(message);
    if let Ok(name) = MetadataValue::try_from(shared.settings.algorithm.to_string()) {
        response.metadata_mut().insert(ALGORITHM_METADATA, name);
    }
    response
}
