//! The operations on sessions.

use std::collections::BTreeSet;

use super::{Context, Machine, Reply};
use crate::command::Password;
use crate::sessions::Session;
use crate::{OpError, SessionId, Zxid};

impl Machine {
    pub(super) fn create_session(
        &mut self,
        context: Context<'_>,
        timeout_ms: u32,
        password: Password,
    ) -> Result<Reply, OpError> {
        if context.session == SessionId::default() {
            return Err(OpError::BadArguments);
        }
        if self.sessions.get(context.session).is_some() {
            return Err(OpError::SessionMoved);
        }
        let session = Session {
            timeout_ms,
            password,
            pod: context.pod,
            attached: self.last,
            ephemerals: BTreeSet::new(),
            ephemeral_bytes: 0,
        };
        self.sessions.insert(context.session, session);
        Ok(Reply::Done)
    }

    /// A wrong password is no session, as in ZooKeeper.
    pub(super) fn attach_session(
        &mut self,
        context: Context<'_>,
        timeout_ms: u32,
        password: &Password,
    ) -> Result<Reply, OpError> {
        let session = self.sessions.get(context.session);
        if session.is_none_or(|session| session.password != *password) {
            return Err(OpError::SessionExpired);
        }
        self.sessions
            .attach(context.session, context.pod, timeout_ms, self.last);
        Ok(Reply::Done)
    }

    /// The client may have come back after the sequencer had decided: the session stays then.
    pub(super) fn expire_session(
        &mut self,
        id: SessionId,
        attached: Zxid,
    ) -> Result<Reply, OpError> {
        let session = self.sessions.get(id);
        if session.is_some_and(|session| session.attached != attached) {
            return Err(OpError::SessionMoved);
        }
        Ok(self.close_session(id))
    }

    pub(super) fn close_session(&mut self, id: SessionId) -> Reply {
        let ephemerals = self
            .sessions
            .get(id)
            .map(|session| session.ephemerals.clone());
        for node in ephemerals.unwrap_or_default() {
            let path = self.tree.path(node);
            self.remove(node, &path);
        }
        self.sessions.remove(id, self.last);
        Reply::Done
    }
}
