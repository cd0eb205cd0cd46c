//! The log's end for `sync`: one read is shared by all who wait for it.

use std::sync::Arc;

use synod_coordination_core::LogNumber;
use synod_runtime::task;
use tokio::sync::{mpsc, oneshot};

use super::{Endpoint, LogLost};
use crate::hub::Hub;

/// How many callers may wait for a read. Others wait for their turn.
const MAX_WAITING: usize = 4096;

/// Reads the log's end.
#[derive(Clone, Debug)]
pub(crate) struct LogEnd {
    asked: mpsc::Sender<Asked>,
}

type Asked = oneshot::Sender<Result<LogNumber, LogLost>>;

impl LogEnd {
    /// Starts the reader. It ends with the last clone of the handle.
    pub(crate) fn start(endpoint: Endpoint, hub: Arc<Hub>) -> Self {
        let (asked, waiting) = mpsc::channel(MAX_WAITING);
        task::spawn("log-end", answer(endpoint, hub, waiting));
        Self { asked }
    }

    /// A batch that is not before any that was in the log when this was called. Once it is applied,
    /// reads of this pod show every write that was acknowledged before the call.
    ///
    /// # Cancel safety
    /// The future may be dropped.
    pub(crate) async fn read(&self) -> Result<LogNumber, LogLost> {
        let (answer, answered) = oneshot::channel();
        let gone = || super::EndpointError::unknown("read the log's end", "the pod is stopping");
        self.asked.send(answer).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

async fn answer(endpoint: Endpoint, hub: Arc<Hub>, mut waiting: mpsc::Receiver<Asked>) {
    let mut asked = Vec::new();
    // Who asks while a read is under way waits for the next one, since this one may have been
    // executed already.
    while waiting.recv_many(&mut asked, MAX_WAITING).await > 0 {
        let end = endpoint.log_end(hub.applied()).await;
        for answer in asked.drain(..) {
            // Who has given up does not need it.
            drop(answer.send(end.clone()));
        }
    }
}
