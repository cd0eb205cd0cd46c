//! One peer's queue, and the stream of envelopes that empties it.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::Stream;
use futures::task::AtomicWaker;
use parking_lot::Mutex;
use synod_consensus_core::Message;
use synod_proto::replica::v1::{Envelope, Hello};
use synod_runtime::shutdown::Shutdown;
use synod_types::{GroupId, NodeId};

use crate::config::TransportConfig;
use crate::convert::{Lane, lane, message_bytes, message_to_wire};

/// Why a message was not queued: it certainly never leaves this node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unsent {
    /// There is no stream. The core learned of it when the stream broke.
    NoStream,
    /// The queue is full.
    Overflow,
}

struct Queued {
    group: GroupId,
    message: Message,
    bytes: usize,
}

#[derive(Default)]
struct Queue {
    /// The link that may send. Links are numbered upwards: a newer one ends an older one.
    open: Option<Link>,
    last: u64,
    urgent: VecDeque<Queued>,
    bulk: VecDeque<Queued>,
    bytes: usize,
    ping: u64,
    pong: u64,
}

/// A node that this one exchanges messages with.
pub(super) struct Peer {
    pub(super) node: NodeId,
    queue: Mutex<Queue>,
}

/// One connection to a peer.
#[derive(Clone)]
pub(super) struct Link {
    number: u64,
    /// Triggered when the connection is over, whichever side noticed first.
    pub(super) closed: Shutdown,
    /// Wakes its stream of envelopes.
    waker: Arc<AtomicWaker>,
}

impl Link {
    fn close(&self) {
        self.closed.trigger();
        self.waker.wake();
    }
}

impl Peer {
    pub(super) fn new(node: NodeId) -> Self {
        Self {
            node,
            queue: Mutex::default(),
        }
    }

    /// Creates a link, which sends only its introduction until it is opened.
    pub(super) fn link(&self) -> Link {
        let mut queue = self.queue.lock();
        queue.last += 1;
        Link {
            number: queue.last,
            closed: Shutdown::new(),
            waker: Arc::default(),
        }
    }

    /// Lets `link` send instead of any older one. Returns `false` if a newer one was opened
    /// meanwhile.
    pub(super) fn open(&self, link: &Link) -> bool {
        let mut queue = self.queue.lock();
        let newer = queue
            .open
            .as_ref()
            .is_some_and(|open| open.number > link.number);
        if newer || link.closed.is_triggered() {
            return false;
        }
        queue.clear();
        let older = queue.open.replace(link.clone());
        drop(queue);
        if let Some(older) = older {
            older.close();
        }
        link.waker.wake();
        true
    }

    /// Ends `link`. Returns whether it was the open one.
    pub(super) fn close_link(&self, link: &Link) -> bool {
        link.close();
        let mut queue = self.queue.lock();
        let was_open = queue.is_open(link);
        if was_open {
            queue.open = None;
            queue.clear();
        }
        was_open
    }

    /// Whether a link is open.
    pub(super) fn has_link(&self) -> bool {
        self.queue.lock().open.is_some()
    }

    /// Ends the open link, if any.
    pub(super) fn close(&self) {
        let mut queue = self.queue.lock();
        queue.clear();
        let open = queue.open.take();
        drop(queue);
        if let Some(open) = open {
            open.close();
        }
    }

    /// Queues a message, or returns it.
    pub(super) fn send(
        &self,
        group: GroupId,
        message: Message,
        config: &TransportConfig,
    ) -> Option<(Unsent, Message)> {
        let bytes = message_bytes(&message);
        let lane = lane(&message.body);
        let mut queue = self.queue.lock();
        let Some(waker) = queue.open.as_ref().map(|open| Arc::clone(&open.waker)) else {
            return Some((Unsent::NoStream, message));
        };
        let count = queue.urgent.len() + queue.bulk.len();
        if count >= config.max_queued_messages || queue.bytes + bytes > config.max_queued_bytes {
            return Some((Unsent::Overflow, message));
        }
        queue.bytes += bytes;
        let queued = Queued {
            group,
            message,
            bytes,
        };
        match lane {
            Lane::Urgent => queue.urgent.push_back(queued),
            Lane::Bulk => queue.bulk.push_back(queued),
        }
        drop(queue);
        if count == 0 {
            waker.wake();
        }
        None
    }

