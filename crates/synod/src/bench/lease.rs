//! The lease workloads: grant, keep alive once and revoke; and many leases kept alive.

use std::{cell::RefCell, collections::VecDeque, rc::Rc};

use futures::future;
use synod_proto::etcd::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseRevokeRequest,
    lease_client::LeaseClient,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{Shape, load::closed_loop, report::Report};
use crate::connect::Connection;

/// In seconds; long enough that no lease expires during the measurement.
const TTL_SECONDS: i64 = 600;

struct KeepAlive {
    requests: mpsc::Sender<LeaseKeepAliveRequest>,
    answers: Streaming<LeaseKeepAliveResponse>,
}

impl KeepAlive {
    async fn open(mut client: LeaseClient<Connection>) -> Result<Self, Status> {
        let (requests, receiver) = mpsc::channel(1);
        // The server may send its headers only after the first request.
        requests
            .send(LeaseKeepAliveRequest { id: 1 })
            .await
            .map_err(|_| Status::cancelled("the stream ended"))?;
        let mut answers = client
            .lease_keep_alive(ReceiverStream::new(receiver))
            .await?
            .into_inner();
        answers.message().await?;
        Ok(Self { requests, answers })
    }

    async fn once(&mut self, id: i64) -> Result<(), Status> {
        self.requests
            .send(LeaseKeepAliveRequest { id })
            .await
            .map_err(|_| Status::cancelled("the keep-alive stream ended"))?;
        let answer = self.answers.message().await?;
        match answer {
            Some(answer) if answer.id == id && answer.ttl > 0 => Ok(()),
            _ => Err(Status::internal("the lease was not kept alive")),
        }
    }
}

/// Runs the workload. Each client has its own keep-alive stream.
///
/// # Errors
/// A keep-alive stream could not be opened.
pub(crate) async fn run(shape: &Shape, channels: Vec<Connection>) -> anyhow::Result<Report> {
    let clients: Vec<LeaseClient<Connection>> = (0..usize::from(shape.clients))
        .map(|number| LeaseClient::new(channels[number % channels.len()].clone()))
        .collect();
    let streams = future::try_join_all(clients.iter().cloned().map(KeepAlive::open)).await?;
    let streams: Vec<_> = streams
        .into_iter()
        .map(|s| Rc::new(RefCell::new(Some(s))))
        .collect();
    let (samples, elapsed) = closed_loop(shape, |number| {
        let client = clients[usize::from(number)].clone();
        let stream = Rc::clone(&streams[usize::from(number)]);
        move || cycle(client.clone(), Rc::clone(&stream))
    })
    .await;
    Ok(samples.report("lease-cycle", shape.clients, elapsed))
}

/// Grants `leases` leases, which the clients then keep alive: each has its share and a stream of
/// its own, and takes its leases in turn.
///
/// # Errors
/// A lease could not be granted, or a keep-alive stream not opened.
pub(crate) async fn keep_alive(
    shape: &Shape,
    channels: Vec<Connection>,
    leases: u32,
) -> anyhow::Result<Report> {
    let clients = usize::from(shape.clients);
    let share = |number| (number..leases as usize).step_by(clients).count().max(1);
    let prepare = (0..clients).map(|number| {
        let mut client = LeaseClient::new(channels[number % channels.len()].clone());
        async move {
            let mut ids = VecDeque::new();
            for _ in 0..share(number) {
                let ttl = TTL_SECONDS;
                let granted = client.lease_grant(LeaseGrantRequest { ttl, id: 0 });
                ids.push_back(granted.await?.into_inner().id);
            }
            let stream = KeepAlive::open(client).await?;
            Ok::<_, Status>(Rc::new(RefCell::new(Some((stream, ids)))))
        }
    });
    let prepared = future::try_join_all(prepare).await?;
    let (samples, elapsed) = closed_loop(shape, |number| {
        let place = Rc::clone(&prepared[usize::from(number)]);
        move || {
            let place = Rc::clone(&place);
            async move {
                // Taken out during the wait, so that no borrow is held across it.
                let taken = place.borrow_mut().take();
                let ended = || Status::cancelled("the keep-alive stream ended");
                let (mut stream, mut ids) = taken.ok_or_else(ended)?;
                ids.rotate_left(1);
                stream.once(ids[0]).await?;
                place.borrow_mut().replace((stream, ids));
                Ok(())
            }
        }
    })
    .await;
    Ok(samples.report(&format!("keep-alive-{leases}"), shape.clients, elapsed))
}

async fn cycle(
    mut client: LeaseClient<Connection>,
    stream: Rc<RefCell<Option<KeepAlive>>>,
) -> Result<(), Status> {
    let granted = client
        .lease_grant(LeaseGrantRequest {
            ttl: TTL_SECONDS,
            id: 0,
        })
        .await?;
    let id = granted.into_inner().id;
    // Taken out during the wait, so that no borrow is held across it. A failed stream is not put
    // back.
    let taken = stream.borrow_mut().take();
    let mut keep_alive = match taken {
        Some(keep_alive) => keep_alive,
        None => KeepAlive::open(client.clone()).await?,
    };
    keep_alive.once(id).await?;
    stream.borrow_mut().replace(keep_alive);
    client
        .lease_revoke(LeaseRevokeRequest { id })
        .await
        .map(drop)
}
