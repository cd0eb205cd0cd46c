//! Applies batches to the hub, whoever they come from, and keeps what must change with them: the
//! sessions' timers and the distance to the last checkpoint.
//!
//! A batch comes from the watch, from reading the log, and from the pod's own append. One lock
//! makes each of them one step with its consequences. It is taken before the hub's own.

use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use parking_lot::Mutex;
use synod_coordination_core::{
    Expired, LogNumber, Machine, Now, SessionId, SessionTimers, Start, Zxid,
};
use synod_runtime::clock;
use tokio::sync::watch;
use xxhash_rust::xxh3::xxh3_128;

use crate::hub::{ApplyError, Hub, SessionChange};

/// The longest time that passes for the sessions between two looks at the clock. A process that was
/// stopped for longer has not listened to its clients meanwhile, so they are not to blame.
const MAX_STEP: Duration = Duration::from_millis(500);

/// Applies batches.
#[derive(Debug)]
pub(crate) struct Applier {
    hub: Arc<Hub>,
    state: Mutex<State>,
    applied: watch::Sender<LogNumber>,
    began: Instant,
}

#[derive(Debug, Default)]
struct State {
    /// While this pod leads.
    timers: Option<Timers>,
    /// Bytes of batches that were applied since the pod started.
    bytes: u64,
    /// Whether the pod has followed the log to its end once.
    has_caught_up: bool,
    /// The content of the last batch that was applied.
    last: Option<(LogNumber, u128)>,
    /// When the last batch was applied, if that was soon after it was appended.
    applied_ms: Option<u64>,
}

#[derive(Debug)]
struct Timers {
    sessions: SessionTimers,
    now_ms: u64,
    looked: Instant,
}

/// A place in the log, and how many bytes were applied before it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) number: LogNumber,
    pub(crate) bytes: u64,
}

impl Applier {
    pub(crate) fn new(hub: Arc<Hub>) -> Self {
        Self {
            applied: watch::Sender::new(hub.applied()),
            began: clock::now(),
            hub,
            state: Mutex::default(),
        }
    }

    /// The pod's state.
    pub(crate) fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Applies a batch if it is the next one.
    ///
    /// # Errors
    /// Batches before it are missing, it was damaged, or another one was applied in its place.
    pub(crate) fn apply(&self, number: LogNumber, batch: &[u8]) -> Result<(), ApplyError> {
        let content = xxh3_128(batch);
        let mut state = self.state.lock();
        if number <= self.hub.applied() {
            return match state.last {
                Some((last, applied)) if last == number && applied != content => {
                    Err(ApplyError::Replaced)
                }
                _ => Ok(()),
            };
        }
        let changes = self.hub.apply(number, batch)?;
        state.last = Some((number, content));
        state.bytes += batch.len() as u64;
        state.applied_ms = state.has_caught_up.then(|| self.now().monotonic_ms);
        if let Some(timers) = &mut state.timers {
            timers.look();
            for change in changes {
                timers.change(change);
            }
        }
        self.applied.send_replace(number);
        Ok(())
    }

    /// Goes on from a checkpoint, unless the pod is there already. Returns whether it did.
    pub(crate) fn replace(&self, machine: Machine, number: LogNumber) -> bool {
        let mut state = self.state.lock();
        if number <= self.hub.applied() {
            return false;
        }
        self.hub.replace(machine, number);
        (state.last, state.applied_ms) = (None, None);
        if state.timers.is_some() {
            state.timers = Some(Timers::start(&self.hub));
        }
        self.applied.send_replace(number);
        true
    }

    /// The pod has followed the log to its end.
    pub(crate) fn caught_up(&self) {
        self.state.lock().has_caught_up = true;
        self.hub.caught_up();
    }

    /// The time, for the log's.
    pub(crate) fn now(&self) -> Now {
        let since = clock::wall().duration_since(UNIX_EPOCH);
        Now {
            wall_ms: i64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(i64::MAX),
            monotonic_ms: millis(self.began.elapsed()),
        }
    }

    /// Where a sequencer on this pod would begin.
    pub(crate) fn start(&self) -> Start {
        let state = self.state.lock();
        self.hub.start(state.applied_ms)
    }

    /// The last batch that was applied, as it changes.
    pub(crate) fn applied(&self) -> watch::Receiver<LogNumber> {
        self.applied.subscribe()
    }

    /// How far the pod is.
    pub(crate) fn place(&self) -> Place {
        let state = self.state.lock();
        Place {
            number: self.hub.applied(),
            bytes: state.bytes,
        }
    }

