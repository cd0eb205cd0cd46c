//! Whether the pod is in contact with the log: only then may it answer clients.
//!
//! A pod that lags answers from an old state. That is within what ZooKeeper promises, for a while:
//! then the pod lets its clients go, so that they find a pod that does not lag.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use synod_coordination_core::LogNumber;
use synod_runtime::clock;
use synod_runtime::shutdown::Shutdown;

use crate::hub::Hub;

/// How long a pod serves without contact. Longer than the change of the leading pod takes.
const PATIENCE: Duration = Duration::from_secs(6);

/// How often the contact is checked.
const CHECK_EVERY: Duration = Duration::from_millis(200);

/// When the pod knew the log's end last.
#[derive(Clone)]
pub(crate) struct Contact {
    hub: Arc<Hub>,
    heard: Arc<Mutex<Heard>>,
}

#[derive(Debug, Default)]
struct Heard {
    /// The pod had applied all of the log at this time.
    complete: Option<Instant>,
    /// The log was this long at this time, and the pod has not applied all of it yet.
    ahead: Option<(LogNumber, Instant)>,
    /// The pod stops: it does not serve again.
    has_stopped: bool,
}

impl Contact {
    pub(crate) fn new(hub: Arc<Hub>) -> Self {
        Self {
            hub,
            heard: Arc::default(),
        }
    }

    /// The log ended with this batch, or an earlier one, at `asked`.
    pub(crate) fn heard(&self, end: LogNumber, asked: Instant) {
        let applied = self.hub.applied();
        let mut heard = self.heard.lock();
        heard.note(applied, end, asked);
        self.check(&mut heard);
    }

    /// Lets the hub serve while there is contact, until the pod stops.
    pub(crate) async fn watch(self, stop: Shutdown) {
        loop {
            tokio::select! {
                biased; // a pod that stops serves no longer
                () = stop.triggered() => {
                    let mut heard = self.heard.lock();
                    heard.has_stopped = true;
                    self.check(&mut heard);
                    return;
                }
                () = clock::sleep(CHECK_EVERY) => self.check(&mut self.heard.lock()),
            }
        }
    }

    /// Under the lock, so that a later check is not undone by an earlier one.
    fn check(&self, heard: &mut Heard) {
        let applied = self.hub.applied();
        let is_fresh = heard.is_fresh(applied, clock::now());
        self.hub.serve(is_fresh && !heard.has_stopped);
    }
}

impl Heard {
    fn note(&mut self, applied: LogNumber, end: LogNumber, asked: Instant) {
        self.look(applied);
        if applied >= end {
            self.complete = self.complete.max(Some(asked));
        } else if self.ahead.is_none() {
            self.ahead = Some((end, asked));
        }
    }

    fn look(&mut self, applied: LogNumber) {
        if let Some((end, at)) = self.ahead
            && applied >= end
        {
            self.complete = self.complete.max(Some(at));
            self.ahead = None;
        }
    }

    fn is_fresh(&mut self, applied: LogNumber, now: Instant) -> bool {
        self.look(applied);
        self.complete
            .is_some_and(|at| now.saturating_duration_since(at) < PATIENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(number: u64) -> LogNumber {
        LogNumber::new(number)
    }

    #[test]
    fn a_pod_serves_while_it_keeps_up() {
        let began = clock::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let mut heard = Heard::default();
        assert!(!heard.is_fresh(number(9), at(0)), "nothing was heard yet");
        heard.note(number(9), number(9), at(0));
        assert!(heard.is_fresh(number(9), at(5)));
        assert!(!heard.is_fresh(number(9), at(6)));
        // It hears of what it does not have, for as long as it likes.
        heard.note(number(9), number(12), at(7));
        heard.note(number(9), number(15), at(8));
        assert!(!heard.is_fresh(number(11), at(8)));
        // It has all that was there at 7 s.
        assert!(heard.is_fresh(number(12), at(12)));
        assert!(!heard.is_fresh(number(12), at(13)));
    }
}
