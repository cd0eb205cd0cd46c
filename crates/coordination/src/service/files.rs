//! Files: the nodes of the tree.

use std::sync::Arc;

use synod_coordination_core::{Acl, OpError, Stat, WatchKind, validate_path};
use synod_jute as jute;
use synod_jute::ErrorCode;
use synod_proto::coordination::v1 as pb;
use synod_proto::coordination::v1::files_server::Files;
use synod_runtime::task;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::Shared;
use crate::convert::wire_stat;
use crate::error::Error;
use crate::hub::{Client, Reader, View};

/// Names in a page.
const PAGE: u32 = 1_000;
const MAX_PAGE: u32 = 10_000;

/// Changes that wait for a client to read them. Then later ones replace each other.
const WAITING_CHANGES: usize = 4;

/// Any version.
const ANY: i32 = -1;

/// Serves files.
#[derive(Clone)]
pub(crate) struct FilesService {
    shared: Arc<Shared>,
}

type Changes = mpsc::Sender<Result<pb::WatchFileResponse, Status>>;

impl FilesService {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// A connection with the identities of a session, if one is named.
    async fn reader(&self, session: Option<&pb::SessionRef>) -> Result<Reader, Error> {
        let anonymous = self.shared.reading().await?;
        Ok(match session {
            None => anonymous.reader(),
            Some(_) => self.shared.sessions.find(session)?.1.reader(),
        })
    }

    fn client(&self, session: Option<&pb::SessionRef>) -> Result<Arc<Client>, Error> {
        Ok(self.shared.sessions.find(session)?.1)
    }

    async fn get(&self, request: &pb::GetFileRequest) -> Result<pb::File, Error> {
        validate_path(&request.path)?;
        let mut reader = self.reader(request.session.as_ref()).await?;
        reader.look(|view| file(view, &request.path))?
    }

    async fn create(&self, request: pb::CreateFileRequest) -> Result<pb::File, Error> {
        let client = self.client(request.session.as_ref())?;
        let mode = match request.ephemeral {
            true => jute::CreateMode::Ephemeral,
            false => jute::CreateMode::Persistent,
        };
        let open = || vec![jute::Acl::new(31, "world", "anyone")];
        let acl = match request.acl.is_empty() {
            true => open(),
            false => request.acl.into_iter().map(wire_acl).collect(),
        };
        let create = jute::Request::Create2(jute::CreateRequest {
            path: request.path.clone().into(),
            data: Some(request.data.clone()),
            acl: Some(acl),
            flags: mode.code(),
        });
        let jute::Response::Create2(created) = client.call(create).await? else {
            return Err(Error::Internal(ErrorCode::SystemError));
        };
        Ok(wire_file(request.path, request.data, &created.stat))
    }

    async fn set(&self, request: pb::SetFileRequest) -> Result<pb::File, Error> {
        let client = self.client(request.session.as_ref())?;
        let set = jute::Request::SetData(jute::SetDataRequest {
            path: request.path.clone().into(),
            data: Some(request.data.clone()),
            version: version(request.generation)?,
        });
        let jute::Response::SetData(set) = client.call(set).await? else {
            return Err(Error::Internal(ErrorCode::SystemError));
        };
        Ok(wire_file(request.path, request.data, &set.stat))
    }

    async fn delete(&self, request: pb::DeleteFileRequest) -> Result<(), Error> {
        let client = self.client(request.session.as_ref())?;
        let delete = jute::Request::Delete(jute::DeleteRequest {
            path: request.path.into(),
            version: version(request.generation)?,
        });
        client.call(delete).await?;
        Ok(())
    }

    async fn list(&self, request: &pb::ListFilesRequest) -> Result<pb::ListFilesResponse, Error> {
        validate_path(&request.path)?;
        let mut reader = self.reader(request.session.as_ref()).await?;
        let limit = match request.limit {
            0 => PAGE,
            limit => limit.min(MAX_PAGE),
        };
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let (names, _) = reader.look(|view| view.children(&request.path))??;
        let mut names = names.into_iter().filter(|name| *name > request.after);
        Ok(pb::ListFilesResponse {
            names: names.by_ref().take(limit).collect(),
            more: names.next().is_some(),
        })
    }

    async fn watch(
        &self,
        request: pb::GetFileRequest,
    ) -> Result<ReceiverStream<Result<pb::WatchFileResponse, Status>>, Error> {
        validate_path(&request.path)?;
        let reader = self.reader(request.session.as_ref()).await?;
        let (changes, stream) = mpsc::channel(WAITING_CHANGES);
        let stop = self.shared.stop.clone();
        drop(task::spawn("watch-file", async move {
            let ended = tokio::select! {
                biased; // a pod that stops tells nothing more
                () = stop.triggered() => Err(Error::Stopping),
                () = changes.closed() => return,
                ended = watch(reader, &request.path, &changes) => ended,
            };
            if let Err(error) = ended {
                // The client may be gone.
                drop(changes.send(Err(error.into())).await);
            }
        }));
        Ok(ReceiverStream::new(stream))
    }

