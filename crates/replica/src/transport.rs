//! Peer streams: one bidirectional gRPC stream per pair of nodes, for all groups of the process.
//!
//! The node with the lower id dials, repeatedly with a jittered back-off, and tries the addresses
//! of the [`PeerBook`] in turn. Both sides introduce themselves first. Messages queued for a peer
//! are sent in one envelope, urgent ones first. Nothing is queued for a peer without a stream, and
//! a full queue drops messages. To the core both look like a lossy network, and it is told with
//! `Unreachable`. If a peer's stream has ended and its addresses refuse new connections, the core
//! is told with `Gone`.

pub(crate) mod book;
mod dial;
mod gone;
mod handshake;
mod peer;
mod service;

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use synod_consensus_core::Message;
use synod_runtime::shutdown::Shutdown;
use synod_types::{ClusterId, GroupId, NodeId};

pub(crate) use self::dial::run;
pub(crate) use self::handshake::Identity;
use self::peer::Peer;
pub(crate) use self::peer::Unsent;
pub(crate) use self::service::PeerService;
use crate::clock::TickClock;
use crate::config::TransportConfig;
use crate::metrics::Metrics;
use crate::snapshot::SnapshotServer;
use book::PeerBook;

/// The maximum number of nodes for which this one has a queue. Streams of further nodes are
/// refused.
const MAX_PEERS: usize = 1_024;

/// The interface of a group for the transport.
pub(crate) trait GroupPort: Send + Sync {
    /// Delivers messages of a peer; `bytes` is their approximate size. May drop them.
    fn deliver(&self, messages: Vec<Message>, bytes: usize);
    /// A peer's stream broke or its queue overflowed.
    fn unreachable(&self, node: NodeId);
    /// A peer's process seems to have ended.
    fn gone(&self, node: NodeId);
    /// The server of the group's snapshots.
    fn snapshots(&self) -> &Arc<SnapshotServer>;
}

/// All streams of this process.
pub(crate) struct Transport {
    pub(crate) identity: Identity,
    pub(crate) config: TransportConfig,
    pub(crate) book: PeerBook,
    pub(crate) metrics: Metrics,
    pub(crate) stop: Shutdown,
    clock: TickClock,
    peers: Mutex<BTreeMap<NodeId, Arc<Peer>>>,
    groups: RwLock<BTreeMap<GroupId, Arc<dyn GroupPort>>>,
}

impl Transport {
    pub(crate) fn new(
        identity: Identity,
        config: TransportConfig,
        book: PeerBook,
        metrics: Metrics,
        clock: TickClock,
    ) -> Arc<Self> {
        Arc::new(Self {
            identity,
            config,
            book,
            metrics,
            stop: Shutdown::new(),
            clock,
            peers: Mutex::default(),
            groups: RwLock::default(),
        })
    }

    pub(crate) fn register(&self, group: GroupId, port: Arc<dyn GroupPort>) {
        self.groups.write().insert(group, port);
    }

    /// Also breaks the reference cycle between a group and its transport.
    pub(crate) fn unregister(&self, group: GroupId) {
        self.groups.write().remove(&group);
    }

    pub(crate) fn group(&self, group: GroupId) -> Option<Arc<dyn GroupPort>> {
        self.groups.read().get(&group).cloned()
    }

    pub(crate) fn cluster(&self) -> ClusterId {
        self.identity.cluster
    }

    /// Queues a message for its receiver, or returns it. A returned message certainly never leaves
    /// this node.
    pub(crate) fn send(&self, group: GroupId, message: Message) -> Option<(Unsent, Message)> {
        let to = message.to;
        let peer = self.peers.lock().get(&to).cloned();
        let Some(peer) = peer else {
            return Some((Unsent::NoStream, message));
        };
        let unsent = peer.send(group, message, &self.config);
        if matches!(unsent, Some((Unsent::Overflow, _))) {
            self.metrics.send_failed(to);
            if let Some(port) = self.group(group) {
                port.unreachable(to);
            }
        }
        unsent
    }

    /// The queue of a node; `None` if there are too many nodes.
    fn peer(&self, node: NodeId) -> Option<Arc<Peer>> {
        let mut peers = self.peers.lock();
        if !peers.contains_key(&node) && peers.len() >= MAX_PEERS {
            return None;
        }
        let peer = peers
            .entry(node)
            .or_insert_with(|| Arc::new(Peer::new(node)));
        Some(Arc::clone(peer))
    }

    fn close_peer(&self, node: NodeId) {
        if let Some(peer) = self.peers.lock().remove(&node) {
            peer.close();
        }
    }

    fn close_all(&self) {
        let peers = std::mem::take(&mut *self.peers.lock());
        for peer in peers.into_values() {
            peer.close();
        }
    }

    fn lost(&self, node: NodeId) {
        for port in self.groups.read().values() {
            port.unreachable(node);
        }
    }

    fn gone(&self, node: NodeId) {
        for port in self.groups.read().values() {
            port.gone(node);
        }
    }

    fn group_ids(&self) -> Vec<u64> {
        self.groups.read().keys().map(|group| group.get()).collect()
    }
}
