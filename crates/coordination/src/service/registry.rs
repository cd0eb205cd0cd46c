//! The gRPC sessions of this pod.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use subtle::ConstantTimeEq as _;
use synod_coordination_core::SessionId;
use synod_jute::PASSWORD_LEN;
use synod_proto::coordination::v1 as pb;

use crate::error::Error;
use crate::hub::{Client, Opened};

/// The sessions whose streams this pod has.
#[derive(Debug)]
pub(crate) struct Registry {
    sessions: Mutex<HashMap<SessionId, Entry>>,
    limit: usize,
}

#[derive(Debug)]
struct Entry {
    secret: [u8; PASSWORD_LEN],
    client: Arc<Client>,
}

impl Registry {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            sessions: Mutex::default(),
            limit,
        }
    }

    /// A session is open on this connection. It takes the place of an older connection.
    ///
    /// # Errors
    /// There is no room for a further session.
    pub(super) fn add(&self, opened: &Opened, client: &Arc<Client>) -> Result<(), Error> {
        let mut sessions = self.sessions.lock();
        if sessions.len() >= self.limit && !sessions.contains_key(&opened.session) {
            return Err(Error::TooManySessions { limit: self.limit });
        }
        let entry = Entry {
            secret: opened.secret,
            client: Arc::clone(client),
        };
        let before = sessions.insert(opened.session, entry);
        // A client is not dropped under the lock.
        drop(sessions);
        drop(before);
        Ok(())
    }

    /// The connection has ended. One that took its place stays.
    pub(super) fn remove(&self, session: SessionId, client: &Arc<Client>) {
        let mut sessions = self.sessions.lock();
        let is_own = sessions
            .get(&session)
            .is_some_and(|entry| Arc::ptr_eq(&entry.client, client));
        let removed = if is_own {
            sessions.remove(&session)
        } else {
            None
        };
        drop(sessions);
        drop(removed);
    }

    /// The session that a call names, and its connection.
    ///
    /// # Errors
    /// This pod does not serve it, or the secret is wrong.
    pub(super) fn find(
        &self,
        named: Option<&pb::SessionRef>,
    ) -> Result<(SessionId, Arc<Client>), Error> {
        let named = named.ok_or(Error::Invalid {
            what: "session",
            expected: "the session of a stream of Sessions.Keep",
        })?;
        let session = SessionId::new(named.id);
        let sessions = self.sessions.lock();
        let entry = sessions.get(&session).ok_or(Error::NotHere)?;
        if !bool::from(named.secret.as_ref().ct_eq(&entry.secret)) {
            return Err(Error::WrongSecret);
        }
        Ok((session, Arc::clone(&entry.client)))
    }
}
