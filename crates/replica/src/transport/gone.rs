//! Detects whether a peer's process has ended.
//!
//! The kernel closes the connections of a process that ends, for whatever reason, and refuses new
//! ones. A peer that is only silent shows neither. Safety must not depend on this: a firewall may
//! refuse connections to a running process.

use std::time::Duration;

use synod_runtime::{clock, random};
use synod_types::NodeId;

use super::Transport;
use super::peer::Peer;

/// The number of attempts to connect: an ending process may close its streams before its port.
const ATTEMPTS: u32 = 6;
/// The delay after the first attempt. It doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// The timeout of an attempt, including name resolution. A running machine refuses at once.
const TIMEOUT: Duration = Duration::from_millis(250);

impl Transport {
    /// Called after the stream to a peer ended. Tells the groups if the peer's addresses refuse
    /// connections and no other stream was opened.
    pub(super) async fn look_after(&self, peer: &Peer) {
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                let pause = FIRST_PAUSE * (1 << (attempt - 1));
                clock::sleep(random::jitter(pause)).await;
            }
            let refused = self.is_refused(peer.node).await;
            if peer.has_link() || self.stop.is_triggered() {
                return;
            }
            if refused {
                tracing::warn!(peer = %peer.node, "the process of a peer seems to have ended: its addresses refuse connections");
                self.gone(peer.node);
                return;
            }
        }
    }

    /// Whether an address of the node refuses connections, and none accepts one.
    async fn is_refused(&self, node: NodeId) -> bool {
        let mut refused = false;
        for url in self.book.urls(node) {
            let look = synod_rpc::look(&url);
            match clock::timeout(TIMEOUT, look).await {
                Ok(synod_rpc::Look::Refused) => refused = true,
                Ok(synod_rpc::Look::Accepted) => return false,
                Ok(synod_rpc::Look::Unknown) | Err(_) => {}
            }
        }
        refused
    }
}
