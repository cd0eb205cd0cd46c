//! Removes what a compaction made superfluous, on a thread of its own and in small steps, so that
//! neither reads nor writes wait for it.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use synod_mvcc::{Compactor, MvccReader};
use synod_runtime::{clock, task};
use tokio::sync::watch;

/// Rows that one step removes.
const STEP_ROWS: usize = 1000;
/// The longest pause between two steps; a step that took less is followed by as long a pause as it
/// took.
const MAX_PAUSE: Duration = Duration::from_millis(20);
/// After an error nothing is tried for this long.
const RETRY: Duration = Duration::from_secs(5);

/// Wakes the sweeper.
#[derive(Debug, Default)]
pub(crate) struct SweepSignal {
    state: Mutex<Signal>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Signal {
    woken: bool,
    stop: bool,
}

impl SweepSignal {
    /// There is something to remove.
    pub(crate) fn wake(&self) {
        self.state.lock().woken = true;
        self.changed.notify_one();
    }

    fn stop(&self) {
        self.state.lock().stop = true;
        self.changed.notify_one();
    }

    /// Waits until woken; `false` when it is time to stop.
    fn wait(&self) -> bool {
        let mut state = self.state.lock();
        while !state.woken && !state.stop {
            self.changed.wait(&mut state);
        }
        state.woken = false;
        !state.stop
    }

    /// Waits for a while; `false` when it is time to stop.
    fn pause(&self, pause: Duration) -> bool {
        let mut state = self.state.lock();
        let until = clock::now() + pause;
        while !state.stop && !self.changed.wait_until(&mut state, until).timed_out() {}
        !state.stop
    }
}

/// The thread. Dropping it stops it.
#[derive(Debug)]
pub(crate) struct Sweeper {
    signal: Arc<SweepSignal>,
    swept: watch::Receiver<i64>,
    thread: Option<JoinHandle<()>>,
}

impl Sweeper {
    /// Starts the thread; it first finishes what an earlier process began.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub(crate) fn start(reader: &MvccReader, signal: Arc<SweepSignal>) -> io::Result<Self> {
        let (done, swept) = watch::channel(0);
        signal.wake();
        let thread = {
            let (compactor, signal) = (reader.compactor(), Arc::clone(&signal));
            task::spawn_thread("synod-compact", move || {
                while signal.wait() {
                    sweep(&compactor, &signal, &done);
                }
            })?
        };
        Ok(Self {
            signal,
            swept,
            thread: Some(thread),
        })
    }

    /// Up to which revision everything superfluous is gone; changes as it goes.
    pub(crate) fn swept(&self) -> watch::Receiver<i64> {
        self.swept.clone()
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        self.signal.stop();
        if let Some(thread) = self.thread.take() {
            // A panic was logged by the thread itself.
            let _ended = thread.join();
        }
    }
}

fn sweep(compactor: &Compactor, signal: &SweepSignal, done: &watch::Sender<i64>) {
    let (begun, mut rows) = (clock::now(), 0);
    loop {
        let step_begun = clock::now();
        let pause = match compactor.step(STEP_ROWS) {
            Ok(step) => {
                rows += step.rows;
                done.send_replace(step.swept.get());
                if step.is_done {
                    break;
                }
                clock::now()
                    .saturating_duration_since(step_begun)
                    .min(MAX_PAUSE)
            }
            Err(error) => {
                tracing::error!(%error, "removing compacted revisions failed");
                RETRY
            }
        };
        if !signal.pause(pause) {
            return;
        }
    }
    if rows > 0 {
        let took = clock::now().saturating_duration_since(begun);
        tracing::info!(
            rows,
            took_ms = took.as_millis(),
            "removed compacted revisions"
        );
    }
}
