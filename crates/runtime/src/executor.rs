//! N current-thread tokio runtimes, each on its own named thread.
//!
//! Tasks that stay on one runtime need no cross-thread wake-ups and no work stealing. For small
//! unary calls this is 1.5 to 2 times as fast (docs: reference/performance). In return, the caller
//! has to balance the load: a connection stays on its runtime.

use std::{
    future::Future,
    io,
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use parking_lot::Mutex;
use thiserror::Error;
use tokio::{runtime, sync::watch, task::JoinHandle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{clock, task};

/// The reason why an executor could not start.
#[derive(Debug, Error)]
pub enum ExecutorError {
    /// The operating system could not create a thread or an event queue.
    #[error(
        "cannot start runtime thread {thread}: {source}; check the limits on threads and open files"
    )]
    Start {
        /// The thread's name.
        thread: String,
        /// The operating system's error.
        source: io::Error,
    },
}

/// Whether [`Executor::stop`] had to abort tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// Every task ended by itself.
    Drained,
    /// The grace period expired and the remaining tasks were dropped.
    Cut {
        /// The number of dropped tasks.
        tasks: usize,
    },
}

/// A handle to the threads; cheap to clone. [`Executor::stop`] stops them. Dropping the last clone
/// also does, and drops all tasks at once.
#[derive(Debug, Clone)]
pub struct Executor {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    workers: Vec<Worker>,
    next: AtomicUsize,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// The number of threads whose runtime still runs.
    alive: watch::Receiver<usize>,
}

#[derive(Debug)]
struct Worker {
    handle: runtime::Handle,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
}

