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

    /// Whether there is room: asked before a session is opened or moved here for nothing.
    ///
    /// # Errors
    /// There is no room for a further session.
    pub(super) fn check_room(&self, session: SessionId) -> Result<(), Error> {
        self.check(&self.sessions.lock(), session)
    }

    fn check(&self, sessions: &HashMap<SessionId, Entry>, session: SessionId) -> Result<(), Error> {
        if sessions.len() >= self.limit && !sessions.contains_key(&session) {
            return Err(Error::TooManySessions { limit: self.limit });
        }
        Ok(())
    }

    /// A session is open on this connection. It takes the place of an older connection.
    ///
    /// A connection that has ended is not added. The hub ends the older connection of a session
    /// before the newer one is connected, so the older one never takes the newer one's place.
    ///
    /// # Errors
    /// There is no room for a further session.
    pub(super) fn add(&self, opened: &Opened, client: &Arc<Client>) -> Result<(), Error> {
        let mut sessions = self.sessions.lock();
        self.check(&sessions, opened.session)?;
        if client.is_closed() {
            return Ok(());
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use synod_coordination_core::{OutboxLimits, PodId};

    use super::*;
    use crate::hub::Hub;

    #[test]
    fn a_connection_that_has_ended_does_not_take_the_place_of_a_newer_one() {
        let limits = OutboxLimits {
            commands: 10,
            bytes: 1_000,
            command_bytes: 1_000,
        };
        let hub = Arc::new(Hub::new(limits, None));
        hub.serve(true);
        let client = || Arc::new(Client::open(&hub, Ipv4Addr::UNSPECIFIED.into(), &[]));
        let opened = |session| Opened {
            session: SessionId::new(session),
            secret: [7; PASSWORD_LEN],
            timeout_ms: 1_000,
            pod: PodId::new(1),
        };
        let named = pb::SessionRef {
            id: 1,
            secret: vec![7; PASSWORD_LEN].into(),
        };
        let registry = Registry::new(1);
        let (older, newer) = (client(), client());
        older.close();
        registry.add(&opened(1), &newer).unwrap();
        registry.add(&opened(1), &older).unwrap();
        registry.remove(SessionId::new(1), &older);
        let (_, found) = registry.find(Some(&named)).unwrap();
        assert!(Arc::ptr_eq(&found, &newer));
        registry.check_room(SessionId::new(1)).unwrap();
        let full = Err(Error::TooManySessions { limit: 1 });
        assert_eq!(registry.check_room(SessionId::new(2)), full);
        assert_eq!(registry.add(&opened(2), &client()), full);
    }
}
