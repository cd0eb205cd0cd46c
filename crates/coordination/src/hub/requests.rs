//! Takes the requests of clients.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use synod_coordination_core::{Command, ConnectionId, Id, Kind, NotSent, Password, SessionId};
use synod_jute::{ConnectRequest, ErrorCode, OpCode, PASSWORD_LEN, Request, RequestHeader};
use synod_runtime::random;

use super::connection::{Connection, Pending, Sent};
use super::{Hub, Outgoing, State};
use crate::convert::{self, Shape};

/// How many requests of a connection may wait for answers.
const MAX_PENDING: usize = 1_000;

/// The connection ends: nothing more is read from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Closed;

impl Hub {
    /// A new connection from this address.
    pub(crate) fn open(&self, out: Arc<Outgoing>, address: std::net::IpAddr) -> ConnectionId {
        let mut state = self.state.lock();
        loop {
            state.last_connection = state.last_connection.wrapping_add(1);
            let id = ConnectionId::new(state.last_connection);
            if !state.connections.contains_key(&id) {
                let connection = Connection {
                    out,
                    session: None,
                    identities: vec![Id::new("ip", &address.to_canonical().to_string())],
                    pending: std::collections::VecDeque::new(),
                };
                state.connections.insert(id, connection);
                return id;
            }
        }
    }

    /// The connection was lost. The session goes on.
    pub(crate) fn lost(&self, id: ConnectionId) {
        self.state.lock().close(id);
    }

    /// Resolves when there is room for a request of this connection.
    ///
    /// # Cancel safety
    /// Safe to drop.
    pub(crate) async fn room_for(&self, id: ConnectionId) {
        loop {
            let progress = self.progress.notified();
            tokio::pin!(progress);
            // Before the check, so that no progress is missed.
            progress.as_mut().enable();
            if self.state.lock().has_room(id) {
                return;
            }
            progress.await;
        }
    }

    /// Takes the first request of a connection. `timeout_ms` is the session's timeout, within the
    /// service's bounds.
    ///
    /// # Errors
    /// [`Closed`].
    pub(crate) fn connect(
        &self,
        id: ConnectionId,
        request: &ConnectRequest,
        timeout_ms: u32,
    ) -> Result<(), Closed> {
        let mut state = self.state.lock();
        if !state.is_serving {
            state.close(id);
            return Err(Closed);
        }
        if request.last_zxid_seen > state.machine.last_zxid().get() {
            // The client has seen what this pod has not applied. It tries another pod, or again.
            state.close(id);
            return Err(Closed);
        }
        let shown = request.password.as_deref().unwrap_or_default();
        let (session, password, is_new) = match request.session_id {
            0 => (new_session(), random::secret::<PASSWORD_LEN>(), true),
            session => {
                let Ok(password) = <[u8; PASSWORD_LEN]>::try_from(shown) else {
                    state.refuse(id, request);
                    return Err(Closed);
                };
                (SessionId::new(session), password, false)
            }
        };
        let kept = digest(&password);
        let kind = match is_new {
            true => Kind::CreateSession {
                timeout_ms,
                password: kept,
            },
            false => Kind::AttachSession {
                timeout_ms,
                password: kept,
            },
        };
        let pending = Pending::Connect {
            session,
            password,
            timeout_ms,
            request: request.clone(),
        };
        if state.command(id, session, kind).is_err() {
            state.close(id);
            return Err(Closed);
        }
        state.append(id, pending)
    }

    /// Takes a request of an open session.
    ///
    /// # Errors
    /// [`Closed`].
    pub(crate) fn request(
        &self,
        id: ConnectionId,
        header: RequestHeader,
        request: Result<Request, ErrorCode>,
    ) -> Result<(), Closed> {
        let mut state = self.state.lock();
        state.request(id, header, request)?;
        drop(state);
        self.ask_for_syncs();
        Ok(())
    }
}

impl State {
    fn has_room(&self, id: ConnectionId) -> bool {
        let connection = self.connections.get(&id);
        // A connection that has ended has nothing to wait for.
        connection.is_none_or(|connection| {
            connection.pending.len() < MAX_PENDING && !self.outbox.is_crowded()
        })
    }

