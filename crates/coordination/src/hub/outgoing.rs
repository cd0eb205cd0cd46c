//! What a connection is to be sent.

use std::sync::Arc;

use bytes::BytesMut;
use parking_lot::Mutex;
use synod_jute::{ConnectResponse, Encode as _, ErrorCode, Response, WatcherEvent, frame};
use tokio::sync::Notify;

use super::inbox::Inbox;

/// A client that does not read is disconnected when so many bytes wait for it.
const MAX_WAITING_BYTES: usize = 64 << 20;

/// The bytes that wait to be sent on a connection. A client in this process gets messages instead.
#[derive(Default)]
pub(crate) struct Outgoing {
    state: Mutex<Waiting>,
    ready: Notify,
    inbox: Option<Arc<Inbox>>,
}

#[derive(Default)]
struct Waiting {
    bytes: BytesMut,
    /// Nothing is added any more. The connection ends when the bytes are sent.
    is_closed: bool,
}

impl Outgoing {
    /// Of a client in this process.
    pub(crate) fn to(inbox: Arc<Inbox>) -> Self {
        Self {
            inbox: Some(inbox),
            ..Self::default()
        }
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
        if !encode(&mut waiting.bytes) || waiting.bytes.len() > MAX_WAITING_BYTES {
            // The client would miss something: it must connect again.
            waiting.bytes.clear();
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

    /// Whether the connection ends.
    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().is_closed
    }

    /// The next bytes to send; `None` at the end.
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
        match (waiting.bytes.is_empty(), waiting.is_closed) {
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
