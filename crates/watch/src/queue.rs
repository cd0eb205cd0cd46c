//! The outgoing queue of one stream: bounded, ordered, and filled without waiting.
//!
//! The hub pushes, and the stream's task takes. When the queue is full, the hub stops feeding the
//! watcher whose events didn't fit; that watcher later reads from history what it missed. Events of
//! several revisions that wait for the same watcher are merged into one response, unless something
//! between them must keep its place.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::limits::WatchLimits;

/// The accounted overhead of an event.
const EVENT_OVERHEAD_BYTES: usize = 40;
/// An upper bound for the size of a response without its events.
const RESPONSE_FIELDS_BYTES: usize = 64;

/// A watcher's id, unique within its stream. The client chooses it or the hub assigns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId(pub i64);

impl WatchId {
    /// No particular watcher: used for refused watchers, and for progress of the whole stream.
    pub const NONE: Self = Self(-1);
}

/// The events of one revision that one group of watchers sees, encoded once and shared by all of
/// them.
#[derive(Debug)]
pub struct Part {
    /// Encoded `mvccpb.Event`s.
    pub events: Vec<Bytes>,
    bytes: usize,
}

impl Part {
    /// Creates a part and computes its size once for all watchers.
    pub fn new(events: Vec<Bytes>) -> Self {
        let bytes = events.iter().map(|e| e.len() + EVENT_OVERHEAD_BYTES).sum();
        Self { events, bytes }
    }

    /// The size that counts against the limits.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }
}

/// The watcher that events go to, and its options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The watcher.
    pub watch_id: WatchId,
    /// Whether its responses may be split within a revision.
    pub splitting: Splitting,
    /// Whether it wants periodic progress notifications.
    pub progress: Progress,
}

/// Whether a revision's events may be split over several responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Splitting {
    /// Never.
    Whole,
    /// If they exceed the limit for one response.
    Fragments,
}

/// Whether a watcher gets periodic progress notifications.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// No notifications.
    Silent,
    /// Notifications, unless events already told as much.
    Periodic,
}

/// A response without events. The revision goes into its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The watcher was created.
    Created {
        /// Its id.
        watch_id: WatchId,
        /// The store's revision.
        revision: i64,
    },
    /// The watcher was refused.
    Refused {
        /// The reason, as sent to the client.
        reason: String,
        /// The store's revision.
        revision: i64,
    },
    /// The watcher was cancelled by the client.
    Canceled {
        /// Its id.
        watch_id: WatchId,
        /// The store's revision.
        revision: i64,
    },
    /// The watcher was cancelled because its next events were compacted.
    Compacted {
        /// Its id.
        watch_id: WatchId,
        /// The oldest revision that can be read.
        compact_revision: i64,
    },
    /// Everything up to `revision` has been sent: to one watcher, or without an id to all.
    Progress {
        /// The watcher, or [`WatchId::NONE`].
        watch_id: WatchId,
        /// The revision.
        revision: i64,
    },
}

/// The reason why a stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The client finished or disconnected.
    Finished,
    /// There was no leader for too long, and the client asked to be told.
    NoLeader,
    /// The server is stopping.
    Stopped,
    /// History could not be read.
    Broken,
}

/// One response to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// A response without events.
    Notice(Notice),
    /// A response with events.
    Events {
        /// The watcher.
        watch_id: WatchId,
        /// The revision for the header.
        revision: i64,
        /// Encoded `mvccpb.Event`s, in order.
        events: Vec<Bytes>,
        /// Whether more events of the same revision follow.
        fragment: bool,
    },
}

/// The result of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Push {
    /// The events will be sent.
    Accepted,
    /// Nothing was queued. The hub will be notified when there is room.
    Full,
    /// The stream is closed.
    Closed,
}

#[derive(Debug)]
struct EventsEntry {
    watch_id: WatchId,
    splitting: Splitting,
    revision: i64,
    parts: Vec<Arc<Part>>,
    bytes: usize,
    /// The number of events already sent in earlier fragments.
    sent: usize,
}

#[derive(Debug)]
enum Entry {
    Notice(Notice),
    Events(EventsEntry),
}

#[derive(Debug, Default)]
struct State {
    entries: VecDeque<Entry>,
    /// The number of entries ever taken: the sequence number of the front entry.
    taken: u64,
    /// The entry that a watcher's next events may be merged into.
    open: HashMap<WatchId, u64>,
    bytes: usize,
    starved: bool,
    /// Watchers with periodic progress that got events since their last notification.
    active: HashSet<WatchId>,
    end: Option<End>,
    waker: Option<Waker>,
}

