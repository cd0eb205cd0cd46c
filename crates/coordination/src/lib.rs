//! The coordination service: ZooKeeper's tree and sessions as a state machine that every pod runs
//! over a log in an etcd v3 endpoint.
//!
//! # What it owns
//! - The keys below a root of the endpoint: the log, the leadership key and the checkpoints. Only
//!   pods of one service write there.
//!
//! # What it guarantees
//! - **One order.** All pods apply the same batches. Only the pod that holds the leadership key
//!   appends, and a pod that lost it can't.
//! - **Nothing is lost.** A command is acknowledged after it is in the log. An append whose outcome
//!   is unknown is read, not repeated.
//! - **No stale `sync`.** It reads the log's end linearizably.
//!
//! # What it never does
//! It keeps no durable state of its own, and reaches the consensus service by the etcd API alone.

mod applying;
mod checkpoint;
mod endpoint;
mod following;
mod hub;
mod leadership;
mod sequencing;
mod shared_log;

use std::sync::Arc;

use synod_coordination_core::PodId;
use synod_runtime::random;
use synod_runtime::shutdown::Shutdown;

use endpoint::{Endpoint, EndpointError};
use hub::Hub;
use leadership::Leader;
use shared_log::SharedLog;

/// What a pod needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// The servers of the etcd endpoint, `http://host:port` each.
    pub endpoints: Vec<String>,
    /// The start of all keys. Pods with the same root are one service.
    pub root: String,
    /// Where other pods reach this one.
    pub address: String,
}

/// Why a pod does not start.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(EndpointError);

/// Runs a pod until `stop` is triggered.
///
/// # Errors
/// The endpoint can't be reached, or can't hold the log.
pub async fn run(config: Config, stop: Shutdown) -> Result<(), Error> {
    let pod = PodId::new(random::u64().max(1));
    let endpoint = Endpoint::connect(&config.endpoints, &config.root).await;
    let endpoint = endpoint.map_err(Error)?;
    let limits = SharedLog::limits(&endpoint).await.map_err(Error)?;
    let hub = Arc::new(Hub::new(pod, random::seed(), limits.outbox));
    let own = Leader {
        pod,
        address: config.address,
    };
    let log = SharedLog::start(endpoint, hub, own, limits, &stop);
    stop.triggered().await;
    log.stopped().await;
    Ok(())
}
