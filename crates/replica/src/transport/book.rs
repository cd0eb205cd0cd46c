//! Where the peers are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use synod_types::NodeId;
use tokio::sync::watch;

/// Addresses of the peers, shared between the service (which changes them) and the transport (which dials). Clones
/// share the book.
#[derive(Clone, Debug)]
pub struct PeerBook {
    book: Arc<watch::Sender<Book>>,
    connected: Arc<Mutex<BTreeSet<NodeId>>>,
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
        }
    }

    /// Sets the URLs (`http://host:port`) of a node; they are tried in turn. Takes effect at once: a connection to an
    /// address that is no longer listed is closed.
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

    /// Forgets a node that left the cluster: its stream is closed and its attempts to connect are refused, with
    /// the reason.
    pub fn remove(&self, node: NodeId) {
        self.book.send_if_modified(|book| {
            let known = book.urls.remove(&node).is_some();
            book.removed.insert(node) || known
        });
    }

    /// The URLs of a node; empty where none are known.
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
        self.connected.lock().contains(&node)
    }

    pub(crate) fn connected(&self, node: NodeId) {
        self.connected.lock().insert(node);
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