    fn request(
        &mut self,
        id: ConnectionId,
        header: RequestHeader,
        request: Result<Request, ErrorCode>,
    ) -> Result<(), Closed> {
        let xid = header.xid;
        let connection = self.connections.get(&id).ok_or(Closed)?;
        let session = connection.session.ok_or(Closed)?;
        self.touched.insert(session);
        let pending = match request {
            // Of the requests that can't be read, only a multi takes a transaction.
            Err(code) if header.op == OpCode::Multi.code() => {
                return self.send_refusal(id, xid, code);
            }
            Err(code) => Pending::Refused { xid, code },
            Ok(Request::Reconfig(_)) => {
                return self.send_refusal(id, xid, ErrorCode::ReconfigDisabled);
            }
            Ok(Request::Sync(request)) => Pending::Sync {
                xid,
                path: request.path,
                read: self.syncs.want(),
            },
            Ok(Request::CloseSession) => {
                return self.send(id, Kind::CloseSession, Sent::Close { xid });
            }
            Ok(request) if !is_write(&request) => Pending::Local { xid, request },
            Ok(request) => match convert::write(request) {
                Ok(Some((kind, shape))) => return self.send(id, kind, Sent::Write { xid, shape }),
                Ok(None) => Pending::Refused {
                    xid,
                    code: ErrorCode::Unimplemented,
                },
                Err(code) => return self.send_refusal(id, xid, code),
            },
        };
        self.append(id, pending)
    }

    /// Refuses a write. That takes a transaction.
    fn send_refusal(&mut self, id: ConnectionId, xid: i32, code: ErrorCode) -> Result<(), Closed> {
        let shape = Shape::Refused(code);
        self.send(id, Kind::Nothing, Sent::Write { xid, shape })
    }

    /// Sends a command of a session, or holds it back behind a sync.
    fn send(&mut self, id: ConnectionId, kind: Kind, sent: Sent) -> Result<(), Closed> {
        let connection = self.connections.get_mut(&id).ok_or(Closed)?;
        if connection.is_syncing() {
            connection.pending.push_back(Pending::Held { kind, sent });
            return Ok(());
        }
        let session = connection.session.ok_or(Closed)?;
        let pending = match self.command(id, session, kind) {
            Ok(()) => Pending::Sent(sent),
            Err(error) => refused(&sent, error),
        };
        self.append(id, pending)
    }

    /// Sends a command that was held back; it is the first pending one.
    pub(super) fn send_first(
        &mut self,
        id: ConnectionId,
        kind: Kind,
        sent: Sent,
    ) -> Result<(), Closed> {
        let connection = self.connections.get(&id).ok_or(Closed)?;
        let session = connection.session.ok_or(Closed)?;
        let pending = match self.command(id, session, kind) {
            Ok(()) => Pending::Sent(sent),
            Err(error) => refused(&sent, error),
        };
        let connection = self.connections.get_mut(&id).ok_or(Closed)?;
        connection.pending.push_front(pending);
        Ok(())
    }

    /// Adds a pending request, and answers it if nothing precedes it.
    fn append(&mut self, id: ConnectionId, pending: Pending) -> Result<(), Closed> {
        let connection = self.connections.get_mut(&id).ok_or(Closed)?;
        connection.pending.push_back(pending);
        if connection.pending.len() == 1 {
            self.proceed(id);
        }
        Ok(())
    }

    /// Hands a command to the outbox.
    fn command(&mut self, id: ConnectionId, session: SessionId, kind: Kind) -> Result<(), NotSent> {
        let connection = self.connections.get(&id);
        let caller = connection.map(|connection| connection.identities.clone());
        let number = self.outbox.push(Command {
            origin: None,
            session,
            caller: caller.unwrap_or_default(),
            kind,
        })?;
        self.waiting.insert(number, id);
        self.commands.notify_one();
        Ok(())
    }
}

/// The answer to a command that was not sent.
fn refused(sent: &Sent, error: NotSent) -> Pending {
    Pending::Refused {
        xid: sent.xid(),
        code: match error {
            NotSent::Full => ErrorCode::ThrottledOp,
            NotSent::TooLarge { .. } => ErrorCode::BadArguments,
        },
    }
}

fn is_write(request: &Request) -> bool {
    matches!(
        request,
        Request::Create(_)
            | Request::Create2(_)
            | Request::CreateContainer(_)
            | Request::CreateTtl(_)
            | Request::Delete(_)
            | Request::SetData(_)
            | Request::SetAcl(_)
            | Request::Multi(_)
    )
}

/// An id that no other pod chooses at the same time. Clients can't guess it.
fn new_session() -> SessionId {
    loop {
        let id = i64::from_be_bytes((random::u64() >> 1).to_be_bytes());
        if id != 0 {
            return SessionId::new(id);
        }
    }
}

/// What the log keeps of a password: who reads the log can't take over a session.
fn digest(password: &[u8; PASSWORD_LEN]) -> Password {
    let digest: [u8; 32] = Sha256::digest(password).into();
    let mut kept = [0; PASSWORD_LEN];
    kept.copy_from_slice(&digest[..PASSWORD_LEN]);
    Password::new(kept)
}
