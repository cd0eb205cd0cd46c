//! A client's connection, as the hub sees it: requests are answered in their order.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use synod_coordination_core::{Applied, ConnectionId, Id, Kind, OpError, Refused, SessionId};
use synod_jute::{ErrorCode, Request, Response};

use super::attaching::Attach;
use super::statistics::Account;
use super::{Outgoing, State};
use crate::convert::{self, Shape};
use crate::sasl::Login;

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// Its address.
    pub(crate) address: SocketAddr,
    /// The subject of the certificate that it has shown.
    pub(crate) subject: Option<String>,
    /// Its login with SASL.
    pub(crate) login: Login,
}

pub(super) struct Connection {
    pub(super) peer: Peer,
    pub(super) since: SystemTime,
    pub(super) account: Account,
    pub(super) out: Arc<Outgoing>,
    /// The session, once it is open on this connection.
    pub(super) session: Option<SessionId>,
    pub(super) identities: Vec<Id>,
    /// Requests that are not answered. The first one waits for its command or for a sync; those
    /// behind it wait for the first.
    pub(super) pending: VecDeque<Pending>,
}

pub(super) enum Pending {
    /// A command opens the session, or moves it to this connection.
    Connect(Attach),
    /// A session that this pod has, or does not know. The log's end has to be read by this read,
    /// and applied; and the pod's commands up to this number have to be executed.
    Existing {
        attach: Attach,
        read: u64,
        after: u64,
    },
    /// A command that is in the outbox under this number.
    Sent { number: u64, sent: Sent },
    /// A command behind a sync. It goes to the outbox when the sync is done, so that what is
    /// between them does not see its effect.
    Held { kind: Kind, sent: Sent },
    /// The log's end has to be read by this read, and applied.
    Sync {
        xid: i32,
        path: bytestring::ByteString,
        read: u64,
    },
    /// A request that this pod answers by itself.
    Local { xid: i32, request: Request },
    /// A login. It took effect when it came, so that the requests behind it have it.
    LoggedIn {
        xid: i32,
        answer: Result<Response, ErrorCode>,
    },
    /// A request that is refused.
    Refused { xid: i32, code: ErrorCode },
}

/// What the answer to a command looks like.
pub(super) enum Sent {
    Write {
        xid: i32,
        shape: Shape,
    },
    /// The command ends the session.
    Close {
        xid: i32,
    },
}

impl Sent {
    pub(super) fn xid(&self) -> i32 {
        match self {
            Self::Write { xid, .. } | Self::Close { xid } => *xid,
        }
    }
}

impl Connection {
    /// Whether a sync is pending. All that is held back is behind one.
    pub(super) fn is_syncing(&self) -> bool {
        let mut pending = self.pending.iter();
        pending.any(|pending| matches!(pending, Pending::Sync { .. }))
    }
}

impl State {
    /// Answers the first pending request of a connection, whose command was executed.
    pub(super) fn answer(&mut self, id: ConnectionId, number: u64, applied: Applied) {
        let zxid = applied.zxid.get();
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if let Some(&Pending::Sent { number: first, .. }) = connection.pending.front()
            && first != number
        {
            // A wrong answer would be worse than none.
            tracing::error!(
                number,
                first,
                "commands of a connection were executed out of order"
            );
            debug_assert!(false, "commands were executed out of order");
            return self.close(id);
        }
        match connection.pending.pop_front() {
            Some(Pending::Connect(attach)) => match applied.reply {
                Ok(_) => self.attached(id, &attach),
                Err(_) => return self.refuse(id, attach.has_read_only),
            },
            Some(Pending::Sent {
                sent: Sent::Write { xid, shape },
                ..
            }) => {
                let is_moved = matches!(
                    applied.reply,
                    Err(Refused::Op(OpError::SessionMoved | OpError::SessionExpired))
                );
                let reply = convert::reply(applied.reply, &shape);
                self.reply(id, xid, zxid, reply.as_ref().map_err(|code| *code));
                if is_moved {
                    return self.close(id);
                }
            }
            Some(Pending::Sent {
                sent: Sent::Close { xid },
                ..
            }) => {
                self.reply(id, xid, zxid, Ok(&Response::CloseSession));
                return self.close(id);
            }
            // The command is not this request's.
            Some(
                other @ (Pending::Held { .. }
                | Pending::Existing { .. }
                | Pending::Sync { .. }
                | Pending::Local { .. }
                | Pending::LoggedIn { .. }
                | Pending::Refused { .. }),
            ) => {
                connection.pending.push_front(other);
                debug_assert!(false, "a command was answered for another request");
            }
            None => debug_assert!(false, "a command was answered without a request"),
        }
        self.proceed(id);
    }