    /// Sends a ping with this time in the next envelope.
    pub(super) fn ping(&self, nanos: u64) {
        self.signal(|queue| queue.ping = nanos);
    }

    /// Answers a ping in the next envelope.
    pub(super) fn pong(&self, nanos: u64) {
        self.signal(|queue| queue.pong = nanos);
    }

    fn signal(&self, set: impl FnOnce(&mut Queue)) {
        let mut queue = self.queue.lock();
        set(&mut queue);
        if let Some(open) = &queue.open {
            open.waker.wake();
        }
    }
}

impl Queue {
    fn is_open(&self, link: &Link) -> bool {
        self.open
            .as_ref()
            .is_some_and(|open| open.number == link.number)
    }

    fn clear(&mut self) {
        self.urgent.clear();
        self.bulk.clear();
        self.bytes = 0;
        self.ping = 0;
        self.pong = 0;
    }

    /// The next envelope: urgent messages first, up to `max_bytes`, but at least one message.
    fn envelope(&mut self, max_bytes: usize) -> Option<(Envelope, usize)> {
        if self.urgent.is_empty() && self.bulk.is_empty() && self.ping == 0 && self.pong == 0 {
            return None;
        }
        let mut bytes = 0;
        let mut messages = Vec::with_capacity(self.urgent.len() + self.bulk.len().min(64));
        while let Some(next) = self.urgent.front().or(self.bulk.front()) {
            if bytes > 0 && bytes + next.bytes > max_bytes {
                break;
            }
            let Some(next) = self.urgent.pop_front().or_else(|| self.bulk.pop_front()) else {
                break;
            };
            bytes += next.bytes;
            messages.push(message_to_wire(next.group, next.message));
        }
        self.bytes -= bytes;
        let envelope = Envelope {
            hello: None,
            messages,
            ping: std::mem::take(&mut self.ping),
            pong: std::mem::take(&mut self.pong),
        };
        Some((envelope, bytes))
    }
}

/// The stream from which tonic takes envelopes. Tonic drops it when the connection is over, which
/// closes the link.
pub(super) struct Outbound {
    peer: Arc<Peer>,
    link: Link,
    hello: Option<Hello>,
    max_bytes: usize,
    sent_bytes: prometheus::IntCounter,
}

impl Outbound {
    pub(super) fn new(
        peer: Arc<Peer>,
        link: Link,
        hello: Hello,
        max_bytes: usize,
        sent_bytes: prometheus::IntCounter,
    ) -> Self {
        Self {
            peer,
            link,
            hello: Some(hello),
            max_bytes,
            sent_bytes,
        }
    }
}

impl Stream for Outbound {
    type Item = Envelope;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Envelope>> {
        if let Some(hello) = self.hello.take() {
            return Poll::Ready(Some(Envelope {
                hello: Some(hello),
                ..Envelope::default()
            }));
        }
        // Registered before the check, so that nothing in between is missed.
        self.link.waker.register(context.waker());
        if self.link.closed.is_triggered() {
            return Poll::Ready(None);
        }
        let mut queue = self.peer.queue.lock();
        if !queue.is_open(&self.link) {
            return Poll::Pending;
        }
        match queue.envelope(self.max_bytes) {
            Some((envelope, bytes)) => {
                drop(queue);
                self.sent_bytes
                    .inc_by(u64::try_from(bytes).unwrap_or(u64::MAX));
                Poll::Ready(Some(envelope))
            }
            None => Poll::Pending,
        }
    }
}