impl Executor {
    /// Starts `threads` runtimes on threads named `name-0`, `name-1`, ...
    ///
    /// # Errors
    /// [`ExecutorError::Start`]. Threads that were started are stopped again.
    pub fn start(name: &str, threads: NonZeroUsize) -> Result<Self, ExecutorError> {
        let stop = CancellationToken::new();
        let (alive_sender, alive) = watch::channel(0);
        let alive_sender = Arc::new(alive_sender);
        let mut workers = Vec::with_capacity(threads.get());
        for index in 0..threads.get() {
            let thread_name = format!("{name}-{index}");
            let worker =
                start_worker(&thread_name, stop.clone(), &alive_sender).map_err(|source| {
                    stop.cancel();
                    ExecutorError::Start {
                        thread: thread_name,
                        source,
                    }
                })?;
            workers.push(worker);
        }
        let inner = Inner {
            workers,
            next: AtomicUsize::new(0),
            tasks: TaskTracker::new(),
            stop,
            alive,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// The number of runtimes.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.inner.workers.len()
    }

    /// Spawns a task on runtime `worker % threads()`. After [`Executor::stop`] the task never runs,
    /// and the handle resolves to a cancelled [`task::JoinError`].
    pub fn spawn_on<F>(&self, worker: usize, name: &'static str, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let worker = &self.inner.workers[worker % self.inner.workers.len()];
        self.inner
            .tasks
            .spawn_on(task::named(name, future), &worker.handle)
    }

    /// Spawns a task on the next runtime, round-robin.
    pub fn spawn<F>(&self, name: &'static str, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.spawn_on(self.next_worker(), name, future)
    }

    /// The index of the next runtime, round-robin.
    #[must_use]
    pub fn next_worker(&self) -> usize {
        self.inner.next.fetch_add(1, Ordering::Relaxed) % self.inner.workers.len()
    }

    /// A handle to runtime `worker % threads()`, for callers that spawn many tasks there.
    /// [`Executor::stop`] does not wait for such tasks.
    #[must_use]
    pub fn handle(&self, worker: usize) -> runtime::Handle {
        self.inner.workers[worker % self.inner.workers.len()]
            .handle
            .clone()
    }

    /// Waits up to `grace` for the tasks to end, then drops the remaining ones and ends the
    /// threads. The caller must first tell its tasks to finish.
    ///
    /// # Cancel safety
    /// If the future is dropped during the grace period, the threads keep running.
    pub async fn stop(&self, grace: Duration) -> Stopped {
        self.inner.tasks.close();
        let drained = clock::timeout(grace, self.inner.tasks.wait()).await;
        let cut = self.inner.tasks.len();
        self.inner.stop.cancel();
        let mut alive = self.inner.alive.clone();
        // An error means that all senders are gone, and so are all threads.
        let _ = alive.wait_for(|alive| *alive == 0).await;
        for worker in &self.inner.workers {
            if let Some(thread) = worker.thread.lock().take() {
                // The runtime is gone already, so this returns at once. A panic has been logged.
                let _ = thread.join();
            }
        }
        match drained {
            Ok(()) => Stopped::Drained,
            Err(_) => Stopped::Cut { tasks: cut },
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn start_worker(
    name: &str,
    stop: CancellationToken,
    alive: &Arc<watch::Sender<usize>>,
) -> io::Result<Worker> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let handle = runtime.handle().clone();
    let running = Running::new(alive);
    let thread = task::spawn_thread(name, move || {
        runtime.block_on(stop.cancelled());
        // Drop tasks here, on their own thread, before the thread counts as ended.
        drop(runtime);
        drop(running);
    })?;
    Ok(Worker {
        handle,
        thread: Mutex::new(Some(thread)),
    })
}

/// Counts a thread while it exists, even if it panics.
struct Running(Arc<watch::Sender<usize>>);

impl Running {
    fn new(alive: &Arc<watch::Sender<usize>>) -> Self {
        alive.send_modify(|alive| *alive += 1);
        Self(Arc::clone(alive))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.send_modify(|alive| *alive -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> NonZeroUsize {
        NonZeroUsize::new(2).unwrap()
    }

    #[tokio::test]
    async fn tasks_run_on_the_chosen_named_thread() {
        let executor = Executor::start("serve", two()).unwrap();
        for worker in 0..4 {
            let name = executor.spawn_on(worker, "name", async {
                thread::current().name().map(str::to_owned)
            });
            let expected = format!("serve-{}", worker % 2);
            assert_eq!(name.await.unwrap(), Some(expected));
        }
        let turns: Vec<_> = (0..4).map(|_| executor.next_worker()).collect();
        assert_eq!(turns, [0, 1, 0, 1]);
        assert_eq!(executor.stop(Duration::ZERO).await, Stopped::Drained);
    }

    #[tokio::test]
    async fn stop_waits_for_tasks_and_refuses_later_ones() {
        let executor = Executor::start("drain", two()).unwrap();
        let (go, wait) = tokio::sync::oneshot::channel::<()>();
        let task = executor.spawn("waits", async move { wait.await.is_ok() });
        let stopping = {
            let executor = executor.clone();
            task::spawn("stop", async move {
                executor.stop(Duration::from_secs(60)).await
            })
        };
        go.send(()).unwrap();
        assert!(task.await.unwrap());
        assert_eq!(stopping.await.unwrap(), Stopped::Drained);
        assert!(
            executor
                .spawn("late", async {})
                .await
                .unwrap_err()
                .is_cancelled()
        );
    }

    #[tokio::test]
    async fn stop_drops_tasks_after_the_grace_period() {
        let executor = Executor::start("cut", two()).unwrap();
        let stuck = executor.spawn("stuck", std::future::pending::<()>());
        let stopped = executor.stop(Duration::from_millis(10)).await;
        assert_eq!(stopped, Stopped::Cut { tasks: 1 });
        assert!(stuck.await.unwrap_err().is_cancelled());
    }

    #[tokio::test]
    async fn dropping_the_last_handle_ends_the_threads() {
        let executor = Executor::start("dropped", two()).unwrap();
        let stuck = executor.spawn("stuck", std::future::pending::<()>());
        drop(executor);
        assert!(stuck.await.unwrap_err().is_cancelled());
    }
}
