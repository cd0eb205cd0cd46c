//! A client in this process: it has a connection like a ZooKeeper client's, under the same rules,
//! and adds reads of the state machine that leave watches.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use synod_coordination_core::{
    Acl, ConnectionId, Id, Machine, OpError, PodId, SessionId, Stat, WatchKind, WatchSelector,
    Watches,
};
use synod_jute::{
    AuthPacket, ConnectRequest, ErrorCode, PASSWORD_LEN, Request, RequestHeader, Response,
};
use tokio::sync::{Notify, oneshot};

use super::connection::Peer;
use super::inbox::{Inbox, Outcome};
use super::{Closed, Hub, Outgoing};
use crate::sasl::Login;

/// The most digests of a client. With the identities that the pod adds they are fewer than
/// [`synod_coordination_core::MAX_IDENTITIES`].
pub(crate) const MAX_DIGESTS: usize = 16;

/// The longest digest.
pub(crate) const MAX_DIGEST_BYTES: usize = 256;

/// A connection of this process.
#[derive(Debug)]
pub(crate) struct Client {
    hub: Arc<Hub>,
    id: ConnectionId,
    inbox: Arc<Inbox>,
}

/// A session that is open on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Opened {
    pub(crate) session: SessionId,
    pub(crate) secret: [u8; PASSWORD_LEN],
    pub(crate) timeout_ms: u32,
    /// The pod's id in the log.
    pub(crate) pod: PodId,
}

/// Why a session was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectError {
    /// The pod takes no connections.
    NotServing,
    /// The session has expired, or the secret is wrong.
    Expired,
    /// The connection ended before the answer. A session may have been opened that nobody knows; it
    /// expires.
    Lost,
}

/// Why a request has no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallError {
    /// It was not sent: certainly not done.
    NotSent,
    /// The connection ended before the reply. The outcome is unknown.
    Lost,
    /// It was refused: certainly not done.
    Refused(ErrorCode),
}

/// A sign of life that was noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sign(u64);

/// Where a session is whose connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It has expired or was closed.
    Gone,
    /// It has another connection.
    Elsewhere,
    /// It has none, and was here last.
    Here,
}

impl Client {
    /// A new connection without a session, from this address. Each digest is `USER:PASSWORD`. There
    /// are at most [`MAX_DIGESTS`], each of at most [`MAX_DIGEST_BYTES`].
    pub(crate) fn open(hub: &Arc<Hub>, address: IpAddr, digests: &[String]) -> Self {
        let inbox = Arc::new(Inbox::default());
        let out = Arc::new(Outgoing::to(Arc::clone(&inbox)));
        let peer = Peer {
            address: SocketAddr::new(address, 0),
            subject: None,
            // SASL is a part of ZooKeeper's protocol.
            login: Login::default(),
        };
        let id = hub.open(out, peer);
        let mut state = hub.state.lock();
        for shown in digests {
            let packet = AuthPacket {
                kind: 0,
                scheme: Some("digest".into()),
                auth: Some(shown.clone().into_bytes().into()),
            };
            // The caller limits them to fewer than are refused.
            drop(state.authenticate(id, &packet));
        }
        drop(state);
        Self {
            hub: Arc::clone(hub),
            id,
            inbox,
        }
    }