impl Drop for Outbound {
    fn drop(&mut self) {
        self.link.closed.trigger();
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::StreamExt as _;
    use futures::executor::block_on;
    use futures::future::poll_immediate;
    use synod_consensus_core::{CommonBody as Body, Proposal};
    use synod_proto::replica::v1::message::Body as WireBody;
    use synod_types::{Ballot, RequestId};

    use super::*;

    fn message(body: Body) -> Message {
        Message {
            from: NodeId::new(1),
            to: NodeId::new(2),
            ballot: Ballot::term(1),
            body: body.into(),
        }
    }

    fn bulk(bytes: usize) -> Message {
        let proposal = Proposal {
            id: RequestId::NONE,
            data: Bytes::from(vec![0; bytes]),
        };
        let token = synod_consensus_core::ForwardToken {
            session: 1,
            number: 1,
        };
        message(Body::Forward {
            token,
            proposals: vec![proposal],
        })
    }

    fn refusal(unsent: Option<(Unsent, Message)>) -> Option<Unsent> {
        unsent.map(|(reason, _)| reason)
    }

    fn outbound(peer: &Arc<Peer>, link: &Link, max_bytes: usize) -> Outbound {
        let counter = prometheus::IntCounter::new("sent", "sent").unwrap();
        Outbound::new(
            Arc::clone(peer),
            link.clone(),
            Hello::default(),
            max_bytes,
            counter,
        )
    }

    #[test]
    fn urgent_messages_overtake_large_ones_which_keep_their_size() {
        let config = TransportConfig::default();
        let peer = Arc::new(Peer::new(NodeId::new(2)));
        let group = GroupId::new(1);
        let link = peer.link();
        let mut stream = outbound(&peer, &link, 1_000);
        assert!(block_on(stream.next()).unwrap().hello.is_some());
        assert_eq!(
            refusal(peer.send(group, bulk(1), &config)),
            Some(Unsent::NoStream)
        );
        assert!(peer.open(&link));
        for _ in 0..3 {
            assert_eq!(refusal(peer.send(group, bulk(800), &config)), None);
        }
        peer.send(group, message(Body::HeartbeatReply { round: 4 }), &config);
        let first = block_on(stream.next()).unwrap();
        assert_eq!(first.messages.len(), 2);
        assert!(matches!(
            first.messages[0].body,
            Some(WireBody::HeartbeatReply(_))
        ));
        peer.send(group, message(Body::HeartbeatReply { round: 5 }), &config);
        let second = block_on(stream.next()).unwrap();
        assert!(matches!(
            second.messages[0].body,
            Some(WireBody::HeartbeatReply(_))
        ));
        assert_eq!(block_on(stream.next()).unwrap().messages.len(), 1);
        assert!(block_on(poll_immediate(stream.next())).is_none());
    }

    #[test]
    fn a_full_queue_drops_and_a_newer_link_ends_an_older_one() {
        let config = TransportConfig {
            max_queued_messages: 2,
            max_queued_bytes: 4_000,
            ..TransportConfig::default()
        };
        let peer = Arc::new(Peer::new(NodeId::new(2)));
        let group = GroupId::new(1);
        let old = peer.link();
        assert!(peer.open(&old));
        assert_eq!(
            refusal(peer.send(group, bulk(5_000), &config)),
            Some(Unsent::Overflow)
        );
        assert_eq!(refusal(peer.send(group, bulk(1), &config)), None);
        assert_eq!(refusal(peer.send(group, bulk(1), &config)), None);
        assert_eq!(
            refusal(peer.send(group, bulk(1), &config)),
            Some(Unsent::Overflow)
        );
        let new = peer.link();
        let mut stale = outbound(&peer, &old, 1_000);
        assert!(peer.open(&new));
        assert!(old.closed.is_triggered());
        assert!(!peer.open(&old));
        assert!(block_on(stale.next()).unwrap().hello.is_some());
        assert!(block_on(stale.next()).is_none());
        // What was queued for the old stream is gone with it.
        assert_eq!(refusal(peer.send(group, bulk(1), &config)), None);
        assert!(!peer.close_link(&old));
        assert!(peer.close_link(&new));
        assert_eq!(
            refusal(peer.send(group, bulk(1), &config)),
            Some(Unsent::NoStream)
        );
    }
}
