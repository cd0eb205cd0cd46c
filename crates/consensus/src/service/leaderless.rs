//! Streams of clients that would rather know that there is no leader.

use crate::shared::ServiceContext;
use synod_runtime::clock;

/// Election timeouts without a leader after which such a stream ends.
const PATIENCE: u32 = 3;

/// Resolves once there has been no leader for three election timeouts.
///
/// # Cancel safety
/// Safe to drop; the next call starts counting anew.
pub(crate) async fn leaderless(shared: &ServiceContext) {
    let mut role = shared.replica.watch_role();
    let patience = PATIENCE * shared.settings.election_timeout;
    loop {
        if role.wait_for(|role| role.leader.is_none()).await.is_err() {
            // The replica has stopped: streams end with the node, not for want of a leader.
            return std::future::pending().await;
        }
        let back = role.wait_for(|role| role.leader.is_some());
        if clock::timeout(patience, back).await.is_err() {
            return;
        }
    }
}
