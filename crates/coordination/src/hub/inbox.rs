//! What a client in this process is told: a reply goes to who waits for it, and an event wakes who
//! watches its path. Nothing is queued, so nothing can overflow.
//!
//! The hub writes to it under its lock, in the order in which things happen. The inbox's own lock
//! is taken after the hub's, never before.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use synod_jute::{ConnectResponse, ErrorCode, Response, WatcherEvent};
use tokio::sync::{Notify, oneshot, watch};

/// The reply to a request.
pub(super) type Outcome = Result<Response, ErrorCode>;

/// What a client in this process is told.
#[derive(Debug)]
pub(crate) struct Inbox {
    contents: Mutex<Contents>,
    closed: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Contents {
    last_xid: i32,
    connected: Option<oneshot::Sender<ConnectResponse>>,
    /// Who waits for the reply to which request.
    replies: HashMap<i32, oneshot::Sender<Outcome>>,
    /// Who is woken by an event of which path.
    watchers: HashMap<String, Vec<Arc<Notify>>>,
    is_closed: bool,
}

impl Default for Inbox {
    fn default() -> Self {
        Self {
            contents: Mutex::default(),
            closed: watch::Sender::new(false),
        }
    }
}

impl Inbox {
    /// Registers who waits for the answer to the connect request.
    pub(super) fn expect_connected(&self) -> oneshot::Receiver<ConnectResponse> {
        let (sender, receiver) = oneshot::channel();
        let mut contents = self.contents.lock();
        if !contents.is_closed {
            contents.connected = Some(sender);
        }
        receiver
    }

    /// Registers who waits for a reply, under a new xid. The sender is dropped if none will come.
    pub(super) fn expect_reply(&self) -> (i32, oneshot::Receiver<Outcome>) {
        let (sender, receiver) = oneshot::channel();
        let mut contents = self.contents.lock();
        // Negative ones have meanings of their own.
        contents.last_xid = contents.last_xid.checked_add(1).unwrap_or(1);
        let xid = contents.last_xid;
        if !contents.is_closed {
            contents.replies.insert(xid, sender);
        }
        (xid, receiver)
    }

    /// Nobody waits for this reply any more.
    pub(super) fn forget_reply(&self, xid: i32) {
        self.contents.lock().replies.remove(&xid);
    }

    /// Wakes `waker` at the next event of this path, once.
    pub(super) fn wake_at(&self, path: &str, waker: &Arc<Notify>) {
        let mut contents = self.contents.lock();
        let wakers = contents.watchers.entry(path.to_owned()).or_default();
        wakers.push(Arc::clone(waker));
    }

    /// Ends [`Inbox::wake_at`]. Returns whether nobody else is woken by this path.
    pub(super) fn forget_waker(&self, path: &str, waker: &Arc<Notify>) -> bool {
        let mut contents = self.contents.lock();
        let Some(wakers) = contents.watchers.get_mut(path) else {
            return true;
        };
        wakers.retain(|other| !Arc::ptr_eq(other, waker));
        let is_last = wakers.is_empty();
        if is_last {
            contents.watchers.remove(path);
        }
        is_last
    }

    /// The answer to the connect request has come.
    pub(super) fn connected(&self, response: &ConnectResponse) {
        if let Some(sender) = self.contents.lock().connected.take() {
            // Whoever asked may be gone.
            drop(sender.send(response.clone()));
        }
    }

    /// A reply has come.
    pub(super) fn reply(&self, xid: i32, outcome: Result<&Response, ErrorCode>) {
        if let Some(sender) = self.contents.lock().replies.remove(&xid) {
            // Whoever asked may be gone.
            drop(sender.send(outcome.cloned()));
        }
    }

    /// An event has come.
    pub(super) fn event(&self, event: &WatcherEvent) {
        let wakers = self.contents.lock().watchers.remove(&*event.path);
        for waker in wakers.unwrap_or_default() {
            waker.notify_one();
        }
    }

    /// The connection ends: nothing more comes.
    pub(super) fn close(&self) {
        let mut contents = self.contents.lock();
        contents.is_closed = true;
        contents.connected = None;
        contents.replies.clear();
        let wakers = std::mem::take(&mut contents.watchers);
        drop(contents);
        self.closed.send_replace(true);
        for waker in wakers.into_values().flatten() {
            waker.notify_one();
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    /// Resolves when the connection has ended.
    ///
    /// # Cancel safety
    /// Safe to drop.
    pub(super) async fn closed(&self) {
        // The sender lives as long as `self`.
        drop(self.closed.subscribe().wait_for(|&closed| closed).await);
    }
}
