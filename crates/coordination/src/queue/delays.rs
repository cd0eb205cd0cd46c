//! When a lock delay is over. A pod counts it from when it first sees the guard without its
//! contender, so it may last longer than asked, but never shorter.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Guard;

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
