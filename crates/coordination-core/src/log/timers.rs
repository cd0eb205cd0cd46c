//! When sessions expire. Only the sequencer's timers count.

use std::collections::{BTreeSet, HashMap};

use crate::SessionId;

/// The deadlines of all sessions, in milliseconds of a clock that never goes back.
#[derive(Debug, Default)]
pub struct SessionTimers {
    sessions: HashMap<SessionId, Timer>,
    /// The earliest time at which each session may expire. A touch does not change it: it is
    /// corrected when it comes up.
    queue: BTreeSet<(u64, SessionId)>,
}

#[derive(Debug)]
struct Timer {
    timeout_ms: u32,
    deadline_ms: u64,
    queued_ms: u64,
}

impl SessionTimers {
    /// The timers of a new sequencer. Each session gets its full timeout, since nobody knows when
    /// it was last touched.
    #[must_use]
    pub fn start(sessions: impl IntoIterator<Item = (SessionId, u32)>, now_ms: u64) -> Self {
        let mut timers = Self::default();
        for (session, timeout_ms) in sessions {
            timers.set(session, timeout_ms, now_ms);
        }
        timers
    }

    /// A session was opened, or attached with another timeout.
    pub fn set(&mut self, session: SessionId, timeout_ms: u32, now_ms: u64) {
        self.remove(session);
        let deadline_ms = now_ms.saturating_add(u64::from(timeout_ms));
        self.queue.insert((deadline_ms, session));
        let timer = Timer {
            timeout_ms,
            deadline_ms,
            queued_ms: deadline_ms,
        };
        self.sessions.insert(session, timer);
    }

    /// A session's client has shown that it lives. Unknown sessions are left alone.
    pub fn touch(&mut self, session: SessionId, now_ms: u64) {
        if let Some(timer) = self.sessions.get_mut(&session) {
            let deadline_ms = now_ms.saturating_add(u64::from(timer.timeout_ms));
            timer.deadline_ms = timer.deadline_ms.max(deadline_ms);
        }
    }

    /// A session was closed.
    pub fn remove(&mut self, session: SessionId) {
        if let Some(timer) = self.sessions.remove(&session) {
            self.queue.remove(&(timer.queued_ms, session));
        }
    }

    /// The next session whose timeout has passed. It has no timer any more: close it.
    pub fn expired(&mut self, now_ms: u64) -> Option<SessionId> {
        loop {
            let &(queued_ms, session) = self.queue.first()?;
            if queued_ms > now_ms {
                return None;
            }
            self.queue.pop_first();
            let Some(timer) = self.sessions.get_mut(&session) else {
                continue;
            };
            if timer.deadline_ms <= now_ms {
                self.sessions.remove(&session);
                return Some(session);
            }
            timer.queued_ms = timer.deadline_ms;
            self.queue.insert((timer.queued_ms, session));
        }
    }

    /// When [`expired`](Self::expired) should be called next; `None` without sessions.
    #[must_use]
    pub fn next_ms(&self) -> Option<u64> {
        self.queue.first().map(|&(queued_ms, _)| queued_ms)
    }

    /// How many sessions have a timer.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether no session has a timer.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: SessionId = SessionId::new(1);
    const B: SessionId = SessionId::new(2);

    #[test]
    fn a_session_expires_when_its_whole_timeout_has_passed_since_the_last_touch() {
        let mut timers = SessionTimers::start([(A, 100), (B, 1_000)], 5);
        assert_eq!(timers.next_ms(), Some(105));
        assert_eq!(timers.expired(104), None);
        timers.touch(A, 50);
        assert_eq!(timers.expired(149), None);
        assert_eq!(timers.expired(150), Some(A));
        assert_eq!(timers.expired(150), None, "once");
        timers.touch(A, 160);
        assert_eq!(timers.len(), 1, "a touch revives nothing");
        assert_eq!(timers.expired(1_005), Some(B));
        assert!(timers.is_empty() && timers.next_ms().is_none());
    }

    #[test]
    fn an_old_touch_takes_no_time_away() {
        let mut timers = SessionTimers::start([(A, 100)], 50);
        timers.touch(A, 20);
        assert_eq!(timers.expired(149), None);
        assert_eq!(timers.expired(150), Some(A));
    }

    #[test]
    fn a_session_may_change_its_timeout_or_be_closed() {
        let mut timers = SessionTimers::start([(A, 100), (B, 100)], 0);
        timers.set(A, 10, 40);
        timers.remove(B);
        assert_eq!(timers.expired(49), None);
        assert_eq!(timers.expired(1_000), Some(A));
        assert_eq!(timers.expired(1_000), None);
    }
}
