//! A thread that removes obsolete data. It works in small steps with pauses, so that neither reads
//! nor writes wait for it.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use synod_runtime::{clock, task};
use tokio::sync::watch;

/// The longest pause between two steps. After a shorter step the pause is as long as the step.
const MAX_PAUSE: Duration = Duration::from_millis(20);
/// The pause after a step that failed.
const RETRY: Duration = Duration::from_secs(5);

/// Wakes a [`Sweeper`].
#[derive(Debug, Default)]
pub struct SweepSignal {
    state: Mutex<Signal>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Signal {
    woken: bool,
    stop: bool,
}

/// The result of one step. `P` is a position in the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SweepStep<P> {
    /// How many rows it removed.
    pub rows: usize,
    /// Before this position all obsolete data is gone.
    pub swept: P,
    /// Whether all obsolete data is gone.
    pub is_done: bool,
}

/// The thread. Dropping this stops the thread after the current step.
#[derive(Debug)]
pub struct Sweeper<P> {
    signal: Arc<SweepSignal>,
    swept: watch::Receiver<P>,
    thread: Option<JoinHandle<()>>,
}

impl SweepSignal {
    /// Says that there is something to remove.
    pub fn wake(&self) {
        self.state.lock().woken = true;
        self.changed.notify_one();
    }

    fn stop(&self) {
        self.state.lock().stop = true;
        self.changed.notify_one();
    }

    /// Waits until woken. Returns `false` when the thread has to stop.
    fn wait(&self) -> bool {
        let mut state = self.state.lock();
        while !state.woken && !state.stop {
            self.changed.wait(&mut state);
        }
        state.woken = false;
        !state.stop
    }

    /// Waits for the pause. Returns `false` when the thread has to stop.
    fn pause(&self, pause: Duration) -> bool {
        let mut state = self.state.lock();
        let until = clock::now() + pause;
        while !state.stop && !self.changed.wait_until(&mut state, until).timed_out() {}
        !state.stop
    }
}

impl<P: Default + Send + Sync + 'static> Sweeper<P> {
    /// Starts the thread. It begins at once, since an earlier process may have left something.
    ///
    /// # Errors
    /// The operating system refuses a thread.
    pub fn start<E: fmt::Display>(
        name: &str,
        mut step: impl FnMut() -> Result<SweepStep<P>, E> + Send + 'static,
    ) -> io::Result<Self> {
        let (done, swept) = watch::channel(P::default());
        let signal = Arc::new(SweepSignal::default());
        signal.wake();
        let thread = {
            let signal = Arc::clone(&signal);
            task::spawn_thread(name, move || {
                while signal.wait() {
                    sweep(&mut step, &signal, &done);
                }
            })?
        };
        Ok(Self {
            signal,
            swept,
            thread: Some(thread),
        })
    }

    /// Wakes the thread.
    #[must_use]
    pub fn signal(&self) -> Arc<SweepSignal> {
        Arc::clone(&self.signal)
    }

    /// The position of the last step; the default before the first.
    #[must_use]
    pub fn swept(&self) -> watch::Receiver<P> {
        self.swept.clone()
    }
}

impl<P> Drop for Sweeper<P> {
    fn drop(&mut self) {
        self.signal.stop();
        if let Some(thread) = self.thread.take() {
            // A panic was logged by the thread itself.
            let _ended = thread.join();
        }
    }
}

fn sweep<P, E: fmt::Display>(
    step: &mut impl FnMut() -> Result<SweepStep<P>, E>,
    signal: &SweepSignal,
    done: &watch::Sender<P>,
) {
    let (begun, mut rows) = (clock::now(), 0);
    loop {
        let step_begun = clock::now();
        let pause = match step() {
            Ok(step) => {
                rows += step.rows;
                done.send_replace(step.swept);
                if step.is_done {
                    break;
                }
                let took = clock::now().saturating_duration_since(step_begun);
                took.min(MAX_PAUSE)
            }
            Err(error) => {
                tracing::error!(%error, "removing obsolete rows failed, trying again");
                RETRY
            }
        };
        if !signal.pause(pause) {
            return;
        }
    }
    if rows > 0 {
        let took = clock::now().saturating_duration_since(begun);
        tracing::info!(rows, took_ms = took.as_millis(), "removed obsolete rows");
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn it_works_at_once_and_when_it_is_woken_until_there_is_nothing_more() {
        let steps = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&steps);
        let sweeper = Sweeper::start("test-sweep", move || {
            let swept = counter.fetch_add(1, Ordering::Relaxed) + 1;
            Ok::<_, Infallible>(SweepStep {
                rows: 1,
                swept,
                is_done: swept.is_multiple_of(3),
            })
        });
        let sweeper = sweeper.unwrap();
        let mut swept = sweeper.swept();
        swept.wait_for(|swept| *swept == 3).await.unwrap();
        sweeper.signal().wake();
        swept.wait_for(|swept| *swept == 6).await.unwrap();
        drop(sweeper);
        assert_eq!(steps.load(Ordering::Relaxed), 6);
        assert!(swept.changed().await.is_err(), "the thread has ended");
    }

    #[tokio::test]
    async fn it_stops_in_the_middle_of_a_pause() {
        let (failed, mut failures) = watch::channel(0);
        let sweeper = Sweeper::<u64>::start("test-sweep", move || {
            failed.send_modify(|failures| *failures += 1);
            Err("no space")
        });
        failures.wait_for(|failures| *failures > 0).await.unwrap();
        let begun = clock::now();
        drop(sweeper.unwrap());
        assert!(clock::now() < begun + RETRY / 2);
        assert_eq!(*failures.borrow(), 1);
    }
}
