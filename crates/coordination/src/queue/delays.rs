//! When a lock delay is over. A pod counts it from when it first sees the guard without its
//! contender, so it may last longer than asked, but never shorter.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use synod_runtime::clock;

use super::{Guard, Queue};

/// The longest lock delay.
pub(crate) const MAX_DELAY_MS: u32 = 60_000;

/// Guards that a pod remembers. If there are more, it forgets them all: their delays start again.
const MAX_GUARDS: usize = 10_000;

/// The guards that a pod has seen without their contenders.
#[derive(Debug, Default)]
pub(crate) struct Delays {
    /// When the delay of which guard is over, by path and creation.
    over: Mutex<HashMap<(String, i64), Instant>>,
}

impl Delays {
    /// Somebody looks at a queue: the delays of its guards count from now, if not before.
    pub(crate) fn see(&self, path: &str, queue: &Queue) {
        for guard in queue.delays() {
            self.over(path, guard, clock::now());
        }
    }

    /// When a guard's delay is over.
    pub(super) fn over(&self, queue: &str, guard: &Guard, now: Instant) -> Instant {
        let key = (format!("{queue}/{}", guard.name), guard.czxid);
        let delay = Duration::from_millis(guard.delay_ms.into());
        let mut over = self.over.lock();
        if over.len() >= MAX_GUARDS && !over.contains_key(&key) {
            over.clear();
        }
        *over.entry(key).or_insert(now + delay)
    }

    /// The guard is gone.
    pub(super) fn forget(&self, queue: &str, guard: &Guard) {
        let key = (format!("{queue}/{}", guard.name), guard.czxid);
        self.over.lock().remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use synod_coordination_core::SessionId;
    use synod_runtime::clock;

    use super::*;
    use crate::queue::{Attempt, Mode};

    #[test]
    fn a_delay_counts_from_when_the_guard_was_seen_first() {
        let delays = Delays::default();
        let began = clock::now();
        let second = Duration::from_secs(1);
        let guard = |czxid| Guard {
            name: "delay-1.r".to_owned(),
            attempt: Attempt::new(SessionId::new(1), "r").unwrap(),
            mode: Mode::Exclusive,
            delay_ms: 5_000,
            czxid,
        };
        let over = began + 5 * second;
        assert_eq!(delays.over("/q", &guard(1), began), over);
        assert_eq!(delays.over("/q", &guard(1), began + second), over);
        // Another guard of the same name, and one of another queue.
        let later = delays.over("/q", &guard(2), began + second);
        assert_eq!(later, over + second);
        assert_eq!(delays.over("/p", &guard(1), began + second), over + second);
        delays.forget("/q", &guard(1));
        assert_eq!(delays.over("/q", &guard(1), began + second), over + second);
    }

    #[test]
    fn too_many_guards_are_forgotten_and_their_delays_start_again() {
        let delays = Delays::default();
        let began = clock::now();
        let guard = |czxid| Guard {
            name: "delay-1.r".to_owned(),
            attempt: Attempt::new(SessionId::new(1), "r").unwrap(),
            mode: Mode::Shared,
            delay_ms: 5_000,
            czxid,
        };
        let count = i64::try_from(MAX_GUARDS).unwrap();
        let last = (0..=count).map(|czxid| delays.over("/q", &guard(czxid), began));
        assert_eq!(last.last(), Some(began + Duration::from_secs(5)));
        assert_eq!(delays.over.lock().len(), 1);
    }
}
