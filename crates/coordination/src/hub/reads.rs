//! Requests that a pod answers by itself, as of what it has applied.

use bytes::Bytes;
use bytestring::ByteString;
use synod_coordination_core::{
    ConnectionId, Id, MAX_IDENTITY_BYTES, OpError, SetWatches, WatchKind, WatchSelector,
    check_identities, digest,
};
use synod_jute::{
    AddWatchMode, AuthPacket, ClientInfo, ErrorCode, ErrorResponse, ExistsRequest, ExistsResponse,
    GetAclResponse, GetAllChildrenNumberResponse, GetChildren2Response, GetChildrenResponse,
    GetDataResponse, GetEphemeralsResponse, MultiResponse, OpResult, ReadOp, Request, Response,
    SetSaslResponse, WhoAmIResponse, xid,
};

use super::State;
use crate::convert::{self, code, wire_acl, wire_stat};

type Answer = Result<Response, ErrorCode>;

impl State {
    /// Answers a request.
    pub(super) fn execute(&mut self, id: ConnectionId, request_xid: i32, request: Request) {
        let request_xid = match matches!(request, Request::Ping) {
            true => xid::PING,
            false => request_xid,
        };
        let zxid = self.machine.last_zxid().get();
        match self.read(id, request) {
            Ok(response) => self.reply(id, request_xid, zxid, Ok(&response)),
            Err(code) => self.reject(id, request_xid, code),
        }
    }

    fn read(&mut self, id: ConnectionId, request: Request) -> Answer {
        let Some(connection) = self.connections.get(&id) else {
            return Err(ErrorCode::ConnectionLoss);
        };
        let caller = &connection.identities;
        let session = connection.session.unwrap_or_default();
        match request {
            Request::Ping => Ok(Response::Ping),
            Request::Exists(request) => self.exists(id, &request),
            Request::GetData(request) => {
                let response = self.data(id, &request.path)?;
                if request.watch {
                    self.watch(id, &request.path, WatchKind::Data)?;
                }
                Ok(Response::GetData(response))
            }
            Request::GetChildren(request) => {
                let (children, _) = self.children(id, &request.path)?;
                if request.watch {
                    self.watch(id, &request.path, WatchKind::Child)?;
                }
                Ok(Response::GetChildren(GetChildrenResponse { children }))
            }
            Request::GetChildren2(request) => {
                let (children, stat) = self.children(id, &request.path)?;
                if request.watch {
                    self.watch(id, &request.path, WatchKind::Child)?;
                }
                let response = GetChildren2Response { children, stat };
                Ok(Response::GetChildren2(response))
            }
            Request::GetAcl(request) => {
                let (list, stat) = self.machine.acl(&request.path, caller).map_err(code)?;
                let (acl, stat) = (wire_acl(list), wire_stat(&stat));
                Ok(Response::GetAcl(GetAclResponse { acl, stat }))
            }
            Request::GetAllChildrenNumber(request) => {
                let count = self.machine.all_children_number(&request.path, caller);
                let total_number = i32::try_from(count.map_err(code)?).unwrap_or(i32::MAX);
                let response = GetAllChildrenNumberResponse { total_number };
                Ok(Response::GetAllChildrenNumber(response))
            }
            Request::GetEphemerals(request) => {
                let prefix = request.prefix_path.unwrap_or_default();
                let paths = self.machine.ephemerals(session, &prefix);
                let ephemerals = paths.into_iter().map(ByteString::from).collect();
                let response = GetEphemeralsResponse { ephemerals };
                Ok(Response::GetEphemerals(response))
            }
            Request::MultiRead(request) => {
                let results = request.ops.iter().map(|op| self.read_op(id, op)).collect();
                Ok(Response::MultiRead(MultiResponse { results }))
            }
            Request::WhoAmI => Ok(Response::WhoAmI(self.who_am_i(id))),
            Request::CheckWatches(request) => {
                let selector = convert::selector(request.kind);
                self.require_watch(id, &request.path, selector)?;
                Ok(Response::CheckWatches)
            }
            Request::RemoveWatches(request) => {
                let selector = convert::selector(request.kind);
                self.require_watch(id, &request.path, selector)?;
                self.watches.remove(id, &request.path, selector);
                Ok(Response::RemoveWatches)
            }
            Request::AddWatch(request) => {
                let kind = match request.mode {
                    AddWatchMode::Persistent => WatchKind::Persistent,
                    AddWatchMode::PersistentRecursive => WatchKind::PersistentRecursive,
                };
                self.watch(id, &request.path, kind)?;
                Ok(Response::AddWatch(ErrorResponse { err: 0 }))
            }
            Request::SetWatches(request) => {
                self.set_watches(id, &convert::set_watches(&request))?;
                Ok(Response::SetWatches)
            }
            Request::SetWatches2(request) => {
                self.set_watches(id, &convert::set_watches2(&request))?;
                Ok(Response::SetWatches2)
            }
            Request::Reconfig(_) => Err(ErrorCode::ReconfigDisabled),
            Request::Create(_)
            | Request::Create2(_)
            | Request::CreateContainer(_)
            | Request::CreateTtl(_)
            | Request::Delete(_)
            | Request::DeleteContainer(_)
            | Request::SetData(_)
            | Request::SetAcl(_)
            | Request::Sync(_)
            | Request::Check(_)
            | Request::Multi(_)
            | Request::Auth(_)
            | Request::Sasl(_)
            | Request::CreateSession(_)
            | Request::CloseSession => Err(ErrorCode::Unimplemented),
        }
    }

