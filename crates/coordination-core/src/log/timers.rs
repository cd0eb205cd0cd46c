//! When sessions expire. Only the sequencer's timers count.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::{Kind, SessionId, SessionInfo, Zxid};

/// The deadlines of all sessions, in milliseconds of a clock that never goes back.
#[derive(Debug, Default)]
pub struct SessionTimers {
    sessions: HashMap<SessionId, Timer>,
    /// The earliest time at which each session may expire. A touch does not change it: it is
    /// corrected when it comes up.
    queue: BTreeSet<(u64, SessionId)>,
    /// Those that were returned as expired, and were neither attached nor closed since.
    given_up: HashSet<SessionId>,
}

#[derive(Debug)]
struct Timer {
    timeout_ms: u32,
    attached: Zxid,
    deadline_ms: u64,
    queued_ms: u64,
}

/// A session whose timeout has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expired {
    /// The session.
    pub session: SessionId,
    /// Its last attach as far as the timers know.
    pub attached: Zxid,
}

impl Expired {
    /// The command that closes the session, unless it was attached again.
    #[must_use]
    pub const fn kind(self) -> Kind {
        Kind::ExpireSession {
            attached: self.attached,
        }
    }
}

impl SessionTimers {
    /// The timers of a new sequencer. Each session gets its full timeout, since nobody knows when
    /// it was last touched.
    #[must_use]
    pub fn start(sessions: impl IntoIterator<Item = SessionInfo>, now_ms: u64) -> Self {
        let mut timers = Self::default();
        for session in sessions {
            timers.set(session, now_ms);
        }
        timers
    }

    /// A session was opened or attached. Call it in one step with applying the command, so that
    /// [`expired`](Self::expired) knows all attaches that the pod has applied.
    pub fn set(&mut self, session: SessionInfo, now_ms: u64) {
        let SessionInfo {
            id,
            timeout_ms,
            attached,
            ..
        } = session;
        self.remove(id);
        let deadline_ms = now_ms.saturating_add(u64::from(timeout_ms));
        self.queue.insert((deadline_ms, id));
        let timer = Timer {
            timeout_ms,
            attached,
            deadline_ms,
            queued_ms: deadline_ms,
        };
        self.sessions.insert(id, timer);
    }

    /// A session's client has shown that it lives. Returns whether that is in time: a session that
    /// was returned as expired is not saved. An unknown session is left alone: its pod may be
    /// ahead of this one.
    #[must_use]
    pub fn touch(&mut self, session: SessionId, now_ms: u64) -> bool {
        if let Some(timer) = self.sessions.get_mut(&session) {
            let deadline_ms = now_ms.saturating_add(u64::from(timer.timeout_ms));
            timer.deadline_ms = timer.deadline_ms.max(deadline_ms);
        }
        !self.given_up.contains(&session)
    }

    /// A session was closed.
    pub fn remove(&mut self, session: SessionId) {
        self.given_up.remove(&session);
        if let Some(timer) = self.sessions.remove(&session) {
            self.queue.remove(&(timer.queued_ms, session));
        }
    }

    /// The next session whose timeout has passed. It has no timer any more, and is returned once:
    /// keep it until the sequencer has taken its [`Expired::kind`]. If the machine refuses the
    /// command, the attach that it found has set the timer again.
    pub fn expired(&mut self, now_ms: u64) -> Option<Expired> {
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
                let attached = timer.attached;
                self.sessions.remove(&session);
                self.given_up.insert(session);
                return Some(Expired { session, attached });
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
    use crate::PodId;

    const A: SessionId = SessionId::new(1);
    const B: SessionId = SessionId::new(2);

    fn session(id: SessionId, timeout_ms: u32) -> SessionInfo {
        SessionInfo {
            id,
            timeout_ms,
            pod: PodId::new(7),
            attached: Zxid::new(id.get() * 10),
            ephemerals: 0,
        }
    }

    fn expired(timers: &mut SessionTimers, now_ms: u64) -> Option<SessionId> {
        timers.expired(now_ms).map(|expired| expired.session)
    }

    #[test]
    fn a_session_expires_when_its_whole_timeout_has_passed_since_the_last_touch() {
        let mut timers = SessionTimers::start([session(A, 100), session(B, 1_000)], 5);
        assert_eq!(timers.next_ms(), Some(105));
        assert_eq!(expired(&mut timers, 104), None);
        assert!(timers.touch(A, 50));
        assert_eq!(expired(&mut timers, 149), None);
        assert_eq!(expired(&mut timers, 150), Some(A));
        assert_eq!(expired(&mut timers, 150), None, "once");
        assert!(!timers.touch(A, 160), "too late");
        assert_eq!(timers.len(), 1, "a touch revives nothing");
        assert_eq!(expired(&mut timers, 1_005), Some(B));
        assert!(timers.is_empty() && timers.next_ms().is_none());
    }

    #[test]
    fn an_old_touch_takes_no_time_away() {
        let mut timers = SessionTimers::start([session(A, 100)], 50);
        assert!(timers.touch(A, 20));
        assert_eq!(expired(&mut timers, 149), None);
        assert_eq!(expired(&mut timers, 150), Some(A));
    }

    #[test]
    fn a_session_may_change_its_timeout_or_be_closed() {
        let mut timers = SessionTimers::start([session(A, 100), session(B, 100)], 0);
        timers.set(session(A, 10), 40);
        timers.remove(B);
        assert_eq!(expired(&mut timers, 49), None);
        assert_eq!(expired(&mut timers, 1_000), Some(A));
        assert_eq!(expired(&mut timers, 1_000), None);
    }

    #[test]
    fn a_session_that_was_given_up_is_late_until_it_is_attached_or_closed() {
        let mut timers = SessionTimers::start([session(A, 100), session(B, 100)], 0);
        let unknown = SessionId::new(3);
        assert!(timers.touch(unknown, 0), "another pod may be ahead");
        assert!(timers.expired(100).is_some() && timers.expired(100).is_some());
        assert!(!timers.touch(A, 100) && !timers.touch(B, 100));
        timers.set(session(A, 100), 100);
        timers.remove(B);
        assert!(timers.touch(A, 100) && timers.touch(B, 100));
    }

    #[test]
    fn an_expiry_names_the_last_attach() {
        let mut timers = SessionTimers::start([session(A, 100)], 0);
        let attached = Zxid::new(77);
        let again = SessionInfo {
            attached,
            ..session(A, 100)
        };
        timers.set(again, 0);
        let expired = timers.expired(100).unwrap();
        assert_eq!((expired.session, expired.attached), (A, attached));
        assert_eq!(expired.kind(), Kind::ExpireSession { attached });
    }
}
