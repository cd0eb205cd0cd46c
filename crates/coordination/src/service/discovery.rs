//! Service discovery.

use std::sync::Arc;
use std::time::SystemTime;

use synod_coordination_core::SessionId;
use synod_jute::{self as jute, ErrorCode};
use synod_proto::coordination::v1 as pb;
use synod_proto::coordination::v1::discovery_server::Discovery;
use synod_runtime::{clock, task};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{Shared, wire_token};
use crate::discovery::{
    Catalog, Deltas, Found, Instance, MAX_INSTANCES, Registration, Selected, find, instance_path,
    service_path,
};
use crate::error::Error;
use crate::hub::{CallError, Client, Reader};
use crate::queue::{create, make_queue};

/// Services in a page.
const PAGE: u32 = 100;
const MAX_PAGE: u32 = 1_000;

/// Instances in a page, or in a message: 8 KiB each fit into the 4 MiB that clients take.
const MAX_PAGE_OF_INSTANCES: usize = 400;

/// Messages that wait for a watcher to read them. Then later changes come as one.
const WAITING_CHANGES: usize = 4;

/// How often a write is tried whose node changes meanwhile.
const TRIES: usize = 5;

/// Tags that a reader asks for.
const MAX_TAGS: usize = 32;

/// Serves discovery.
#[derive(Clone)]
pub(crate) struct DiscoveryService {
    shared: Arc<Shared>,
}

type Changes = mpsc::Sender<Result<pb::WatchInstancesResponse, Status>>;

/// What a registration does if there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Absent {
    Create,
    Refuse,
}

/// A session that registers something.
struct Registrar {
    session: SessionId,
    client: Arc<Client>,
    service: String,
    path: String,
}

impl Registrar {
    /// What is registered under the path, if it is the session's.
    fn own(&self) -> Result<Option<Found>, Error> {
        let found = self.client.reader().look(|view| find(view, &self.path))??;
        match found {
            Some(found) if found.owner != self.session => Err(Error::Registered),
            found => Ok(found),
        }
    }

    /// Creates or replaces the node. Returns its token.
    async fn put(&self, registration: &Registration, absent: Absent) -> Result<i64, Error> {
        for _ in 0..TRIES {
            let done = match self.own()? {
                Some(found) => self.replace(registration.clone(), &found).await,
                None if absent == Absent::Refuse => return Err(Error::NotRegistered),
                None => self.create(registration).await,
            };
            match done {
                // It has changed since it was read: its health, say. Or the service's node is gone.
                Err(Error::BadVersion | Error::NoNode | Error::NodeExists) => {}
                done => return done,
            }
        }
        Err(Error::Throttled)
    }

    async fn replace(&self, mut new: Registration, found: &Found) -> Result<i64, Error> {
        new.continues(&found.registration);
        let token = found.token.get();
        if new == found.registration {
            return Ok(token);
        }
        let set = jute::Request::SetData(jute::SetDataRequest {
            path: self.path.as_str().into(),
            data: Some(new.encode().into()),
            version: found.version,
        });
        self.client.call(set).await?;
        Ok(token)
    }

