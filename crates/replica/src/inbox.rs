//! The driver's inbox: filled from any thread, emptied in bulk.

use std::mem;
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;
use synod_consensus_core::{Change, Message, ReadMode, SnapshotMeta};
use synod_types::{Index, NodeId, WriteSeq};
use tokio::sync::{Notify, oneshot};

use crate::error::{Fault, ProposeError, ReadError, TransferError};
use crate::shared::ReadPermit;

/// Bytes of peer messages that may wait for the driver. Further messages are dropped; to the core
/// this looks like a lossy network.
pub(crate) const MAX_MESSAGE_BYTES: usize = 64 << 20;

pub(crate) type ProposalReply<O> = oneshot::Sender<Result<O, ProposeError>>;

/// The channel for a read's answer, with the read's permit.
pub(crate) struct ReadReply {
    sender: oneshot::Sender<Result<Index, ReadError>>,
    _permit: ReadPermit,
}

impl ReadReply {
    /// Creates a reply and the receiver of its answer.
    pub(crate) fn new(permit: ReadPermit) -> (Self, oneshot::Receiver<Result<Index, ReadError>>) {
        let (sender, answer) = oneshot::channel();
        let reply = Self {
            sender,
            _permit: permit,
        };
        (reply, answer)
    }

    /// Sends the answer. It doesn't matter if the caller has given up.
    pub(crate) fn send(self, result: Result<Index, ReadError>) {
        let _gone = self.sender.send(result);
    }

    /// Whether the caller has given up.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.sender.is_closed()
    }
}

pub(crate) struct ProposalRequest<O> {
    pub(crate) data: Bytes,
    pub(crate) reply: ProposalReply<O>,
    pub(crate) deadline: Instant,
    pub(crate) received: Instant,
}

pub(crate) struct ChangeRequest<O> {
    pub(crate) changes: Vec<Change>,
    pub(crate) context: Bytes,
    pub(crate) reply: ProposalReply<O>,
    pub(crate) deadline: Instant,
}

pub(crate) struct ReadRequest {
    pub(crate) mode: ReadMode,
    pub(crate) reply: ReadReply,
    pub(crate) deadline: Instant,
}

pub(crate) struct TransferRequest {
    pub(crate) to: NodeId,
    pub(crate) reply: oneshot::Sender<Result<(), TransferError>>,
    pub(crate) deadline: Instant,
}

/// Rare inputs.
#[derive(Debug)]
pub(crate) enum Event {
    /// A peer's queue overflowed or its stream broke.
    Unreachable(NodeId),
    /// A peer's process seems to have ended. At most one for each stream that broke.
    Gone(NodeId),
    /// The state machine durably holds this snapshot.
    Installed(SnapshotMeta),
    /// A snapshot could not be fetched or installed.
    InstallFailed,
    /// A follower's pull of a snapshot ended.
    SnapshotSent {
        to: NodeId,
        ok: bool,
    },
    /// The state machine is durable up to this position.
    Flushed(SnapshotMeta),
    Campaign,
}

/// All waiting input. The vectors are handed over whole, and the driver returns empty ones, so the
/// steady state allocates nothing.
pub(crate) struct Gathered<O> {
    pub(crate) proposals: Vec<ProposalRequest<O>>,
    pub(crate) changes: Vec<ChangeRequest<O>>,
    pub(crate) reads: Vec<ReadRequest>,
    pub(crate) transfers: Vec<TransferRequest>,
    pub(crate) messages: Vec<Message>,
    pub(crate) message_bytes: usize,
    pub(crate) persisted: Option<WriteSeq>,
    pub(crate) applied: Option<Index>,
    pub(crate) events: Vec<Event>,
    pub(crate) fault: Option<Fault>,
    pub(crate) stop: bool,
}

impl<O> Default for Gathered<O> {
    fn default() -> Self {
        Self {
            proposals: Vec::new(),
            changes: Vec::new(),
            reads: Vec::new(),
            transfers: Vec::new(),
            messages: Vec::new(),
            message_bytes: 0,
            persisted: None,
            applied: None,
            events: Vec::new(),
            fault: None,
            stop: false,
        }
    }
}

struct State<O> {
    gathered: Gathered<O>,
    /// The driver was notified and has not run yet, so it need not be notified again.
    notified: bool,
    closed: bool,
}

