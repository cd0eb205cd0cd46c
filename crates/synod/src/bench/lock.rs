//! The lock workload: take a lock and release it.

use synod_proto::etcd::etcdserverpb::{LeaseGrantRequest, lease_client::LeaseClient};
use synod_proto::etcd::v3lockpb::{LockRequest, UnlockRequest, lock_client::LockClient};
use tonic::Status;

use super::{Shape, load::closed_loop, report::Report};
use crate::connect::Connection;

/// In seconds; long enough that no lease expires during the measurement.
const TTL_SECONDS: i64 = 600;

/// Whether the clients compete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Names {
    /// Each client has a lock of its own.
    Own,
    /// All clients want the same lock.
    Same,
}

/// Runs the workload. Each client has a lease; the leases are left to expire.
///
/// # Errors
/// A lease was not granted.
pub(crate) async fn run(
    shape: &Shape,
    channels: Vec<Connection>,
    names: Names,
) -> anyhow::Result<Report> {
    let mut clients = Vec::new();
    for number in 0..usize::from(shape.clients) {
        let channel = channels[number % channels.len()].clone();
        let grant = LeaseGrantRequest {
            ttl: TTL_SECONDS,
            id: 0,
        };
        let granted = LeaseClient::new(channel.clone()).lease_grant(grant).await?;
        let name = match names {
            Names::Own => format!("{}{number}", shape.prefix),
            Names::Same => shape.prefix.clone(),
        };
        let request = LockRequest {
            name: name.into(),
            lease: granted.into_inner().id,
        };
        clients.push((LockClient::new(channel), request));
    }
    let (samples, elapsed) = closed_loop(shape, |number| {
        let (client, request) = clients[usize::from(number)].clone();
        move || cycle(client.clone(), request.clone())
    })
    .await;
    Ok(samples.report("lock-cycle", shape.clients, elapsed))
}

async fn cycle(mut client: LockClient<Connection>, request: LockRequest) -> Result<(), Status> {
    let held = client.lock(request).await?.into_inner();
    let release = UnlockRequest { key: held.key };
    client.unlock(release).await.map(drop)
}