/// A stream's outgoing queue.
#[derive(Debug)]
pub struct StreamQueue {
    state: Mutex<State>,
    room: Notify,
    limits: WatchLimits,
}

/// The result of [`StreamQueue::take`].
#[derive(Debug)]
pub struct Taken {
    /// The next response; `None` at the end of the stream.
    pub next: Result<Outgoing, End>,
    /// Whether to tell the hub that there is room.
    pub drained: bool,
}

impl StreamQueue {
    /// An empty queue.
    pub fn new(limits: WatchLimits) -> Self {
        Self {
            state: Mutex::default(),
            room: Notify::new(),
            limits,
        }
    }

    /// Adds a response without events. It is always accepted: there is at most one per request, and
    /// the stream reads no requests while [`Self::has_room`] is pending.
    pub fn notify(&self, notice: Notice) {
        let mut state = self.state.lock();
        if state.end.is_some() {
            return;
        }
        // Nothing may be merged into earlier entries any more: a progress notice covers everything
        // before it.
        state.open.clear();
        state.entries.push_back(Entry::Notice(notice));
        wake(state);
    }

    /// Adds events of one or more revisions, all or none.
    pub fn push(&self, target: &Target, revision: i64, parts: &[Arc<Part>]) -> Push {
        let bytes: usize = parts.iter().map(|part| part.bytes()).sum();
        let mut state = self.state.lock();
        if state.end.is_some() {
            return Push::Closed;
        }
        if bytes == 0 {
            return Push::Accepted;
        }
        if state.bytes > 0 && state.bytes + bytes > self.limits.queue_bytes {
            state.starved = true;
            return Push::Full;
        }
        state.bytes += bytes;
        if target.progress == Progress::Periodic {
            state.active.insert(target.watch_id);
        }
        if !state.join(target, revision, parts, self.limits.response_bytes) {
            let seq = state.taken + state.entries.len() as u64;
            state.open.insert(target.watch_id, seq);
            state.entries.push_back(Entry::Events(EventsEntry {
                watch_id: target.watch_id,
                splitting: target.splitting,
                revision,
                parts: parts.to_vec(),
                bytes,
                sent: 0,
            }));
        }
        wake(state);
        Push::Accepted
    }

    /// Returns whether events went to a watcher with periodic progress since the last call, and
    /// resets that.
    pub fn take_active(&self, watch_id: WatchId) -> bool {
        self.state.lock().active.remove(&watch_id)
    }

    /// Ends the stream: after everything queued has been sent, or at once if the reason is an
    /// error.
    pub fn close(&self, end: End) {
        let mut state = self.state.lock();
        if state.end.is_some() {
            return;
        }
        state.end = Some(end);
        if end != End::Finished {
            state.entries.clear();
            state.open.clear();
            state.bytes = 0;
        }
        wake(state);
        self.room.notify_waiters();
    }

    /// Resolves when fewer than [`WatchLimits::queue_responses`] responses wait, or the stream has
    /// ended.
    pub async fn has_room(&self) {
        loop {
            let notified = self.room.notified();
            {
                let state = self.state.lock();
                if state.end.is_some() || state.entries.len() < self.limits.queue_responses {
                    return;
                }
            }
            notified.await;
        }
    }

    /// The number of waiting responses.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.state.lock().entries.len()
    }

    /// Takes the next response, or registers the task to be woken.
    pub fn take(&self, cx: &Context<'_>) -> Poll<Taken> {
        let mut state = self.state.lock();
        let Some(entry) = state.entries.front_mut() else {
            if let Some(end) = state.end {
                let drained = false;
                return Poll::Ready(Taken {
                    next: Err(end),
                    drained,
                });
            }
            match &mut state.waker {
                Some(waker) => waker.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
            return Poll::Pending;
        };
        let fragment = match entry {
            Entry::Notice(_) => None,
            Entry::Events(events) => {
                let first = (events.sent == 0).then_some(events.watch_id);
                let fragment = events.next_fragment(self.limits.fragment_bytes);
                if let Some(watch_id) = first {
                    state.close_entry(watch_id);
                }
                fragment
            }
        };
        let next = match fragment {
            Some(fragment) => fragment,
            None => state.pop(),
        };
        let drained = state.starved && state.bytes <= self.limits.queue_bytes / 4;
        if drained {
            state.starved = false;
        }
        if state.entries.len() + 1 == self.limits.queue_responses {
            self.room.notify_waiters();
        }
        Poll::Ready(Taken {
            next: Ok(next),
            drained,
        })
    }
}

