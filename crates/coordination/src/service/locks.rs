//! Locks.

use std::sync::Arc;
use std::time::Duration;

use synod_coordination_core::OpError;
use synod_proto::coordination::v1 as pb;
use synod_proto::coordination::v1::locks_server::Locks;
use synod_runtime::clock;
use synod_service::asked_timeout;
use tonic::{Request, Response, Status};

use super::{Shared, wire_token};
use crate::error::Error;
use crate::hub::{Reader, View};
use crate::queue::{
    Acquisition, Contender, Kind, LOCKS, MAX_DELAY_MS, Mode, Place, Queue, Wait, lock_path,
    remove_token,
};

/// The longest description of a holder.
const MAX_OWNER_BYTES: usize = 1024;

/// Locks in a page.
const PAGE: u32 = 100;
const MAX_PAGE: u32 = 1_000;

/// Serves locks.
#[derive(Clone)]
pub(crate) struct LocksService {
    shared: Arc<Shared>,
}

impl LocksService {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    fn place(
        &self,
        session: Option<&pb::SessionRef>,
        name: &str,
        request_id: &str,
    ) -> Result<Place, Error> {
        self.shared.place(session, lock_path(name)?, request_id)
    }

    async fn acquire(
        &self,
        request: pb::AcquireRequest,
        timeout: Option<Duration>,
    ) -> Result<pb::AcquireResponse, Error> {
        let now = clock::now();
        let mode = mode(request.mode())?;
        if request.lock_delay_ms > MAX_DELAY_MS {
            return Err(Error::Invalid {
                what: "lock_delay_ms",
                expected: "at most 60000",
            });
        }
        if request.owner.len() > MAX_OWNER_BYTES {
            return Err(Error::Invalid {
                what: "owner",
                expected: "at most 1024 bytes",
            });
        }
        let wait = match request.wait_ms {
            Some(ms) => Wait::Until(now + Duration::from_millis(ms.into())),
            None => Wait::Deadline(timeout.map(|timeout| now + timeout)),
        };
        let acquisition = Acquisition {
            place: self.place(request.session.as_ref(), &request.name, &request.request_id)?,
            kind: Kind::Lock(mode),
            wait,
            lock_delay_ms: request.lock_delay_ms,
            data: request.owner.into(),
            attempts: Arc::clone(&self.shared.attempts),
            delays: Arc::clone(&self.shared.delays),
        };
        let token = acquisition.run().await?;
        Ok(pb::AcquireResponse {
            acquired: token.is_some(),
            token: wire_token(token.unwrap_or_default()),
        })
    }

    async fn release(&self, request: pb::ReleaseRequest) -> Result<pb::ReleaseResponse, Error> {
        let place = self.place(request.session.as_ref(), &request.name, &request.request_id)?;
        let released = place.release(&self.shared.attempts).await?;
        Ok(pb::ReleaseResponse { released })
    }

    async fn check(&self, request: pb::CheckRequest) -> Result<pb::CheckResponse, Error> {
        let path = lock_path(&request.name)?;
        let client = self.shared.reading().await?;
        let queue = client.reader().look(|view| {
            let queue = Queue::read(view, &path)?;
            self.shared.delays.see(&path, &queue);
            Ok::<_, OpError>(queue)
        })??;
        let token = i64::try_from(request.token);
        Ok(pb::CheckResponse {
            holds: token.is_ok_and(|token| queue.holds(token)),
        })
    }

    async fn list(&self, request: pb::ListLocksRequest) -> Result<pb::ListLocksResponse, Error> {
        let client = self.shared.reading().await?;
        let mut reader = client.reader();
        let limit = match request.limit {
            0 => PAGE,
            limit => limit.min(MAX_PAGE),
        };
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let is_named = !request.name.is_empty();
        let names = match is_named {
            true => vec![request.name],
            false => names_after(&mut reader, &request.after)?,
        };
        let mut locks = Vec::new();
        let mut names = names.into_iter();
        for name in names.by_ref() {
            // One look for each, so that the state is free between them.
            let read = lock_path(&name)
                .and_then(|path| reader.look(|view| self.info(view, &name, &path))?);
            match read {
                Ok(found) => locks.extend(found),
                // Other programs may create nodes that are no locks, or that not all may read.
                Err(Error::Invalid { .. } | Error::NoAuth) if !is_named => {}
                Err(error) => return Err(error),
            }
            if locks.len() == limit {
                break;
            }
        }
        Ok(pb::ListLocksResponse {
            locks,
            more: names.next().is_some(),
        })
    }