    /// Opens a session, or moves an open one to this connection.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub(crate) async fn connect(
        &self,
        session: Option<(SessionId, [u8; PASSWORD_LEN])>,
        timeout_ms: u32,
    ) -> Result<Opened, ConnectError> {
        let pod = self.hub.pod();
        let (id, secret) = session.unwrap_or_default();
        let request = ConnectRequest {
            session_id: id.get(),
            password: Some(secret.to_vec().into()),
            ..ConnectRequest::default()
        };
        let connected = self.inbox.expect_connected();
        let unanswered = match self.hub.connect(self.id, &request, timeout_ms) {
            Ok(()) => ConnectError::Lost,
            // Unless it was answered that the session has expired.
            Err(Closed) => ConnectError::NotServing,
        };
        let response = connected.await.map_err(|_| unanswered)?;
        let secret = response.password.as_deref().unwrap_or_default();
        match (response.session_id, secret.try_into()) {
            (0, _) | (_, Err(_)) => Err(ConnectError::Expired),
            (session, Ok(secret)) => Ok(Opened {
                session: SessionId::new(session),
                secret,
                timeout_ms: u32::try_from(response.timeout_ms).unwrap_or(0),
                pod,
            }),
        }
    }

    /// Sends a request of the session. The receiver gets its reply, or an error if the connection
    /// ends before.
    ///
    /// # Errors
    /// [`Closed`]: the request was not sent.
    fn send(&self, request: Request) -> Result<oneshot::Receiver<Outcome>, Closed> {
        let (xid, reply) = self.inbox.expect_reply();
        let header = RequestHeader {
            xid,
            op: request.op().code(),
        };
        let sent = self.hub.request(self.id, header, Ok(request));
        if sent.is_err() {
            self.inbox.forget_reply(xid);
        }
        sent.map(|()| reply)
    }

    /// Sends a request and waits for its reply.
    ///
    /// # Errors
    /// [`CallError`].
    pub(crate) async fn call(&self, request: Request) -> Result<Response, CallError> {
        self.hub.room_for(self.id).await;
        let reply = self.send(request).map_err(|Closed| CallError::NotSent)?;
        match reply.await {
            Ok(outcome) => outcome.map_err(CallError::Refused),
            Err(_) => Err(CallError::Lost),
        }
    }

    /// The session's client has shown life. Returns what [`Client::confirmed`] waits for.
    ///
    /// # Errors
    /// [`Closed`].
    pub(crate) fn touch(&self) -> Result<Sign, Closed> {
        let mut state = self.hub.state.lock();
        let connection = state.connections.get(&self.id).ok_or(Closed)?;
        let session = connection.session.ok_or(Closed)?;
        state.touched.insert(session);
        Ok(Sign(state.rounds.next()))
    }

    /// Resolves when the leading pod knows of a sign of life, so that the session lives for its
    /// timeout from then on.
    ///
    /// # Cancel safety
    /// Safe to drop.
    pub(crate) async fn confirmed(&self, sign: Sign) {
        self.hub.round_arrived(sign.0).await;
    }

    /// Who reads, and is woken when what it has read changes.
    pub(crate) fn reader(self: &Arc<Self>) -> Reader {
        Reader {
            client: Arc::clone(self),
            waker: Arc::new(Notify::new()),
            watched: Vec::new(),
        }
    }

    /// Whether the connection has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.inbox.is_closed()
    }

    /// Resolves when the connection has ended.
    ///
    /// # Cancel safety
    /// Safe to drop.
    pub(crate) async fn closed(&self) {
        self.inbox.closed().await;
    }

    /// Ends the connection. The session goes on.
    pub(crate) fn close(&self) {
        self.hub.lost(self.id);
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.close();
    }
}

/// Reads the state machine, and is woken when what it has read changes.
#[derive(Debug)]
pub(crate) struct Reader {
    client: Arc<Client>,
    waker: Arc<Notify>,
    /// The paths that it watches.
    watched: Vec<String>,
}