    async fn get_acl(&self, request: &pb::GetFileRequest) -> Result<pb::FileAcl, Error> {
        validate_path(&request.path)?;
        let mut reader = self.reader(request.session.as_ref()).await?;
        let (acl, stat) = reader.look(|view| view.acl(&request.path))??;
        let entry = |acl: Acl| pb::AclEntry {
            permissions: acl.perms.bits(),
            scheme: acl.id.scheme,
            id: acl.id.id,
        };
        Ok(pb::FileAcl {
            acl: acl.into_iter().map(entry).collect(),
            generation: stat.aversion,
        })
    }

    async fn set_acl(&self, request: pb::SetFileAclRequest) -> Result<pb::FileAcl, Error> {
        let client = self.client(request.session.as_ref())?;
        let set = jute::Request::SetAcl(jute::SetAclRequest {
            path: request.path.into(),
            acl: Some(request.acl.iter().cloned().map(wire_acl).collect()),
            version: version(request.generation)?,
        });
        let jute::Response::SetAcl(set) = client.call(set).await? else {
            return Err(Error::Internal(ErrorCode::SystemError));
        };
        Ok(pb::FileAcl {
            acl: request.acl,
            generation: set.stat.aversion,
        })
    }
}

#[tonic::async_trait]
impl Files for FilesService {
    type WatchStream = ReceiverStream<Result<pb::WatchFileResponse, Status>>;

    async fn get(
        &self,
        request: Request<pb::GetFileRequest>,
    ) -> Result<Response<pb::File>, Status> {
        Ok(Response::new(self.get(request.get_ref()).await?))
    }

    async fn create(
        &self,
        request: Request<pb::CreateFileRequest>,
    ) -> Result<Response<pb::File>, Status> {
        Ok(Response::new(self.create(request.into_inner()).await?))
    }

    async fn set(
        &self,
        request: Request<pb::SetFileRequest>,
    ) -> Result<Response<pb::File>, Status> {
        Ok(Response::new(self.set(request.into_inner()).await?))
    }

    async fn delete(
        &self,
        request: Request<pb::DeleteFileRequest>,
    ) -> Result<Response<pb::DeleteFileResponse>, Status> {
        self.delete(request.into_inner()).await?;
        Ok(Response::new(pb::DeleteFileResponse {}))
    }

    async fn list(
        &self,
        request: Request<pb::ListFilesRequest>,
    ) -> Result<Response<pb::ListFilesResponse>, Status> {
        Ok(Response::new(self.list(request.get_ref()).await?))
    }

    async fn watch(
        &self,
        request: Request<pb::GetFileRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Ok(Response::new(self.watch(request.into_inner()).await?))
    }

    async fn get_acl(
        &self,
        request: Request<pb::GetFileRequest>,
    ) -> Result<Response<pb::FileAcl>, Status> {
        Ok(Response::new(self.get_acl(request.get_ref()).await?))
    }

    async fn set_acl(
        &self,
        request: Request<pb::SetFileAclRequest>,
    ) -> Result<Response<pb::FileAcl>, Status> {
        Ok(Response::new(self.set_acl(request.into_inner()).await?))
    }
}

/// Tells of the file now, and of each change, until the pod serves no longer.
async fn watch(mut reader: Reader, path: &str, changes: &Changes) -> Result<(), Error> {
    let mut told = None;
    loop {
        let file = reader.look(|view| {
            if !view.watch(path, WatchKind::Data) {
                return Err(Error::Throttled);
            }
            match file(view, path) {
                Ok(file) => Ok(Some(file)),
                Err(Error::NoNode) => Ok(None),
                Err(error) => Err(error),
            }
        })??;
        let response = pb::WatchFileResponse { file };
        if told.as_ref() != Some(&response) {
            told = Some(response.clone());
            if changes.send(Ok(response)).await.is_err() {
                return Ok(());
            }
        }
        reader.changed().await;
    }
}

fn file(view: &View<'_>, path: &str) -> Result<pb::File, Error> {
    let (data, stat): (&[u8], Stat) = view
        .get(path)
        .map_err(|error: OpError| Error::from(error))?;
    Ok(wire_file(
        path.to_owned(),
        data.to_vec().into(),
        &wire_stat(&stat),
    ))
}

fn wire_file(path: String, data: bytes::Bytes, stat: &jute::Stat) -> pb::File {
    pb::File {
        path,
        data,
        generation: stat.version,
        instance: stat.czxid,
        changed: stat.mzxid,
        session_id: stat.ephemeral_owner,
        children: stat.num_children,
    }
}

fn wire_acl(entry: pb::AclEntry) -> jute::Acl {
    jute::Acl::new(entry.permissions, entry.scheme, entry.id)
}

/// The protocol's -1 stands for any version. A generation is never negative.
fn version(generation: Option<i32>) -> Result<i32, Error> {
    match generation {
        None => Ok(ANY),
        Some(generation) if generation >= 0 => Ok(generation),
        Some(_) => Err(Error::Invalid {
            what: "generation",
            expected: "zero or more; leave it out for any",
        }),
    }
}
