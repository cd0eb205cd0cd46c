//! The end of streams whose clients ask to be told when there is no leader.

use crate::shared::ServiceContext;
use synod_runtime::clock;

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
