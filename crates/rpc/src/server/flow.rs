//! Follows a response that holds something on its way out: what HTTP/2 still has of it, and since
//! when its receiver has taken nothing.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::task::AtomicWaker;
use prometheus::IntCounter;
use synod_runtime::clock;

use crate::hold::Hold;

/// HTTP/2 gets such a response in pieces of this size: each that leaves shows that the receiver
/// reads.
pub(super) const CHUNK_BYTES: usize = 64 << 10;
/// A timer that is this late shows that the process did not run. It says nothing about the
/// receiver.
const PAUSE: Duration = Duration::from_secs(1);

thread_local! {
    /// Hands a response that begins to whoever watches its call. The outer `None`: nobody waits for
    /// one; the inner: none has begun yet.
    static BEGUN: Cell<Option<Option<Arc<Flow>>>> = const { Cell::new(None) };
}

/// Pieces of a response.
#[derive(Debug)]
pub(super) struct Flow {
    hold: Hold,
    began: Instant,
    /// Pieces that HTTP/2 has and that have not left.
    unsent: AtomicUsize,
    /// When a piece came or left last, in nanoseconds after the beginning.
    moved: AtomicU64,
    /// Woken when nothing is unsent any more.
    all_sent: AtomicWaker,
}

/// One piece. It is dropped when it is written to the socket.
struct Piece {
    bytes: Bytes,
    flow: Arc<Flow>,
}

impl Flow {
    pub(super) fn begin(hold: Hold) -> Arc<Self> {
        let flow = Arc::new(Self {
            hold,
            began: clock::now(),
            unsent: AtomicUsize::new(0),
            moved: AtomicU64::new(0),
            all_sent: AtomicWaker::new(),
        });
        if BEGUN.take().is_some() {
            BEGUN.set(Some(Some(Arc::clone(&flow))));
        }
        flow
    }

    pub(super) fn encoded(&self) {
        self.hold.encoded();
    }

    pub(super) fn piece(self: &Arc<Self>, bytes: Bytes) -> Bytes {
        self.unsent.fetch_add(1, Ordering::Relaxed);
        self.moves();
        let flow = Arc::clone(self);
        Bytes::from_owner(Piece { bytes, flow })
    }

    /// Whether nothing is unsent. Wakes the task when that is so.
    pub(super) fn is_sent(&self, waker: &Waker) -> bool {
        self.all_sent.register(waker);
        self.unsent.load(Ordering::Acquire) == 0
    }

    fn moves(&self) {
        let nanos = clock::now().duration_since(self.began).as_nanos();
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
        self.moved.store(nanos, Ordering::Relaxed);
    }

    /// When the receiver will have taken nothing for `timeout`, unless a piece moves before.
    fn stalls_at(&self, now: Instant, timeout: Duration) -> Instant {
        // While HTTP/2 has nothing, the receiver waits for the service.
        let since = match self.unsent.load(Ordering::Acquire) {
            0 => now,
            _ => self.began + Duration::from_nanos(self.moved.load(Ordering::Relaxed)),
        };
        since + timeout
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.flow.moves();
        if self.flow.unsent.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.flow.all_sent.wake();
        }
    }
}

/// Ends responses that nobody reads.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    pub(super) timeout: Duration,
    pub(super) ended: Option<IntCounter>,
}

