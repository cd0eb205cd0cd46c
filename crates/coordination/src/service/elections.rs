//! Elections.

use std::sync::Arc;
use std::time::Duration;

use synod_coordination_core::WatchKind;
use synod_jute::{ErrorCode, SetDataRequest};
use synod_proto::coordination::v1 as pb;
use synod_proto::coordination::v1::elections_server::Elections;
use synod_runtime::{clock, task};
use synod_service::asked_timeout;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{Shared, wire_token};
use crate::error::Error;
use crate::hub::{CallError, Reader, View};
use crate::queue::{Acquisition, Kind, Place, Queue, Wait, election_path};

/// Leaders that wait for an observer to read them. Then later ones replace each other.
const WAITING_LEADERS: usize = 4;

/// Serves elections.
#[derive(Clone)]
pub(crate) struct ElectionsService {
    shared: Arc<Shared>,
}

type Leaders = mpsc::Sender<Result<pb::LeaderResponse, Status>>;

impl ElectionsService {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    fn place(
        &self,
        session: Option<&pb::SessionRef>,
        name: &str,
        request_id: &str,
    ) -> Result<Place, Error> {
        self.shared.place(session, election_path(name)?, request_id)
    }

    async fn campaign(
        &self,
        request: pb::CampaignRequest,
        timeout: Option<Duration>,
    ) -> Result<pb::CampaignResponse, Error> {
        let campaign = Acquisition {
            place: self.place(request.session.as_ref(), &request.name, &request.request_id)?,
            kind: Kind::Election,
            wait: Wait::Deadline(timeout.map(|timeout| clock::now() + timeout)),
            lock_delay_ms: 0,
            data: request.value,
            attempts: Arc::clone(&self.shared.attempts),
            delays: Arc::clone(&self.shared.delays),
        };
        // Without a time of its own it ends with a token or fails.
        let token = campaign.run().await?.ok_or(Error::DeadlineExceeded)?;
        Ok(pb::CampaignResponse {
            token: wire_token(token),
        })
    }

    async fn proclaim(&self, request: pb::ProclaimRequest) -> Result<(), Error> {
        let place = self.place(request.session.as_ref(), &request.name, &request.request_id)?;
        // Who leads does so as long as its node exists.
        let path = place.held()?.ok_or(Error::NotLeader)?;
        let set = synod_jute::Request::SetData(SetDataRequest {
            path: path.into(),
            data: Some(request.value),
            version: -1,
        });
        match place.client.call(set).await {
            Ok(_) => Ok(()),
            Err(CallError::Refused(ErrorCode::NoNode)) => Err(Error::NotLeader),
            Err(error) => Err(error.into()),
        }
    }

    async fn resign(&self, request: pb::ResignRequest) -> Result<pb::ResignResponse, Error> {
        let place = self.place(request.session.as_ref(), &request.name, &request.request_id)?;
        let resigned = place.release(&self.shared.attempts).await?;
        Ok(pb::ResignResponse { resigned })
    }

    async fn leader(&self, request: &pb::LeaderRequest) -> Result<pb::LeaderResponse, Error> {
        let path = election_path(&request.name)?;
        let client = self.shared.reading().await?;
        let leader = client.reader().look(|view| leader(view, &path))??;
        Ok(pb::LeaderResponse { leader })
    }

    async fn observe(
        &self,
        request: &pb::LeaderRequest,
    ) -> Result<ReceiverStream<Result<pb::LeaderResponse, Status>>, Error> {
        let path = election_path(&request.name)?;
        let client = self.shared.reading().await?;
        let (leaders, stream) = mpsc::channel(WAITING_LEADERS);
        let stop = self.shared.stop.clone();
        drop(task::spawn("observe", async move {
            let observing = observe(client.reader(), &path, &leaders);
            let ended = tokio::select! {
                biased; // a pod that stops tells nothing more
                () = stop.triggered() => Err(Error::Stopping),
                () = leaders.closed() => return,
                ended = observing => ended,
            };
            if let Err(error) = ended {
                // The client may be gone.
                drop(leaders.send(Err(error.into())).await);
            }
        }));
        Ok(ReceiverStream::new(stream))
    }
}

#[tonic::async_trait]
impl Elections for ElectionsService {
    type ObserveStream = ReceiverStream<Result<pb::LeaderResponse, Status>>;

    async fn campaign(
        &self,
        request: Request<pb::CampaignRequest>,
    ) -> Result<Response<pb::CampaignResponse>, Status> {
        let timeout = asked_timeout(request.metadata()).map_err(Error::from)?;
        let response = self.campaign(request.into_inner(), timeout).await?;
        Ok(Response::new(response))
    }

    async fn proclaim(
        &self,
        request: Request<pb::ProclaimRequest>,
    ) -> Result<Response<pb::ProclaimResponse>, Status> {
        self.proclaim(request.into_inner()).await?;
        Ok(Response::new(pb::ProclaimResponse {}))
    }

    async fn resign(
        &self,
        request: Request<pb::ResignRequest>,
    ) -> Result<Response<pb::ResignResponse>, Status> {
        Ok(Response::new(self.resign(request.into_inner()).await?))
    }

    async fn leader(
        &self,
        request: Request<pb::LeaderRequest>,
    ) -> Result<Response<pb::LeaderResponse>, Status> {
        Ok(Response::new(self.leader(request.get_ref()).await?))
    }

    async fn observe(
        &self,
        request: Request<pb::LeaderRequest>,
    ) -> Result<Response<Self::ObserveStream>, Status> {
        Ok(Response::new(self.observe(request.get_ref()).await?))
    }
}

/// Tells of the leader now, and of each change, until the pod serves no longer.
async fn observe(mut reader: Reader, path: &str, leaders: &Leaders) -> Result<(), Error> {
    let mut told = None;
    loop {
        let leader = reader.look(|view| {
            if !watch(view, path)? {
                return Err(Error::Throttled);
            }
            leader(view, path)
        })??;
        let response = pb::LeaderResponse { leader };
        if told.as_ref() != Some(&response) {
            told = Some(response.clone());
            if leaders.send(Ok(response)).await.is_err() {
                return Ok(());
            }
        }
        reader.changed().await;
    }
}

/// Leaves watches for the next change of the leader. Returns whether there was room.
fn watch(view: &mut View<'_>, path: &str) -> Result<bool, Error> {
    let queue = Queue::read(view, path)?;
    Ok(match queue.contenders.first() {
        Some(leader) => view.watch(&format!("{path}/{}", leader.name), WatchKind::Data),
        // The parent may not exist yet, or go.
        None => view.watch(path, WatchKind::Data) && view.watch(path, WatchKind::Child),
    })
}

fn leader(view: &View<'_>, path: &str) -> Result<Option<pb::Leader>, Error> {
    let queue = Queue::read(view, path)?;
    Ok(queue.contenders.first().map(|first| pb::Leader {
        token: wire_token(first.token),
        value: first.data(view, path).to_vec().into(),
        session_id: first.session.get(),
    }))
}