    async fn create(&self, registration: &Registration) -> Result<i64, Error> {
        let children = self.client.reader().look(|view| {
            let stat = view.stat(&self.service);
            stat.map_or(0, |stat| stat.num_children)
        })?;
        if usize::try_from(children).is_ok_and(|children| children >= MAX_INSTANCES) {
            let limit = MAX_INSTANCES;
            return Err(Error::TooManyInstances { limit });
        }
        let data = registration.encode().into();
        let node = create(self.path.clone(), data, jute::CreateMode::Ephemeral);
        match self.client.call(jute::Request::Create2(node)).await {
            Ok(jute::Response::Create2(created)) => Ok(created.stat.czxid),
            Ok(_) => Err(Error::Internal(ErrorCode::SystemError)),
            Err(CallError::Refused(ErrorCode::NoNode)) => {
                make_queue(&self.client, &self.service).await?;
                Err(Error::NoNode)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes the node with this token; zero: if it is the session's. Returns whether there was
    /// one.
    async fn delete(&self, token: u64) -> Result<bool, Error> {
        for _ in 0..TRIES {
            let found = self.client.reader().look(|view| find(view, &self.path))??;
            let is_meant = |found: &Found| match token {
                0 => found.owner == self.session,
                token => wire_token(found.token.get()) == token,
            };
            let Some(found) = found.filter(is_meant) else {
                return Ok(false);
            };
            let delete = jute::Request::Delete(jute::DeleteRequest {
                path: self.path.as_str().into(),
                version: found.version,
            });
            match self.client.call(delete).await {
                Ok(_) => return Ok(true),
                Err(CallError::Refused(ErrorCode::BadVersion | ErrorCode::NoNode)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::Throttled)
    }
}

impl DiscoveryService {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    fn registrar(
        &self,
        session: Option<&pb::SessionRef>,
        service: &str,
        id: &str,
    ) -> Result<Registrar, Error> {
        let (session, client) = self.shared.sessions.find(session)?;
        Ok(Registrar {
            session,
            client,
            service: service_path(service)?,
            path: instance_path(service, id)?,
        })
    }

    async fn register(
        &self,
        request: pb::RegisterRequest,
        absent: Absent,
    ) -> Result<pb::RegisterResponse, Error> {
        let instance = request.instance.ok_or(Error::Invalid {
            what: "instance",
            expected: "an instance",
        })?;
        let (service, id) = (instance.service.clone(), instance.id.clone());
        let registration = Registration::from_wire(instance, now_ms())?;
        let registrar = self.registrar(request.session.as_ref(), &service, &id)?;
        let checker = &self.shared.checker;
        let address = registration.ip().filter(|_| registration.probed());
        if address.is_some_and(|address| !checker.allowed().contain(address)) {
            return Err(Error::Invalid {
                what: "address",
                expected: "an address in the networks of --check-allow, since the instance has checks",
            });
        }
        if registration.is_checked() {
            checker.check_room(&registrar.path)?;
        }
        let token = registrar.put(&registration, absent).await?;
        checker.start(registrar.session, &registrar.client, &registrar.path);
        Ok(pb::RegisterResponse {
            token: wire_token(token),
        })
    }

    async fn deregister(
        &self,
        request: pb::DeregisterRequest,
    ) -> Result<pb::DeregisterResponse, Error> {
        let session = request.session.as_ref();
        let registrar = self.registrar(session, &request.service, &request.id)?;
        let deregistered = registrar.delete(request.token).await?;
        Ok(pb::DeregisterResponse { deregistered })
    }

    fn heartbeat(&self, request: &pb::HeartbeatRequest) -> Result<(), Error> {
        let session = request.session.as_ref();
        let registrar = self.registrar(session, &request.service, &request.id)?;
        let found = registrar.own()?.ok_or(Error::NotRegistered)?;
        if !found.registration.has_ttl() {
            return Err(Error::Invalid {
                what: "the instance",
                expected: "one with a TTL check: others need no heartbeats",
            });
        }
        let has_passed = request.health() != pb::Health::Failing;
        let checker = &self.shared.checker;
        checker.beat(&registrar.path, &registrar.client, has_passed)
    }

    async fn list(
        &self,
        request: pb::ListServicesRequest,
    ) -> Result<pb::ListServicesResponse, Error> {
        let client = self.shared.reading().await?;
        let limit = match request.limit {
            0 => PAGE,
            limit => limit.min(MAX_PAGE),
        };
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let names = client.reader().look(|view| Catalog::services(view))??;
        let mut names = names.into_iter().filter(|name| *name > request.after);
        Ok(pb::ListServicesResponse {
            services: names.by_ref().take(limit).collect(),
            more: names.next().is_some(),
        })
    }

    async fn get(
        &self,
        request: pb::GetInstancesRequest,
    ) -> Result<pb::GetInstancesResponse, Error> {
        let path = service_path(&request.service)?;
        let selected = selected(request.selection(), request.tags)?;
        let client = self.shared.reading().await?;
        let limit = match request.limit {
            0 => PAGE,
            limit => limit,
        };
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut reader = client.reader();
        let found = Catalog::instances(&mut reader, &request.service, &path, &selected)?;
        let found = found.unwrap_or_default().into_iter();
        let mut found = found.filter(|instance| instance.id > request.after);
        Ok(pb::GetInstancesResponse {
            instances: found
                .by_ref()
                .take(limit.min(MAX_PAGE_OF_INSTANCES))
                .collect(),
            more: found.next().is_some(),
        })
    }

    async fn watch(
        &self,
        request: pb::WatchInstancesRequest,
    ) -> Result<ReceiverStream<Result<pb::WatchInstancesResponse, Status>>, Error> {
        let path = service_path(&request.service)?;
        let selected = selected(request.selection(), request.tags)?;
        let client = self.shared.reading().await?;
        let deltas = Deltas::new(request.service, path, selected);
        let (changes, stream) = mpsc::channel(WAITING_CHANGES);
        let stop = self.shared.stop.clone();
        drop(task::spawn("watch-service", async move {
            let ended = tokio::select! {
                biased; // a pod that stops tells nothing more
                () = stop.triggered() => Err(Error::Stopping),
                () = changes.closed() => return,
                ended = watch(client.reader(), deltas, &changes) => ended,
            };
            if let Err(error) = ended {
                // The client may be gone.
                drop(changes.send(Err(error.into())).await);
            }
        }));
        Ok(ReceiverStream::new(stream))
    }
}

#[tonic::async_trait]
impl Discovery for DiscoveryService {
    type WatchInstancesStream = ReceiverStream<Result<pb::WatchInstancesResponse, Status>>;

    async fn register(
        &self,
        request: Request<pb::RegisterRequest>,
    ) -> Result<Response<pb::RegisterResponse>, Status> {
        let request = request.into_inner();
        Ok(Response::new(self.register(request, Absent::Create).await?))
    }

    async fn update(
        &self,
        request: Request<pb::RegisterRequest>,
    ) -> Result<Response<pb::RegisterResponse>, Status> {
        let request = request.into_inner();
        Ok(Response::new(self.register(request, Absent::Refuse).await?))
    }

    async fn deregister(
        &self,
        request: Request<pb::DeregisterRequest>,
    ) -> Result<Response<pb::DeregisterResponse>, Status> {
        Ok(Response::new(self.deregister(request.into_inner()).await?))
    }

    async fn heartbeat(
        &self,
        request: Request<pb::HeartbeatRequest>,
    ) -> Result<Response<pb::HeartbeatResponse>, Status> {
        self.heartbeat(request.get_ref())?;
        Ok(Response::new(pb::HeartbeatResponse {}))
    }

    async fn list_services(
        &self,
        request: Request<pb::ListServicesRequest>,
    ) -> Result<Response<pb::ListServicesResponse>, Status> {
        Ok(Response::new(self.list(request.into_inner()).await?))
    }

    async fn get_instances(
        &self,
        request: Request<pb::GetInstancesRequest>,
    ) -> Result<Response<pb::GetInstancesResponse>, Status> {
        Ok(Response::new(self.get(request.into_inner()).await?))
    }

    async fn watch_instances(
        &self,
        request: Request<pb::WatchInstancesRequest>,
    ) -> Result<Response<Self::WatchInstancesStream>, Status> {
        Ok(Response::new(self.watch(request.into_inner()).await?))
    }
}

/// Tells of all instances, and of each change, until the pod serves no longer.
async fn watch(mut reader: Reader, mut deltas: Deltas, changes: &Changes) -> Result<(), Error> {
    let mut is_first = true;
    loop {
        let (changed, removed) = deltas.next(&mut reader)?;
        if is_first || !changed.is_empty() || !removed.is_empty() {
            is_first = false;
            for message in messages(changed, removed) {
                if changes.send(Ok(message)).await.is_err() {
                    return Ok(());
                }
            }
        }
        reader.changed().await;
    }
}

/// A change as messages that clients take. What was removed fits into the last one.
fn messages(changed: Vec<Instance>, removed: Vec<String>) -> Vec<pb::WatchInstancesResponse> {
    let parts = changed.chunks(MAX_PAGE_OF_INSTANCES);
    let mut messages: Vec<_> = parts
        .map(|part| pb::WatchInstancesResponse {
            changed: part.to_vec(),
            removed: Vec::new(),
            complete: false,
        })
        .collect();
    if messages.is_empty() {
        messages.push(pb::WatchInstancesResponse::default());
    }
    if let Some(last) = messages.last_mut() {
        last.removed = removed;
        last.complete = true;
    }
    messages
}

fn selected(selection: pb::Selection, tags: Vec<String>) -> Result<Selected, Error> {
    match tags.len() <= MAX_TAGS {
        true => Ok(Selected { selection, tags }),
        false => Err(Error::Invalid {
            what: "tags",
            expected: "at most 32",
        }),
    }
}

/// For people to see when an instance was registered.
fn now_ms() -> i64 {
    let since = clock::wall().duration_since(SystemTime::UNIX_EPOCH);
    let ms = since.map(|since| since.as_millis()).unwrap_or_default();
    i64::try_from(ms).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_change_is_complete_with_its_last_message() {
        let count = |changed, removed| {
            let messages = messages(vec![Instance::default(); changed], removed);
            messages
                .into_iter()
                .map(|message| {
                    (
                        message.changed.len(),
                        message.removed.len(),
                        message.complete,
                    )
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(count(0, Vec::new()), [(0, 0, true)]);
        assert_eq!(count(400, vec![String::new()]), [(400, 1, true)]);
        assert_eq!(
            count(801, vec![String::new(); 2]),
            [(400, 0, false), (400, 0, false), (1, 2, true)]
        );
    }
}