impl Reader {
    /// Reads, and leaves the watches that `read` asks for in place of those of the last look.
    /// Nothing is applied meanwhile.
    ///
    /// # Errors
    /// [`Closed`]: the connection has ended, or the pod does not serve.
    pub(crate) fn look<T>(&mut self, read: impl FnOnce(&mut View<'_>) -> T) -> Result<T, Closed> {
        let client = &self.client;
        let state = &mut *client.hub.state.lock();
        if !state.is_serving {
            return Err(Closed);
        }
        let connection = state.connections.get(&client.id).ok_or(Closed)?;
        for path in self.watched.drain(..) {
            unwatch(&mut state.watches, client, &path, &self.waker);
        }
        Ok(read(&mut View {
            machine: &state.machine,
            caller: &connection.identities,
            watches: &mut state.watches,
            client,
            waker: &self.waker,
            watched: &mut self.watched,
        }))
    }

    /// Resolves when something has changed that the last look watches, or the connection has ended.
    ///
    /// # Cancel safety
    /// Safe to drop.
    pub(crate) async fn changed(&self) {
        if !self.client.is_closed() {
            self.waker.notified().await;
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.client.hub.state.lock();
        for path in &self.watched {
            unwatch(&mut state.watches, &self.client, path, &self.waker);
        }
    }
}

/// The watches of a path are those of all readers of a connection. The hub's lock is held, so that
/// none is added between the look at the others and the removal.
fn unwatch(watches: &mut Watches, client: &Client, path: &str, waker: &Arc<Notify>) {
    if client.inbox.forget_waker(path, waker) {
        watches.remove(client.id, path, WatchSelector::Any);
    }
}

/// What a [`Reader`] sees.
pub(crate) struct View<'a> {
    machine: &'a Machine,
    caller: &'a [Id],
    watches: &'a mut Watches,
    client: &'a Client,
    waker: &'a Arc<Notify>,
    watched: &'a mut Vec<String>,
}

impl View<'_> {
    /// A node's data and stat.
    ///
    /// # Errors
    /// As [`Machine::get`].
    pub(crate) fn get(&self, path: &str) -> Result<(&[u8], Stat), OpError> {
        let (data, stat) = self.machine.get(path, self.caller)?;
        Ok((data.unwrap_or_default(), stat))
    }

    /// A node's stat, whoever may read the node: for what the service itself has to know.
    pub(crate) fn stat(&self, path: &str) -> Option<Stat> {
        self.machine.stat(path)
    }

    /// The ephemeral nodes of a session below a path.
    pub(crate) fn ephemerals(&self, session: SessionId, below: &str) -> Vec<String> {
        self.machine.ephemerals(session, below)
    }

    /// The names of a node's children, sorted, and its stat.
    ///
    /// # Errors
    /// As [`Machine::children`].
    pub(crate) fn children(&self, path: &str) -> Result<(Vec<String>, Stat), OpError> {
        let (names, stat) = self.machine.children(path, self.caller)?;
        let mut names: Vec<String> = names.map(str::to_owned).collect();
        names.sort_unstable();
        Ok((names, stat))
    }

    /// A node's access control list and stat.
    ///
    /// # Errors
    /// As [`Machine::acl`].
    pub(crate) fn acl(&self, path: &str) -> Result<(Vec<Acl>, Stat), OpError> {
        self.machine.acl(path, self.caller)
    }

    /// Wakes the reader when the node changes, is created or is deleted (`Data`), or when its
    /// children change (`Child`). Returns whether there was room for the watch.
    pub(crate) fn watch(&mut self, path: &str, kind: WatchKind) -> bool {
        if self.watches.add(self.client.id, path, kind).is_err() {
            return false;
        }
        self.client.inbox.wake_at(path, self.waker);
        self.watched.push(path.to_owned());
        true
    }
}

impl Hub {
    /// Resolves when the pod answers clients.
    ///
    /// # Cancel safety
    /// Safe to drop.
    pub(crate) async fn serving(&self) {
        loop {
            let progress = self.progress.notified();
            tokio::pin!(progress);
            // Before the check, so that no progress is missed.
            progress.as_mut().enable();
            if self.is_serving() {
                return;
            }
            progress.await;
        }
    }

    /// Resolves when [`Hub::standing`] is not [`Standing::Here`], or the pod answers no clients.
    ///
    /// # Cancel safety
    /// Safe to drop.
    pub(crate) async fn not_here(&self, session: SessionId, pod: PodId) {
        loop {
            let progress = self.progress.notified();
            tokio::pin!(progress);
            // Before the check, so that no progress is missed.
            progress.as_mut().enable();
            if self.standing(session, pod) != Standing::Here || !self.is_serving() {
                return;
            }
            progress.await;
        }
    }

    /// Where a session is that was opened through `pod`, and whose connection here has ended.
    pub(crate) fn standing(&self, session: SessionId, pod: PodId) -> Standing {
        let state = self.state.lock();
        match state.machine.session(session) {
            None => Standing::Gone,
            Some(info) if info.pod != pod || state.sessions.contains_key(&session) => {
                Standing::Elsewhere
            }
            Some(_) => Standing::Here,
        }
    }
}
