//! The addresses of the peers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;
use synod_types::NodeId;
use tokio::sync::watch;

/// Addresses of the peers, shared between the service (which changes them) and the transport (which
/// dials). Clones share the book.
#[derive(Clone, Debug)]
pub struct PeerBook {
    book: Arc<watch::Sender<Book>>,
    /// The nodes with an open stream, and the feature level that each has.
    connected: Arc<Mutex<BTreeMap<NodeId, u32>>>,
    /// The feature level that peers must have.
    required_level: Arc<AtomicU32>,
}

/// One state of the book.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Book {
    pub(crate) urls: BTreeMap<NodeId, Vec<String>>,
    pub(crate) removed: BTreeSet<NodeId>,
}

impl Default for PeerBook {
    fn default() -> Self {
        Self::new()
    }
}

impl PeerBook {
    /// An empty book.
    #[must_use]
    pub fn new() -> Self {
        Self {
            book: Arc::new(watch::Sender::new(Book::default())),
            connected: Arc::default(),
            required_level: Arc::default(),
        }
    }

    /// Sets the URLs (`http://host:port`) of a node; they are tried in turn. Takes effect at once:
    /// a connection to an address that is no longer listed is closed.
    pub fn set(&self, node: NodeId, urls: Vec<String>) {
        self.book.send_if_modified(|book| {
            let readmitted = book.removed.remove(&node);
            let changed = book.urls.get(&node) != Some(&urls);
            if changed {
                book.urls.insert(node, urls);
            }
            changed || readmitted
        });
    }

    /// Forgets a node that left the cluster: its stream is closed and its attempts to connect are
    /// refused, with the reason.
    pub fn remove(&self, node: NodeId) {
        self.book.send_if_modified(|book| {
            let known = book.urls.remove(&node).is_some();
            book.removed.insert(node) || known
        });
    }

    /// The URLs of a node; empty if none are known.
    #[must_use]
    pub fn urls(&self, node: NodeId) -> Vec<String> {
        self.book
            .borrow()
            .urls
            .get(&node)
            .cloned()
            .unwrap_or_default()
    }

    /// All nodes with their URLs.
    #[must_use]
    pub fn all(&self) -> BTreeMap<NodeId, Vec<String>> {
        self.book.borrow().urls.clone()
    }

    /// Whether a stream to this node is open right now.
    #[must_use]
    pub fn is_connected(&self, node: NodeId) -> bool {
        self.connected.lock().contains_key(&node)
    }

    /// The highest feature level that a node has, while a stream to it is open.
    #[must_use]
    pub fn feature_level(&self, node: NodeId) -> Option<u32> {
        self.connected.lock().get(&node).copied()
    }

    /// From now on nodes that don't have this feature level are refused: they would not understand
    /// the log. An open stream to such a node ends at its next message or ping.
    pub fn require_feature_level(&self, level: u32) {
        self.required_level.store(level, Ordering::Relaxed);
    }

    pub(crate) fn required_feature_level(&self) -> u32 {
        self.required_level.load(Ordering::Relaxed)
    }

    pub(crate) fn connected(&self, node: NodeId, feature_level: u32) {
        self.connected.lock().insert(node, feature_level);
    }

    pub(crate) fn disconnected(&self, node: NodeId) {
        self.connected.lock().remove(&node);
    }

    pub(crate) fn is_removed(&self, node: NodeId) -> bool {
        self.book.borrow().removed.contains(&node)
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Book> {
        self.book.subscribe()
    }
}
