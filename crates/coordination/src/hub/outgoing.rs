//! What a connection is to be sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::BytesMut;
use parking_lot::Mutex;
use synod_jute::{ConnectResponse, Encode as _, ErrorCode, Response, WatcherEvent, frame};
use tokio::sync::Notify;

use super::inbox::Inbox;

/// A client that does not read is disconnected when so many bytes wait for it.
const MAX_WAITING_BYTES: usize = 64 << 20;

/// While more bytes wait for the clients of a pod together, a client that has more than
/// [`CROWDED_BYTES`] is disconnected.
const MAX_UNSENT_BYTES: usize = 512 << 20;

/// While so many bytes wait for a client, no request of it is read.
const CROWDED_BYTES: usize = 1 << 20;

/// A buffer of more than this is not kept for later.
const KEPT_BYTES: usize = 64 << 10;

/// The bytes that wait for all clients of a pod. A clone is the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unsent(Arc<AtomicUsize>);

/// The bytes that wait to be sent on a connection. A client in this process gets messages instead.
#[derive(Default)]
pub(crate) struct Outgoing {
    state: Mutex<Waiting>,
    ready: Notify,
    /// Bytes were sent.
    sent: Notify,
    inbox: Option<Arc<Inbox>>,
}

#[derive(Default)]
struct Waiting {
    bytes: BytesMut,
    /// How many bytes are being sent.
    in_flight: usize,
    /// Nothing is added any more. The connection ends when the bytes are sent.
    is_closed: bool,
    unsent: Unsent,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.unsent.subtract(self.len());
    }
}

impl Waiting {
    fn len(&self) -> usize {
        self.bytes.len() + self.in_flight
    }
}

impl Unsent {
    fn add(&self, bytes: usize) {
        // Only a sum: it orders nothing.
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    fn subtract(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        self.0.load(Ordering::Relaxed) > MAX_UNSENT_BYTES
    }
}

impl Outgoing {
    /// Of one of the clients that share `unsent`.
    pub(crate) fn new(unsent: Unsent) -> Self {
        let out = Self::default();
        out.state.lock().unsent = unsent;
        out
    }

    /// Of a client in this process.
    pub(crate) fn to(inbox: Arc<Inbox>) -> Self {
        Self {
            inbox: Some(inbox),
            ..Self::default()
        }
    }

    /// Whether the client is in this process.
    pub(crate) fn is_in_process(&self) -> bool {
        self.inbox.is_some()
    }

    /// Adds a reply.
    pub(crate) fn reply(&self, xid: i32, zxid: i64, outcome: Result<&Response, ErrorCode>) {
        if let Some(inbox) = &self.inbox {
            return inbox.reply(xid, outcome);
        }
        self.add(|out| synod_jute::encode_reply(out, xid, zxid, outcome).is_ok());
    }

    /// Adds an event.
    pub(crate) fn event(&self, zxid: i64, event: &WatcherEvent) {
        if let Some(inbox) = &self.inbox {
            return inbox.event(event);
        }
        self.add(|out| synod_jute::encode_event(out, zxid, event).is_ok());
    }

    /// Adds the answer to the connect request.
    pub(crate) fn connected(&self, response: &ConnectResponse) {
        if let Some(inbox) = &self.inbox {
            return inbox.connected(response);
        }
        self.add(|out| frame(out, |out| response.encode(out)).is_ok());
    }

    /// Adds text as it is: the answer to a four-letter word.
    pub(crate) fn text(&self, text: &str) {
        self.add(|out| {
            out.extend_from_slice(text.as_bytes());
            true
        });
    }

    fn add(&self, encode: impl FnOnce(&mut BytesMut) -> bool) {
        let mut waiting = self.state.lock();
        if waiting.is_closed {
            return;
        }
        let before = waiting.bytes.len();
        let is_encoded = encode(&mut waiting.bytes);
        waiting.unsent.add(waiting.bytes.len() - before);
        let limit = match waiting.unsent.is_over() {
            true => CROWDED_BYTES,
            false => MAX_WAITING_BYTES,
        };
        if !is_encoded || waiting.len() > limit {
            // The client would miss something: it must connect again.
            waiting.unsent.subtract(waiting.bytes.len());
            waiting.bytes = BytesMut::new();
            waiting.is_closed = true;
        }
        drop(waiting);
        self.ready.notify_one();
    }

    /// Ends the connection after what waits.
    pub(crate) fn close(&self) {
        if let Some(inbox) = &self.inbox {
            inbox.close();
        }
        self.state.lock().is_closed = true;
        self.ready.notify_one();
    }

    /// Resolves when the client has taken enough of what it asked for to ask for more. For one
    /// caller at a time.
    ///
    /// # Cancel safety
    /// Safe to drop.
    pub(crate) async fn room(&self) {
        while self.is_crowded() {
            self.sent.notified().await;
        }
    }

    fn is_crowded(&self) -> bool {
        let waiting = self.state.lock();
        waiting.len() > CROWDED_BYTES && !waiting.is_closed
    }

    /// The next bytes to send; `None` at the end. Those that it returned before are sent.
    ///
    /// # Cancel safety
    /// Bytes are taken only when it returns.
    pub(crate) async fn next(&self) -> Option<BytesMut> {
        loop {
            match self.take() {
                Taken::Bytes(bytes) => return Some(bytes),
                Taken::End => return None,
                Taken::Nothing => self.ready.notified().await,
            }
        }
    }

    fn take(&self) -> Taken {
        let mut waiting = self.state.lock();
        waiting.unsent.subtract(waiting.in_flight);
        waiting.in_flight = waiting.bytes.len();
        self.sent.notify_one();
        match (waiting.bytes.is_empty(), waiting.is_closed) {
            (false, _) if waiting.bytes.capacity() > KEPT_BYTES => {
                Taken::Bytes(std::mem::take(&mut waiting.bytes))
            }
            (false, _) => Taken::Bytes(waiting.bytes.split()),
            (true, true) => Taken::End,
            (true, false) => Taken::Nothing,
        }
    }
}

enum Taken {
    Bytes(BytesMut),
    Nothing,
    End,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use synod_runtime::clock;

    use super::*;

    fn text(bytes: usize) -> String {
        "x".repeat(bytes)
    }

    #[tokio::test]
    async fn bytes_count_until_the_next_ones_are_asked_for() {
        let unsent = Unsent::default();
        let out = Outgoing::new(unsent.clone());
        out.text(&text(CROWDED_BYTES + 1));
        assert_eq!(out.next().await.unwrap().len(), CROWDED_BYTES + 1);
        let wait = Duration::from_millis(20);
        assert!(clock::timeout(wait, out.room()).await.is_err());
        assert!(clock::timeout(wait, out.next()).await.is_err());
        out.room().await;
        assert_eq!(unsent.0.load(Ordering::Relaxed), 0);
        out.text("y");
        drop(out);
        assert_eq!(unsent.0.load(Ordering::Relaxed), 0, "of a lost connection");
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_is_disconnected() {
        let out = Outgoing::default();
        out.text(&text(MAX_WAITING_BYTES));
        out.text("y");
        assert_eq!(out.next().await, None);
    }

    #[tokio::test]
    async fn all_clients_share_a_bound() {
        let unsent = Unsent::default();
        unsent.add(MAX_UNSENT_BYTES);
        let (modest, greedy) = (Outgoing::new(unsent.clone()), Outgoing::new(unsent));
        modest.text("y");
        greedy.text(&text(CROWDED_BYTES + 1));
        assert_eq!(modest.next().await.unwrap(), "y");
        assert_eq!(greedy.next().await, None);
    }
}