/// The driver's inbox. [`Load`](crate::shared::Load) bounds proposals and reads,
/// [`MAX_MESSAGE_BYTES`] bounds messages, and completions overwrite each other.
pub(crate) struct Inbox<O> {
    state: Mutex<State<O>>,
    arrived: Notify,
}

impl<O> Inbox<O> {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                gathered: Gathered::default(),
                notified: false,
                closed: false,
            }),
            arrived: Notify::new(),
        }
    }

    pub(crate) fn push_proposal(
        &self,
        request: ProposalRequest<O>,
    ) -> Result<(), ProposalRequest<O>> {
        self.push(request, |gathered, request| {
            gathered.proposals.push(request);
        })
    }

    pub(crate) fn push_change(&self, request: ChangeRequest<O>) -> Result<(), ChangeRequest<O>> {
        self.push(request, |gathered, request| gathered.changes.push(request))
    }

    pub(crate) fn push_read(&self, request: ReadRequest) -> Result<(), ReadRequest> {
        self.push(request, |gathered, request| gathered.reads.push(request))
    }

    pub(crate) fn push_transfer(&self, request: TransferRequest) -> Result<(), TransferRequest> {
        self.push(request, |gathered, request| {
            gathered.transfers.push(request);
        })
    }

    /// Queues messages of a peer; `bytes` is their size. Returns `false` if they were dropped.
    pub(crate) fn push_messages(&self, messages: Vec<Message>, bytes: usize) -> bool {
        self.push(messages, |gathered, messages| {
            if gathered.message_bytes > MAX_MESSAGE_BYTES {
                return false;
            }
            gathered.message_bytes += bytes;
            gathered.messages.extend(messages);
            true
        })
        .unwrap_or(false)
    }

    pub(crate) fn persisted(&self, seq: WriteSeq) {
        self.put(|gathered| gathered.persisted = gathered.persisted.max(Some(seq)));
    }

    /// The apply thread has applied `index`. Wakes the driver only if that is urgent: the core
    /// learns of ordinary progress at its next wake-up.
    pub(crate) fn applied(&self, index: Index, urgent: bool) {
        let mut state = self.state.lock();
        state.gathered.applied = state.gathered.applied.max(Some(index));
        if urgent {
            self.notify(state);
        }
    }

    pub(crate) fn event(&self, event: Event) {
        self.put(|gathered| gathered.events.push(event));
    }

    /// A peer's stream broke, or messages to it were dropped. Reported once, regardless of how
    /// many.
    pub(crate) fn unreachable(&self, node: NodeId) {
        self.put(|gathered| {
            if !matches!(gathered.events.last(), Some(Event::Unreachable(last)) if *last == node) {
                gathered.events.push(Event::Unreachable(node));
            }
        });
    }

    pub(crate) fn campaign(&self) {
        self.event(Event::Campaign);
    }

    /// Stops the driver with a reason. Only the first reason is kept.
    pub(crate) fn fail(&self, fault: Fault) {
        self.put(|gathered| {
            gathered.fault.get_or_insert(fault);
        });
    }

    /// Stops the driver in an orderly way.
    pub(crate) fn stop(&self) {
        self.put(|gathered| gathered.stop = true);
    }

    /// Refuses all further input and returns what was waiting.
    pub(crate) fn close(&self) -> Gathered<O> {
        let mut state = self.state.lock();
        state.closed = true;
        mem::take(&mut state.gathered)
    }

    /// Swaps `into`, which is empty, with the waiting input. Never waits.
    pub(crate) fn take(&self, into: &mut Gathered<O>) {
        let mut state = self.state.lock();
        state.notified = false;
        mem::swap(&mut state.gathered, into);
    }

    /// Waits until input arrives after the last [`take`](Self::take).
    ///
    /// # Cancel safety
    /// The future may be dropped; a notification is kept.
    pub(crate) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    fn put(&self, put: impl FnOnce(&mut Gathered<O>)) {
        // If the inbox is closed, no driver needs the input.
        let _closed = self.push((), |gathered, ()| put(gathered));
    }

    fn push<T, R>(&self, item: T, put: impl FnOnce(&mut Gathered<O>, T) -> R) -> Result<R, T> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(item);
        }
        let result = put(&mut state.gathered, item);
        self.notify(state);
        Ok(result)
    }

    fn notify(&self, mut state: parking_lot::MutexGuard<'_, State<O>>) {
        let first = !mem::replace(&mut state.notified, true);
        drop(state);
        if first {
            self.arrived.notify_one();
        }
    }
}