    /// A node that does not exist can be watched, too.
    fn exists(&mut self, id: ConnectionId, request: &ExistsRequest) -> Answer {
        let found = self.machine.exists(&request.path, self.caller(id));
        if request.watch && matches!(found, Ok(_) | Err(OpError::NoNode)) {
            self.watch(id, &request.path, WatchKind::Data)?;
        }
        let stat = wire_stat(&found.map_err(code)?);
        Ok(Response::Exists(ExistsResponse { stat }))
    }

    fn data(&self, id: ConnectionId, path: &str) -> Result<GetDataResponse, ErrorCode> {
        let (data, stat) = self.machine.get(path, self.caller(id)).map_err(code)?;
        Ok(GetDataResponse {
            data: data.map(Bytes::copy_from_slice),
            stat: wire_stat(&stat),
        })
    }

    fn children(
        &self,
        id: ConnectionId,
        path: &str,
    ) -> Result<(Vec<ByteString>, synod_jute::Stat), ErrorCode> {
        let found = self.machine.children(path, self.caller(id)).map_err(code)?;
        let (names, stat) = found;
        Ok((names.map(ByteString::from).collect(), wire_stat(&stat)))
    }

    fn caller(&self, id: ConnectionId) -> &[Id] {
        let connection = self.connections.get(&id);
        connection.map_or(&[], |connection| &connection.identities)
    }

    fn read_op(&self, id: ConnectionId, op: &ReadOp) -> OpResult {
        let result = match op {
            ReadOp::GetData(request) => self.data(id, &request.path).map(OpResult::GetData),
            ReadOp::GetChildren(request) => {
                let children = self.children(id, &request.path);
                children
                    .map(|(children, _)| OpResult::GetChildren(GetChildrenResponse { children }))
            }
        };
        result.unwrap_or_else(|code| OpResult::Error(code.code()))
    }

    fn watch(&mut self, id: ConnectionId, path: &str, kind: WatchKind) -> Result<(), ErrorCode> {
        let added = self.watches.add(id, path, kind);
        added.map_err(|_full| ErrorCode::ThrottledOp)
    }

    fn require_watch(
        &self,
        id: ConnectionId,
        path: &str,
        selector: WatchSelector,
    ) -> Result<(), ErrorCode> {
        match self.watches.contains(id, path, selector) {
            true => Ok(()),
            false => Err(ErrorCode::NoWatcher),
        }
    }

    fn set_watches(&mut self, id: ConnectionId, watches: &SetWatches) -> Result<(), ErrorCode> {
        let missed = self.watches.set(&self.machine, id, watches);
        for notification in missed.map_err(|_full| ErrorCode::ThrottledOp)? {
            self.notify(&notification);
        }
        Ok(())
    }

    fn who_am_i(&self, id: ConnectionId) -> WhoAmIResponse {
        let info = |id: &Id| ClientInfo {
            auth_scheme: id.scheme.as_str().into(),
            user: match id.scheme.as_str() {
                // Never the hash of a password.
                "digest" => id.id.split(':').next().unwrap_or_default().into(),
                _ => id.id.as_str().into(),
            },
        };
        WhoAmIResponse {
            client_info: self.caller(id).iter().map(info).collect(),
        }
    }

    /// Adds an identity, unless the connection has as many as a command may carry.
    fn identify(&mut self, id: ConnectionId, identity: Id) -> Result<(), ErrorCode> {
        let Some(connection) = self.connections.get_mut(&id) else {
            return Ok(());
        };
        let identities = &mut connection.identities;
        if !identities.contains(&identity) {
            identities.push(identity);
            if check_identities(identities).is_err() {
                identities.pop();
                return Err(ErrorCode::AuthFailed);
            }
        }
        Ok(())
    }

    /// Takes a token of a login with SASL.
    pub(super) fn log_in(&mut self, id: ConnectionId, token: &[u8]) -> Answer {
        let connection = self.connections.get_mut(&id);
        let peer = &mut connection.ok_or(ErrorCode::ConnectionLoss)?.peer;
        let failure = match peer.login.is_required() {
            true => ErrorCode::SessionClosedRequireSaslAuth,
            false => ErrorCode::AuthFailed,
        };
        let address = peer.address;
        let progress = peer.login.take(token).map_err(|error| {
            tracing::warn!(%address, %error, "a client failed to log in with SASL");
            failure
        })?;
        if let Some(user) = &progress.user {
            self.identify(id, Id::new("sasl", user))?;
        }
        let token = progress.token;
        Ok(Response::Sasl(SetSaslResponse { token }))
    }

    pub(super) fn authenticate(&mut self, id: ConnectionId, packet: &AuthPacket) -> Answer {
        let scheme = packet.scheme.as_deref().unwrap_or_default();
        match (scheme, &packet.auth) {
            // Hashing holds the hub's lock.
            ("digest", Some(shown)) if shown.len() <= MAX_IDENTITY_BYTES => {
                let identity = digest(&String::from_utf8_lossy(shown));
                if self.super_user.as_ref() == Some(&identity) {
                    self.identify(id, Id::new("super", ""))?;
                }
                self.identify(id, identity)?;
                Ok(Response::Auth)
            }
            // As in ZooKeeper: the address is known already.
            ("ip", _) => Ok(Response::Auth),
            _ => Err(ErrorCode::AuthFailed),
        }
    }
}
