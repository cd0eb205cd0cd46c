//! The lease workload: grant, keep alive once, revoke.

use std::{cell::RefCell, rc::Rc};

use futures::future;
use synod_proto::etcd::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseRevokeRequest,
    lease_client::LeaseClient,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Channel};

use super::{Shape, load::closed_loop, report::Report};

/// In seconds; long enough that no lease expires during the measurement.
const TTL_SECONDS: i64 = 600;

struct KeepAlive {
    requests: mpsc::Sender<LeaseKeepAliveRequest>,
    answers: Streaming<LeaseKeepAliveResponse>,
}

impl KeepAlive {
    async fn open(mut client: LeaseClient<Channel>) -> Result<Self, Status> {
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
pub(crate) async fn run(shape: &Shape, channels: Vec<Channel>) -> anyhow::Result<Report> {
    let clients: Vec<LeaseClient<Channel>> = (0..usize::from(shape.clients))
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

async fn cycle(
    mut client: LeaseClient<Channel>,
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
