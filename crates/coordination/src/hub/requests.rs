//! Takes the requests of clients.

use std::collections::VecDeque;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use synod_coordination_core::{Command, ConnectionId, Id, Kind, NotSent, SessionId};
use synod_jute::{ErrorCode, Request, RequestHeader};
use synod_runtime::clock;

use super::connection::{Connection, Peer, Pending, Sent};
use super::statistics::Account;
use super::{Hub, Outgoing, State};
use crate::convert::{self, Refusal, Shape};

/// How many requests of a connection may wait for answers.
const MAX_PENDING: usize = 1_000;

/// The connection ends: nothing more is read from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Closed;

impl Hub {
    /// A new connection.
    pub(crate) fn open(&self, out: Arc<Outgoing>, peer: Peer) -> ConnectionId {
        let address = peer.address.ip().to_canonical().to_string();
        let mut identities = vec![Id::new("ip", &address)];
        identities.extend(peer.subject.iter().map(|name| Id::new("x509", name)));
        let connection = Connection {
            peer,
            since: clock::wall(),
            account: Account::default(),
            out,
            session: None,
            identities,
            pending: VecDeque::new(),
        };
        let mut state = self.state.lock();
        loop {
            state.last_connection = state.last_connection.wrapping_add(1);
            let id = ConnectionId::new(state.last_connection);
            if let Entry::Vacant(free) = state.connections.entry(id) {
                free.insert(connection);
                return id;
            }
        }
    }

    /// The connection was lost. The session goes on.
    pub(crate) fn lost(&self, id: ConnectionId) {
        self.state.lock().close(id);
    }

    /// Resolves when there is room for a request of this connection. Returns whether it had to wait
    /// for that.
    ///
    /// # Cancel safety
    /// Safe to drop.
    pub(crate) async fn room_for(&self, id: ConnectionId) -> bool {
        let mut has_waited = false;
        loop {
            let progress = self.progress.notified();
            tokio::pin!(progress);
            // Before the check, so that no progress is missed.
            progress.as_mut().enable();
            if self.state.lock().has_room(id) {
                return has_waited;
            }
            has_waited = true;
            progress.await;
        }
    }

    /// Takes a request of an open session.
    ///
    /// # Errors
    /// [`Closed`].
    pub(crate) fn request(
        &self,
        id: ConnectionId,
        header: RequestHeader,
        request: Result<Request, Refusal>,
    ) -> Result<(), Closed> {
        let mut state = self.state.lock();
        let connection = state.connections.get_mut(&id).ok_or(Closed)?;
        connection.account.received(header.op);
        state.totals.received();
        state.request(id, header.xid, request)?;
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
        xid: i32,
        request: Result<Request, Refusal>,
    ) -> Result<(), Closed> {
        let connection = self.connections.get(&id).ok_or(Closed)?;
        let session = connection.session.ok_or(Closed)?;
        let is_login = matches!(request, Ok(Request::Auth(_) | Request::Sasl(_)));
        if connection.peer.login.is_missing() && !is_login {
            let code = ErrorCode::SessionClosedRequireSaslAuth;
            return self.append(id, Pending::Refused { xid, code });
        }
        self.touched.insert(session);
        let pending = match request {
            Err(refusal) => return self.refuse_request(id, xid, refusal),
            Ok(Request::Reconfig(_)) => {
                let code = ErrorCode::ReconfigDisabled;
                return self.refuse_request(id, xid, Refusal::Transaction(code));
            }
            Ok(Request::Sync(request)) => Pending::Sync {
                xid,
                path: request.path,
                read: self.syncs.want(),
            },
            Ok(Request::Auth(packet)) => Pending::LoggedIn {
                xid,
                answer: self.authenticate(id, &packet),
            },
            Ok(Request::Sasl(request)) => Pending::LoggedIn {
                xid,
                answer: self.log_in(id, &request.token),
            },
            Ok(Request::CloseSession) => {
                return self.send(id, Kind::CloseSession, Sent::Close { xid });
            }
            Ok(request) if !is_write(&request) => Pending::Local { xid, request },
            Ok(request) => match convert::write(request, self.offered) {
                Ok(Some((kind, shape))) => return self.send(id, kind, Sent::Write { xid, shape }),
                Ok(None) => Pending::Refused {
                    xid,
                    code: ErrorCode::Unimplemented,
                },
                Err(refusal) => return self.refuse_request(id, xid, refusal),
            },
        };
        self.append(id, pending)
    }

    fn refuse_request(
        &mut self,
        id: ConnectionId,
        xid: i32,
        refusal: Refusal,
    ) -> Result<(), Closed> {
        match refusal {
            Refusal::Local(code) => self.append(id, Pending::Refused { xid, code }),
            Refusal::Transaction(code) => {
                let shape = Shape::Refused(code);
                self.send(id, Kind::Nothing, Sent::Write { xid, shape })
            }
        }
    }

    /// Sends a command of a session, or holds it back behind a sync.
    fn send(&mut self, id: ConnectionId, kind: Kind, sent: Sent) -> Result<(), Closed> {
        let connection = self.connections.get_mut(&id).ok_or(Closed)?;
        if connection.is_syncing() {
            connection.pending.push_back(Pending::Held { kind, sent });
            return Ok(());
        }
        let session = connection.session.ok_or(Closed)?;
        let pending = self.sent(id, session, kind, sent);
        self.append(id, pending)
    }

    /// Sends the commands that were held back, up to the next sync. The first pending request is
    /// one of them.
    pub(super) fn send_held(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let session = connection.session.unwrap_or_default();
        let mut after = std::mem::take(&mut connection.pending);
        let mut before = VecDeque::with_capacity(after.len());
        while let Some(pending) = after.pop_front() {
            match pending {
                Pending::Held { kind, sent } => {
                    before.push_back(self.sent(id, session, kind, sent));
                }
                Pending::Sync { .. } => {
                    after.push_front(pending);
                    break;
                }
                Pending::Connect(_)
                | Pending::Existing { .. }
                | Pending::Sent { .. }
                | Pending::Local { .. }
                | Pending::LoggedIn { .. }
                | Pending::Refused { .. } => before.push_back(pending),
            }
        }
        before.append(&mut after);
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.pending = before;
        }
    }

    /// Hands a command to the outbox.
    fn sent(&mut self, id: ConnectionId, session: SessionId, kind: Kind, sent: Sent) -> Pending {
        match self.command(id, session, kind) {
            Ok(number) => Pending::Sent { number, sent },
            Err(error) => refused(&sent, error),
        }
    }

    /// Adds a pending request, and answers it if nothing precedes it.
    pub(super) fn append(&mut self, id: ConnectionId, pending: Pending) -> Result<(), Closed> {
        let connection = self.connections.get_mut(&id).ok_or(Closed)?;
        connection.pending.push_back(pending);
        if connection.pending.len() == 1 {
            self.proceed(id);
        }
        Ok(())
    }

    /// Adds a command to the outbox, and returns its number.
    pub(super) fn command(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        kind: Kind,
    ) -> Result<u64, NotSent> {
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
        Ok(number)
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
