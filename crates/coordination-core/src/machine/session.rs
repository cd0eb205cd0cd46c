//! The operations on sessions.

use std::collections::BTreeSet;

use super::{Context, Machine, Reply};
use crate::OpError;
use crate::SessionId;
use crate::command::Password;
use crate::sessions::Session;

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
            ephemerals: BTreeSet::new(),
        };
        self.sessions.insert(context.session, session, self.last);
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
        if let Some(session) = self.sessions.get_mut(context.session, self.last) {
            session.timeout_ms = timeout_ms;
            session.pod = context.pod;
        }
        Ok(Reply::Done)
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