    /// Answers pending requests up to one that has to wait.
    pub(super) fn proceed(&mut self, id: ConnectionId) {
        loop {
            let applied = self.reader.applied();
            let Some(connection) = self.connections.get_mut(&id) else {
                return;
            };
            let is_due = match connection.pending.front() {
                None | Some(Pending::Connect(_) | Pending::Sent { .. }) => return,
                Some(Pending::Sync { read, .. }) => self.syncs.covers(*read, applied),
                Some(Pending::Existing { read, after, .. }) => {
                    self.syncs.covers(*read, applied) && self.outbox.has_executed(*after)
                }
                Some(
                    Pending::Held { .. }
                    | Pending::Local { .. }
                    | Pending::LoggedIn { .. }
                    | Pending::Refused { .. },
                ) => true,
            };
            if !is_due {
                self.syncs.connections.insert(id);
                return;
            }
            if let Some(Pending::Held { .. }) = connection.pending.front() {
                self.send_held(id);
                continue;
            }
            match connection.pending.pop_front() {
                Some(Pending::Sync { xid, path, .. }) => {
                    let zxid = self.machine.last_zxid().get();
                    let response = Response::Sync(synod_jute::SyncResponse { path });
                    self.reply(id, xid, zxid, Ok(&response));
                }
                Some(Pending::Local { xid, request }) => self.execute(id, xid, request),
                Some(Pending::LoggedIn { xid, answer }) => match answer {
                    Ok(response) => self.reply(id, xid, 0, Ok(&response)),
                    Err(code) => self.reject(id, xid, code),
                },
                Some(Pending::Refused { xid, code }) => self.reject(id, xid, code),
                Some(Pending::Existing { attach, .. }) => self.attach_after_sync(id, attach),
                Some(Pending::Connect(_) | Pending::Sent { .. } | Pending::Held { .. }) | None => {
                    return;
                }
            }
        }
    }

    /// Sends a reply to the oldest request without one.
    pub(super) fn reply(
        &mut self,
        id: ConnectionId,
        xid: i32,
        zxid: i64,
        outcome: Result<&Response, ErrorCode>,
    ) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.out.reply(xid, zxid, outcome);
        if let Some((op, latency)) = connection.account.replied(xid, zxid) {
            self.totals.replied(op, latency);
        }
    }

    /// Answers with an error.
    pub(super) fn reject(&mut self, id: ConnectionId, xid: i32, code: ErrorCode) {
        let is_login = matches!(
            code,
            ErrorCode::AuthFailed | ErrorCode::SessionClosedRequireSaslAuth
        );
        let zxid = if code == ErrorCode::Unimplemented {
            -1
        } else if is_login {
            0
        } else {
            self.machine.last_zxid().get()
        };
        self.reply(id, xid, zxid, Err(code));
        if is_login || code == ErrorCode::Unimplemented {
            self.close(id);
        }
    }

    /// Ends a connection, and the session's place on it. The session goes on.
    pub(super) fn close(&mut self, id: ConnectionId) {
        let session = self
            .connections
            .get(&id)
            .and_then(|connection| connection.session);
        if let Some(session) = session
            && self.sessions.get(&session) == Some(&id)
        {
            self.sessions.remove(&session);
        }
        self.close_connection(id);
    }

    fn close_connection(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.remove(&id) {
            connection.out.close();
            self.watches.remove_connection(id);
            self.syncs.connections.remove(&id);
        }
    }
}