impl State {
    fn join(&mut self, target: &Target, revision: i64, parts: &[Arc<Part>], limit: usize) -> bool {
        let Some(seq) = self.open.get(&target.watch_id) else {
            return false;
        };
        let at = usize::try_from(seq.wrapping_sub(self.taken)).unwrap_or(usize::MAX);
        let Some(Entry::Events(entry)) = self.entries.get_mut(at) else {
            return false;
        };
        let bytes: usize = parts.iter().map(|part| part.bytes()).sum();
        if entry.bytes + bytes > limit {
            return false;
        }
        entry.bytes += bytes;
        entry.revision = entry.revision.max(revision);
        entry.parts.extend(parts.iter().cloned());
        true
    }

    /// Marks the front entry as being sent, so that nothing is merged into it any more.
    fn close_entry(&mut self, watch_id: WatchId) {
        if self.open.get(&watch_id) == Some(&self.taken) {
            self.open.remove(&watch_id);
        }
    }

    fn pop(&mut self) -> Outgoing {
        self.taken += 1;
        match self.entries.pop_front() {
            Some(Entry::Events(entry)) => {
                self.bytes = self.bytes.saturating_sub(entry.bytes);
                entry.into_rest()
            }
            Some(Entry::Notice(notice)) => Outgoing::Notice(notice),
            None => unreachable!("the caller saw a front entry"),
        }
    }
}

impl EventsEntry {
    fn events(&self) -> impl Iterator<Item = &Bytes> {
        self.parts
            .iter()
            .flat_map(|part| &part.events)
            .skip(self.sent)
    }

    /// The next response of this entry, unless it is the last one.
    fn next_fragment(&mut self, limit: usize) -> Option<Outgoing> {
        if self.splitting == Splitting::Whole {
            return None;
        }
        let (mut size, mut count, mut split) = (RESPONSE_FIELDS_BYTES, 0, false);
        for event in self.events() {
            size += encoded_field_bytes(event.len());
            // A response carries at least one event, whatever its size.
            if count > 0 && size >= limit {
                split = true;
                break;
            }
            count += 1;
        }
        if !split {
            return None;
        }
        let events = self.events().take(count).cloned().collect();
        self.sent += count;
        Some(Outgoing::Events {
            watch_id: self.watch_id,
            revision: self.revision,
            events,
            fragment: true,
        })
    }

    fn into_rest(self) -> Outgoing {
        let events = self.events().cloned().collect();
        Outgoing::Events {
            watch_id: self.watch_id,
            revision: self.revision,
            events,
            fragment: false,
        }
    }
}

/// The encoded size of a length-delimited field with a one-byte tag.
fn encoded_field_bytes(len: usize) -> usize {
    1 + prost::length_delimiter_len(len) + len
}