    /// `None` if nobody holds the lock or waits for it.
    fn info(&self, view: &View<'_>, name: &str, path: &str) -> Result<Option<pb::LockInfo>, Error> {
        let queue = Queue::read(view, path)?;
        self.shared.delays.see(path, &queue);
        let delayed = queue.delays().next().is_some();
        if !delayed && queue.contenders.is_empty() {
            return Ok(None);
        }
        let contender = |contender: &Contender| pb::Contender {
            token: wire_token(contender.token),
            mode: wire_mode(contender.mode).into(),
            holds: queue.blocker(contender).is_none(),
            session_id: contender.session.get(),
            owner: String::from_utf8_lossy(contender.data(view, path)).into_owned(),
            since_ms: contender.since_ms,
        };
        Ok(Some(pb::LockInfo {
            name: name.to_owned(),
            contenders: queue.contenders.iter().map(contender).collect(),
            delayed,
        }))
    }

    async fn break_lock(&self, request: pb::BreakRequest) -> Result<pb::BreakResponse, Error> {
        let (_, client) = self.shared.sessions.find(request.session.as_ref())?;
        let path = lock_path(&request.name)?;
        let broken = match i64::try_from(request.token) {
            Ok(token) => remove_token(&client, &path, token).await?,
            Err(_) => false,
        };
        Ok(pb::BreakResponse { broken })
    }
}

#[tonic::async_trait]
impl Locks for LocksService {
    async fn acquire(
        &self,
        request: Request<pb::AcquireRequest>,
    ) -> Result<Response<pb::AcquireResponse>, Status> {
        let timeout = asked_timeout(request.metadata()).map_err(Error::from)?;
        let response = self.acquire(request.into_inner(), timeout).await?;
        Ok(Response::new(response))
    }

    async fn release(
        &self,
        request: Request<pb::ReleaseRequest>,
    ) -> Result<Response<pb::ReleaseResponse>, Status> {
        Ok(Response::new(self.release(request.into_inner()).await?))
    }

    async fn check(
        &self,
        request: Request<pb::CheckRequest>,
    ) -> Result<Response<pb::CheckResponse>, Status> {
        Ok(Response::new(self.check(request.into_inner()).await?))
    }

    async fn list(
        &self,
        request: Request<pb::ListLocksRequest>,
    ) -> Result<Response<pb::ListLocksResponse>, Status> {
        Ok(Response::new(self.list(request.into_inner()).await?))
    }

    async fn r#break(
        &self,
        request: Request<pb::BreakRequest>,
    ) -> Result<Response<pb::BreakResponse>, Status> {
        Ok(Response::new(self.break_lock(request.into_inner()).await?))
    }
}

fn names_after(reader: &mut Reader, after: &str) -> Result<Vec<String>, Error> {
    let names = reader.look(|view| view.children(LOCKS))?;
    let names = match names {
        Ok((names, _)) => names,
        Err(OpError::NoNode) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    Ok(names.into_iter().filter(|name| &**name > after).collect())
}

fn mode(mode: pb::LockMode) -> Result<Mode, Error> {
    match mode {
        pb::LockMode::Exclusive => Ok(Mode::Exclusive),
        pb::LockMode::Shared => Ok(Mode::Shared),
        pb::LockMode::Unspecified => Err(Error::Invalid {
            what: "mode",
            expected: "LOCK_MODE_EXCLUSIVE or LOCK_MODE_SHARED",
        }),
    }
}

fn wire_mode(mode: Mode) -> pb::LockMode {
    match mode {
        Mode::Exclusive => pb::LockMode::Exclusive,
        Mode::Shared => pb::LockMode::Shared,
    }
}