impl Watch {
    /// Runs a call to its end, or until its response holds something that its receiver doesn't
    /// take. Dropping the call resets its stream, and drops what HTTP/2 has of it. A connection of
    /// HTTP/1 is run the same way: its calls follow each other.
    ///
    /// Returns what the call does, or nothing if it was ended.
    pub(super) async fn run<F: Future>(self, call: F) -> Option<F::Output> {
        let mut call = pin!(call);
        let mut watched: Option<Watched> = None;
        let ended = poll_fn(|context| {
            BEGUN.set(Some(None));
            let polled = call.as_mut().poll(context);
            let begun = BEGUN.take().flatten();
            if let Poll::Ready(output) = polled {
                return Poll::Ready(Some(output));
            }
            if let Some(flow) = begun {
                watched = Some(Watched::new(flow, self.timeout));
            }
            match &mut watched {
                Some(watched) => watched.poll_stalled(context, self.timeout).map(|()| None),
                None => Poll::Pending,
            }
        });
        let ended = ended.await;
        if ended.is_none() {
            tracing::warn!(
                timeout_s = self.timeout.as_secs(),
                "reset a response: its client stopped reading"
            );
            if let Some(ended) = &self.ended {
                ended.inc();
            }
        }
        ended
    }
}

struct Watched {
    flow: Arc<Flow>,
    look_at: Instant,
    look: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Watched {
    fn new(flow: Arc<Flow>, timeout: Duration) -> Self {
        let look_at = clock::now() + timeout;
        Self {
            flow,
            look_at,
            look: Box::pin(clock::sleep_until(look_at)),
        }
    }

    fn poll_stalled(&mut self, context: &mut Context<'_>, timeout: Duration) -> Poll<()> {
        while self.look.as_mut().poll(context).is_ready() {
            let now = clock::now();
            let stalls_at = self.flow.stalls_at(now, timeout);
            let was_paused = now > self.look_at + PAUSE;
            if stalls_at <= now && !was_paused {
                return Poll::Ready(());
            }
            self.look_at = match was_paused {
                true => now + timeout,
                false => stalls_at,
            };
            self.look = Box::pin(clock::sleep_until(self.look_at));
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hold::Keep;

    struct Token(#[expect(dead_code, reason = "kept")] Arc<()>);

    impl Keep for Token {}

    #[test]
    fn it_holds_as_long_as_any_of_the_bytes_are_there() {
        let alive = Arc::new(());
        let flow = Flow::begin(Hold::new(Token(Arc::clone(&alive))));
        let mut bytes = flow.piece(Bytes::from_static(b"head and tail"));
        assert!(!flow.is_sent(Waker::noop()));
        drop(flow);
        let head = bytes.split_to(4);
        drop(bytes);
        assert_eq!(Arc::strong_count(&alive), 2);
        assert_eq!(head, "head");
        drop(head);
        assert_eq!(Arc::strong_count(&alive), 1);
    }

    #[test]
    fn only_what_is_unsent_stalls() {
        const TIMEOUT: Duration = Duration::from_secs(60);
        let flow = Flow::begin(Hold::new(Token(Arc::default())));
        let later = flow.began + Duration::from_secs(100);
        assert_eq!(flow.stalls_at(later, TIMEOUT), later + TIMEOUT);
        let piece = flow.piece(Bytes::from_static(b"x"));
        assert!(flow.stalls_at(later, TIMEOUT) < later);
        drop(piece);
        assert_eq!(flow.stalls_at(later, TIMEOUT), later + TIMEOUT);
    }

    #[tokio::test]
    async fn a_timer_that_is_late_says_nothing_about_the_receiver() {
        const TIMEOUT: Duration = Duration::from_secs(60);
        let mut flow = Flow::begin(Hold::new(Token(Arc::default())));
        let now = clock::now();
        Arc::get_mut(&mut flow).unwrap().began = now.checked_sub(2 * TIMEOUT).unwrap();
        let _unsent = flow.piece(Bytes::from_static(b"x"));
        flow.moved.store(0, Ordering::Relaxed);
        let mut context = Context::from_waker(Waker::noop());
        for (late, is_stalled) in [(Duration::ZERO, true), (2 * PAUSE, false)] {
            let mut watched = Watched {
                flow: Arc::clone(&flow),
                look_at: now.checked_sub(late).unwrap(),
                look: Box::pin(std::future::ready(())),
            };
            let polled = watched.poll_stalled(&mut context, TIMEOUT);
            assert_eq!(polled.is_ready(), is_stalled, "{late:?} late");
        }
    }
}