    /// Starts a checkpoint of what has changed since the transaction `since`. Returns its place.
    pub(crate) fn start_checkpoint(&self, since: Option<Zxid>) -> Place {
        let state = self.state.lock();
        // Under the lock, so that no batch comes between the number and the state.
        self.hub
            .with_machine(|machine| machine.start_checkpoint(since));
        Place {
            number: self.hub.applied(),
            bytes: state.bytes,
        }
    }

    /// Starts the sessions' timers: this pod leads. Each session gets its full timeout.
    pub(crate) fn start_timers(&self) {
        self.state.lock().timers = Some(Timers::start(&self.hub));
    }

    /// Stops the sessions' timers: this pod does not lead any more.
    pub(crate) fn stop_timers(&self) {
        self.state.lock().timers = None;
    }

    /// Sessions whose clients have shown that they live. Returns those for which that is too late.
    pub(crate) fn touch(&self, sessions: impl IntoIterator<Item = SessionId>) -> Vec<SessionId> {
        let mut state = self.state.lock();
        let Some(timers) = &mut state.timers else {
            return Vec::new();
        };
        timers.look();
        let is_late = |session: &SessionId| !timers.sessions.touch(*session, timers.now_ms);
        sessions.into_iter().filter(is_late).collect()
    }

    /// The sessions whose timeout has passed. Each is returned once: close it.
    pub(crate) fn expired(&self) -> Vec<Expired> {
        let mut state = self.state.lock();
        let Some(timers) = &mut state.timers else {
            return Vec::new();
        };
        timers.look();
        let now_ms = timers.now_ms;
        std::iter::from_fn(|| timers.sessions.expired(now_ms)).collect()
    }
}

impl Timers {
    fn start(hub: &Hub) -> Self {
        Self {
            sessions: SessionTimers::start(hub.sessions(), 0),
            now_ms: 0,
            looked: clock::now(),
        }
    }

    /// Lets the time pass since the last look.
    fn look(&mut self) {
        let now = clock::now();
        let passed = now.saturating_duration_since(self.looked);
        if passed > MAX_STEP {
            self.now_ms += millis(MAX_STEP);
            self.looked = now;
        } else {
            // What is less than a millisecond counts the next time.
            let whole_ms = millis(passed);
            self.now_ms += whole_ms;
            self.looked += Duration::from_millis(whole_ms);
        }
    }

    fn change(&mut self, change: SessionChange) {
        match change {
            SessionChange::Opened(session) => self.sessions.set(session, self.now_ms),
            SessionChange::Closed { session } => self.sessions.remove(session),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use synod_coordination_core::{Outcome, PodId, Sequencer, SessionInfo};

    use super::*;
    use crate::shared_log::LogLimits;

    /// An endpoint that was restored from a backup has other batches under the same numbers.
    #[test]
    fn another_batch_in_the_place_of_the_last_one_is_noticed() {
        let limits = LogLimits::of(1 << 20);
        let hub = Arc::new(Hub::new(limits.outbox, None));
        let applier = Applier::new(Arc::clone(&hub));
        hub.caught_up();
        // With the pod's own first command.
        let commands = hub.take_commands(1);
        let batch_at = |wall_ms| {
            let mut sequencer = Sequencer::new(hub.start(None), limits.sequencer);
            sequencer.submit(commands[0].clone()).unwrap();
            let now = Now {
                wall_ms,
                monotonic_ms: 0,
            };
            sequencer.next_action(now).unwrap();
            sequencer.appended(Outcome::Appended).unwrap()
        };
        let (first, second) = (batch_at(1), batch_at(2));
        assert_eq!((first.0, second.0), (LogNumber::new(1), LogNumber::new(1)));
        for _ in 0..2 {
            assert_eq!(applier.apply(first.0, &first.1), Ok(()));
        }
        let replaced = applier.apply(second.0, &second.1);
        assert_eq!(replaced, Err(ApplyError::Replaced));
    }

    #[test]
    fn time_that_the_process_did_not_run_does_not_count() {
        let ago = |duration| clock::now().checked_sub(duration).unwrap();
        let info = SessionInfo {
            id: SessionId::new(7),
            timeout_ms: 1_000,
            attached: Zxid::default(),
            pod: PodId::default(),
            ephemerals: 0,
        };
        let mut timers = Timers {
            sessions: SessionTimers::start([info], 0),
            now_ms: 0,
            looked: ago(Duration::from_secs(60)),
        };
        timers.look();
        assert_eq!(timers.now_ms, 500);
        assert_eq!(timers.sessions.expired(timers.now_ms), None);
        timers.looked = ago(Duration::from_millis(100));
        timers.look();
        assert!((600..=1_000).contains(&timers.now_ms), "{}", timers.now_ms);
    }
}
