//! Flushes the engine periodically, off the apply thread, so that the log can be released.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use synod_consensus_core::SnapshotMeta;

use crate::config::Compaction;
use crate::state_machine::{ApplyError, Persister};

#[derive(Default)]
struct State {
    /// Bytes applied since the last flush began.
    bytes: u64,
    stop: bool,
}

/// Signals from the apply thread to the persist thread.
#[derive(Default)]
pub(crate) struct PersistSignal {
    state: Mutex<State>,
    changed: Condvar,
    threshold: u64,
    interval: Duration,
}

impl PersistSignal {
    pub(crate) fn new(compaction: &Compaction) -> Self {
        Self {
            threshold: compaction.persist_bytes.max(1),
            interval: compaction.persist_interval,
            ..Self::default()
        }
    }

    pub(crate) fn applied(&self, bytes: usize) {
        let mut state = self.state.lock();
        let before = state.bytes;
        state.bytes = before.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        if before < self.threshold && state.bytes >= self.threshold {
            drop(state);
            self.changed.notify_one();
        }
    }

    pub(crate) fn stop(&self) {
        self.state.lock().stop = true;
        self.changed.notify_one();
    }

    /// Waits until a flush is due. Returns `false` if there will be no more.
    fn wait(&self) -> bool {
        let mut state = self.state.lock();
        while !state.stop && state.bytes < self.threshold {
            let timed_out = self.changed.wait_for(&mut state, self.interval).timed_out();
            if timed_out && state.bytes > 0 {
                break;
            }
        }
        state.bytes = 0;
        !state.stop
    }
}

/// The persist thread's loop. It flushes when [`PersistSignal`] requests it and once more at the
/// end, and reports each result. It ends after a failure or when it is stopped.
pub(crate) fn run(
    signal: &PersistSignal,
    persister: &Arc<dyn Persister>,
    report: impl Fn(Result<SnapshotMeta, ApplyError>),
) {
    let mut going_on = true;
    while going_on {
        going_on = signal.wait();
        let result = persister.persist();
        let failed = result.is_err();
        report(result);
        if failed {
            return;
        }
    }
}