fn wake(mut state: parking_lot::MutexGuard<'_, State>) {
    let waker = state.waker.take();
    // Waking may run other code, so release the lock first.
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(id: i64, splitting: Splitting) -> Target {
        Target {
            watch_id: WatchId(id),
            splitting,
            progress: Progress::Silent,
        }
    }

    fn part(sizes: &[usize]) -> Arc<Part> {
        let events = sizes.iter().map(|n| Bytes::from(vec![7; *n])).collect();
        Arc::new(Part::new(events))
    }

    fn take(queue: &StreamQueue) -> Option<Taken> {
        match queue.take(&Context::from_waker(Waker::noop())) {
            Poll::Ready(taken) => Some(taken),
            Poll::Pending => None,
        }
    }

    fn shape(queue: &StreamQueue) -> Vec<(i64, i64, usize, bool)> {
        std::iter::from_fn(|| take(queue))
            .map_while(|taken| taken.next.ok())
            .map(|next| match next {
                Outgoing::Notice(Notice::Progress { watch_id, revision }) => {
                    (watch_id.0, revision, 0, false)
                }
                Outgoing::Notice(other) => panic!("{other:?}"),
                Outgoing::Events {
                    watch_id,
                    revision,
                    events,
                    fragment,
                } => (watch_id.0, revision, events.len(), fragment),
            })
            .collect()
    }

    #[test]
    fn waiting_revisions_are_merged_up_to_a_notice() {
        let queue = StreamQueue::new(WatchLimits::default());
        let (a, b) = (target(1, Splitting::Whole), target(2, Splitting::Whole));
        assert_eq!(queue.push(&a, 5, &[part(&[10])]), Push::Accepted);
        assert_eq!(queue.push(&b, 5, &[part(&[10])]), Push::Accepted);
        assert_eq!(queue.push(&a, 6, &[part(&[10, 10])]), Push::Accepted);
        queue.notify(Notice::Progress {
            watch_id: WatchId::NONE,
            revision: 6,
        });
        assert_eq!(queue.push(&a, 7, &[part(&[10])]), Push::Accepted);
        assert_eq!(
            shape(&queue),
            [
                (1, 6, 3, false),
                (2, 5, 1, false),
                (-1, 6, 0, false),
                (1, 7, 1, false)
            ]
        );
        // An entry that is being sent accepts no more events.
        assert_eq!(queue.push(&a, 8, &[part(&[10])]), Push::Accepted);
        assert_eq!(shape(&queue), [(1, 8, 1, false)]);
    }

    #[test]
    fn only_fragmenting_watchers_get_split_revisions() {
        let queue = StreamQueue::new(WatchLimits {
            fragment_bytes: RESPONSE_FIELDS_BYTES + 250,
            ..WatchLimits::default()
        });
        let sizes = [100, 100, 100, 400, 20];
        queue.push(&target(1, Splitting::Fragments), 5, &[part(&sizes)]);
        queue.push(&target(2, Splitting::Whole), 5, &[part(&sizes)]);
        queue.push(&target(3, Splitting::Fragments), 5, &[part(&[100])]);
        assert_eq!(
            shape(&queue),
            [
                (1, 5, 2, true),
                (1, 5, 1, true),
                (1, 5, 1, true),
                (1, 5, 1, false),
                (2, 5, 5, false),
                (3, 5, 1, false)
            ]
        );
    }

    #[test]
    fn a_full_queue_refuses_and_reports_when_it_has_drained() {
        let queue = StreamQueue::new(WatchLimits::default());
        let a = target(1, Splitting::Whole);
        // Only an empty queue accepts a response larger than the limit.
        let huge = [part(&[WatchLimits::default().queue_bytes * 2])];
        assert_eq!(queue.push(&a, 1, &huge), Push::Accepted);
        assert_eq!(queue.push(&a, 2, &[part(&[1])]), Push::Full);
        let taken = take(&queue).unwrap();
        assert!(taken.drained);
        assert_eq!(queue.push(&a, 2, &[part(&[1])]), Push::Accepted);
        assert!(!take(&queue).unwrap().drained, "reported once");
        let mib = 1 << 20;
        let mut pushed = 0;
        while queue.push(&a, pushed, &[part(&[mib / 4])]) == Push::Accepted {
            pushed += 1;
        }
        assert!((4..8).contains(&pushed), "{pushed}");
    }

    #[test]
    fn closing_with_an_error_drops_waiting_responses_and_finishing_does_not() {
        let queue = StreamQueue::new(WatchLimits::default());
        let a = target(1, Splitting::Whole);
        queue.push(&a, 1, &[part(&[1])]);
        queue.close(End::Finished);
        assert_eq!(queue.push(&a, 2, &[part(&[1])]), Push::Closed);
        assert!(take(&queue).unwrap().next.is_ok());
        assert_eq!(take(&queue).unwrap().next, Err(End::Finished));

        let queue = StreamQueue::new(WatchLimits::default());
        queue.push(&a, 1, &[part(&[1])]);
        queue.close(End::NoLeader);
        assert_eq!(take(&queue).unwrap().next, Err(End::NoLeader));
    }

    #[test]
    fn activity_is_recorded_for_periodic_watchers() {
        let queue = StreamQueue::new(WatchLimits::default());
        let mut periodic = target(1, Splitting::Whole);
        periodic.progress = Progress::Periodic;
        queue.push(&periodic, 1, &[part(&[1])]);
        queue.push(&target(2, Splitting::Whole), 1, &[part(&[1])]);
        assert!(queue.take_active(WatchId(1)));
        assert!(!queue.take_active(WatchId(1)));
        assert!(!queue.take_active(WatchId(2)));
    }
}
