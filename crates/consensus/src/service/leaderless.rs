//! The end of streams whose clients ask to be told when there is no leader.

use std::sync::Arc;

use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt as _};
use synod_runtime::clock;
use synod_runtime::shutdown::Shutdown;
use tonic::Status;

use crate::error::Error;
use crate::shared::ServiceContext;

/// Such a stream ends after so many election timeouts without a leader.
const PATIENCE: u32 = 3;

/// Resolves once there has been no leader for three election timeouts.
///
/// # Cancel safety
/// Safe to drop; the next call starts to count again.
pub(crate) async fn leaderless(shared: &ServiceContext) {
    let mut role = shared.replica.watch_role();
    let patience = PATIENCE * shared.settings.election_timeout;
    loop {
        if role.wait_for(|role| role.leader.is_none()).await.is_err() {
            // The replica has stopped. The stream ends with the node, for that reason.
            return std::future::pending().await;
        }
        let back = role.wait_for(|role| role.leader.is_some());
        if clock::timeout(patience, back).await.is_err() {
            return;
        }
    }
}

/// `answers` until they end, the node stops, or there is no leader and the client `insists` on one.
pub(super) fn until_ending<T: Send + 'static>(
    answers: impl Stream<Item = Result<T, Status>> + Send + 'static,
    shared: Arc<ServiceContext>,
    insists: bool,
    stop: Shutdown,
) -> BoxStream<'static, Result<T, Status>> {
    let ended = stream::once(async move {
        let without_leader = async {
            match insists {
                true => leaderless(&shared).await,
                false => std::future::pending().await,
            }
        };
        // A node that stops loses its leader too, but reports that it stops.
        let error = tokio::select! {
            biased;
            () = stop.triggered() => Error::Stopped,
            () = without_leader => Error::NoLeader,
        };
        Err(error.into())
    });
    // Whichever comes first ends the stream: the end of the answers or `ended`.
    let both = stream::select(
        answers.map(Some).chain(stream::iter([None])),
        ended.map(Some),
    );
    both.scan((), |(), next| std::future::ready(next)).boxed()
}
