//! True time, the event queue, and the nodes' clocks.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use synod_types::Tick;

/// True time since the start of the run, in microseconds.
pub(crate) type Time = u64;

/// The length of a core's tick.
pub(crate) const TICK_US: u64 = 10_000;
/// One millisecond.
pub(crate) const MS: u64 = 1_000;

/// Events ordered by time; events of the same time keep their insertion order.
#[derive(Debug)]
pub(crate) struct Queue<E> {
    heap: BinaryHeap<Reverse<Queued<E>>>,
    sequence: u64,
}

#[derive(Debug)]
struct Queued<E> {
    at: Time,
    sequence: u64,
    event: E,
}

impl<E> PartialEq for Queued<E> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.sequence) == (other.at, other.sequence)
    }
}

impl<E> Eq for Queued<E> {}

impl<E> PartialOrd for Queued<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Queued<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self {
            heap: BinaryHeap::new(),
            sequence: 0,
        }
    }
}

impl<E> Queue<E> {
    pub(crate) fn push(&mut self, at: Time, event: E) {
        self.sequence += 1;
        self.heap.push(Reverse(Queued {
            at,
            sequence: self.sequence,
            event,
        }));
    }

    pub(crate) fn pop(&mut self) -> Option<(Time, E)> {
        let Reverse(Queued { at, event, .. }) = self.heap.pop()?;
        Some((at, event))
    }

    /// The time of the next event.
    pub(crate) fn next_at(&self) -> Option<Time> {
        self.heap.peek().map(|Reverse(queued)| queued.at)
    }
}

/// A node's monotonic clock. It starts at any time and runs slightly fast or slow. It continues
/// while the process is paused, so that time jumps for the process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    base_true: Time,
    base_local: u64,
    /// Local milliseconds per true second.
    rate_per_mille: u64,
}

impl Clock {
    pub(crate) const fn new(offset_us: u64, rate_per_mille: u64) -> Self {
        Self {
            base_true: 0,
            base_local: offset_us,
            rate_per_mille,
        }
    }

    /// The clock's own microseconds.
    pub(crate) const fn local(&self, now: Time) -> u64 {
        self.base_local + now.saturating_sub(self.base_true) * self.rate_per_mille / 1000
    }

    pub(crate) const fn tick(&self, now: Time) -> Tick {
        Tick::new(self.local(now) / TICK_US)
    }

    /// When this clock reaches `tick`: now if it already has, `None` if it never will.
    pub(crate) fn time_of(&self, tick: Tick, now: Time) -> Option<Time> {
        let local = tick.get().checked_mul(TICK_US)?;
        let ahead = local.saturating_sub(self.base_local);
        let at = self
            .base_true
            .checked_add(ahead.checked_mul(1000)?.div_ceil(self.rate_per_mille))?;
        Some(at.max(now))
    }

    /// Changes the rate from now on.
    pub(crate) fn set_rate(&mut self, now: Time, rate_per_mille: u64) {
        self.base_local = self.local(now);
        self.base_true = now;
        self.rate_per_mille = rate_per_mille;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_never_goes_backwards_and_keeps_its_rate() {
        let mut clock = Clock::new(5_000, 1020);
        assert_eq!(clock.local(100_000), 107_000);
        clock.set_rate(100_000, 980);
        assert_eq!(clock.local(100_000), 107_000);
        assert_eq!(clock.local(200_000), 205_000);
        let at = clock.time_of(Tick::new(30), 200_000).unwrap();
        assert_eq!(clock.tick(at), Tick::new(30));
        assert_eq!(clock.tick(at - 1), Tick::new(29));
        assert_eq!(clock.time_of(Tick::MAX, 0), None);
        assert_eq!(clock.time_of(Tick::ZERO, 100_009), Some(100_009));
    }

    #[test]
    fn events_of_one_time_keep_their_order() {
        let mut queue = Queue::default();
        queue.push(5, 'b');
        queue.push(3, 'a');
        queue.push(5, 'c');
        let order: String = std::iter::from_fn(|| queue.pop()).map(|(_, e)| e).collect();
        assert_eq!(order, "abc");
    }
}
