//! Implements the generated service traits: decode, one domain call, encode.

pub(crate) mod discovery;
pub(crate) mod elections;
pub(crate) mod files;
pub(crate) mod locks;
pub(crate) mod pods;
mod registry;
pub(crate) mod sessions;

use std::sync::Arc;
use std::time::Duration;

use synod_proto::coordination::v1 as pb;
use synod_runtime::clock;
use synod_runtime::shutdown::Shutdown;

use crate::discovery::{Checker, Networks};
use crate::error::Error;
use crate::hub::{Client, Hub};
use crate::queue::{Attempt, Attempts, Delays, Place};
use crate::zookeeper::Limits;
pub(crate) use registry::Registry;

/// A read that waits for the log's end fails after this time.
const SYNC_WITHIN: Duration = Duration::from_secs(5);

/// What the services of the gRPC API share.
pub(crate) struct Shared {
    pub(crate) hub: Arc<Hub>,
    pub(crate) sessions: Registry,
    pub(crate) attempts: Arc<Attempts>,
    pub(crate) delays: Arc<Delays>,
    pub(crate) checker: Arc<Checker>,
    pub(crate) limits: Limits,
    /// Ends the streams, which would never end by themselves.
    pub(crate) stop: Shutdown,
}

impl Shared {
    pub(crate) fn new(
        hub: Arc<Hub>,
        limits: Limits,
        checked: Networks,
        stop: Shutdown,
    ) -> Arc<Self> {
        Arc::new(Self {
            hub,
            sessions: Registry::new(limits.max_connections),
            attempts: Arc::default(),
            delays: Arc::default(),
            checker: Checker::new(checked, stop.clone()),
            limits,
            stop,
        })
    }

    /// The place of a session's attempt in the queue at this path.
    ///
    /// # Errors
    /// The session is not here, or the request's id is not valid.
    fn place(
        &self,
        session: Option<&pb::SessionRef>,
        queue: String,
        request_id: &str,
    ) -> Result<Place, Error> {
        let (session, client) = self.sessions.find(session)?;
        Ok(Place {
            client,
            queue,
            attempt: Attempt::new(session, request_id)?,
        })
    }

    /// A connection without a session, for a read that sees all that was acknowledged before.
    ///
    /// # Errors
    /// The log's end can't be read.
    async fn reading(&self) -> Result<Arc<Client>, Error> {
        let synced = clock::timeout(SYNC_WITHIN, self.hub.sync()).await;
        synced.map_err(|_| Error::NotServing)?;
        let address = std::net::Ipv4Addr::UNSPECIFIED.into();
        Ok(Arc::new(Client::open(&self.hub, address, &[])))
    }
}

/// Zxids are never negative.
fn wire_token(token: i64) -> u64 {
    u64::try_from(token).unwrap_or_default()
}
