//! Opens sessions on connections.
//!
//! A new session is a command in the log, and so is one that comes from another pod or with another
//! timeout. A client that comes back to the pod of its session needs none: the pod reads the log's
//! end, as for a `sync`, and executes what the former connection had sent. Nor does a session that
//! nobody has, or a wrong password: what strangers send is not written to the log.

use sha2::{Digest as _, Sha256};
use synod_coordination_core::{ConnectionId, Kind, Password, SessionId};
use synod_jute::{ConnectRequest, ConnectResponse, PASSWORD_LEN};
use synod_runtime::random;

use super::connection::Pending;
use super::statistics::CONNECT;
use super::{Closed, Hub, State};

/// What a client wants that connects.
#[derive(Clone)]
pub(super) struct Attach {
    session: SessionId,
    /// What the client shows, or will show when it connects again.
    password: [u8; PASSWORD_LEN],
    /// Within the service's bounds.
    timeout_ms: u32,
    /// Whether old clients, which don't know of it, left it out.
    pub(super) has_read_only: bool,
}

impl Hub {
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
        let connection = state.connections.get_mut(&id).ok_or(Closed)?;
        connection.account.received(CONNECT);
        state.totals.received();
        let seen = request.last_zxid_seen;
        // A client that has seen what this pod has not applied tries another pod, or again.
        if !state.is_serving || seen > state.machine.last_zxid().get() {
            state.close(id);
            return Err(Closed);
        }
        let has_read_only = request.read_only.is_some();
        let shown = request.password.as_deref().unwrap_or_default();
        let session = SessionId::new(request.session_id);
        let is_new = session == SessionId::default();
        let password = match <[u8; PASSWORD_LEN]>::try_from(shown) {
            // What the client shows for a new session means nothing.
            _ if is_new => random::secret(),
            Ok(password) => password,
            Err(_) => {
                state.refuse(id, has_read_only);
                return Err(Closed);
            }
        };
        let mut attach = Attach {
            session,
            password,
            timeout_ms,
            has_read_only,
        };
        if is_new {
            attach.session = new_session();
            return state.open_by_command(id, attach, is_new);
        }
        state.attach(id, attach)?;
        drop(state);
        self.ask_for_syncs();
        Ok(())
    }
}

impl State {
    /// Opens an existing session on a connection.
    fn attach(&mut self, id: ConnectionId, attach: Attach) -> Result<(), Closed> {
        match self.may_attach(&attach) {
            Some(true) if !self.is_here(&attach) => self.open_by_command(id, attach, false),
            Some(false) => {
                self.refuse(id, attach.has_read_only);
                Err(Closed)
            }
            // It may have been opened, moved or closed by another pod a moment ago, and commands of
            // its former connection may be on their way.
            Some(true) | None => {
                let read = self.syncs.want();
                let after = self.outbox.last();
                self.append(
                    id,
                    Pending::Existing {
                        attach,
                        read,
                        after,
                    },
                )
            }
        }
    }

    /// Goes on with an existing session after this pod has applied the log, and its own commands.
    pub(super) fn attach_after_sync(&mut self, id: ConnectionId, attach: Attach) {
        match self.may_attach(&attach) {
            Some(true) if self.is_here(&attach) => {
                if let Some(before) = self.sessions.remove(&attach.session) {
                    self.close(before);
                }
                self.attached(id, &attach);
            }
            Some(true) => {
                // If that closed the connection, its task sees it at the next request.
                let _closed = self.open_by_command(id, attach, false);
            }
            Some(false) | None => self.refuse(id, attach.has_read_only),
        }
    }

    /// Whether the password is that of the session; `None` if this pod does not know the session.
    fn may_attach(&self, attach: &Attach) -> Option<bool> {
        let kept = digest(&attach.password);
        self.machine.is_password(attach.session, &kept)
    }

    /// Whether the session is this pod's already, with the same timeout.
    fn is_here(&self, attach: &Attach) -> bool {
        let info = self.machine.session(attach.session);
        info.is_some_and(|info| {
            info.pod == self.outbox.pod() && info.timeout_ms == attach.timeout_ms
        })
    }

    fn open_by_command(
        &mut self,
        id: ConnectionId,
        attach: Attach,
        is_new: bool,
    ) -> Result<(), Closed> {
        let timeout_ms = attach.timeout_ms;
        let password = digest(&attach.password);
        let kind = match is_new {
            true => Kind::CreateSession {
                timeout_ms,
                password,
            },
            false => Kind::AttachSession {
                timeout_ms,
                password,
            },
        };
        if self.command(id, attach.session, kind).is_err() {
            self.close(id);
            return Err(Closed);
        }
        self.append(id, Pending::Connect(attach))
    }

    /// The session is open on this connection.
    pub(super) fn attached(&mut self, id: ConnectionId, attach: &Attach) {
        let zxid = self.machine.last_zxid().get();
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.session = Some(attach.session);
        connection.out.connected(&ConnectResponse {
            protocol_version: 0,
            timeout_ms: i32::try_from(attach.timeout_ms).unwrap_or(i32::MAX),
            session_id: attach.session.get(),
            password: Some(attach.password.to_vec().into()),
            read_only: attach.has_read_only.then_some(false),
        });
        if let Some((op, latency)) = connection.account.replied(0, zxid) {
            self.totals.replied(op, latency);
        }
        self.sessions.insert(attach.session, id);
        self.touched.insert(attach.session);
    }

    /// The session is unknown or expired, or the password is wrong.
    pub(super) fn refuse(&mut self, id: ConnectionId, has_read_only: bool) {
        if let Some(connection) = self.connections.get(&id) {
            connection.out.connected(&ConnectResponse {
                password: Some(vec![0; PASSWORD_LEN].into()),
                read_only: has_read_only.then_some(false),
                ..ConnectResponse::default()
            });
        }
        self.close(id);
    }
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
