//! Named tasks and threads.

use std::{future::Future, io, thread};

pub use tokio::task::{AbortHandle, JoinError, JoinHandle, spawn_blocking};

/// Spawns `future` on the current tokio runtime.
///
/// A panic ends only this task. It is logged with the task's name, and the handle returns it as a
/// [`JoinError`]. Dropping the handle detaches the task.
///
/// # Panics
/// If called outside a tokio runtime.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that spawns: every task has a name"
)]
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(named(name, future))
}

/// Wraps a future to log panics. All spawns of this crate use it.
pub(crate) async fn named<F: Future>(name: &'static str, future: F) -> F::Output {
    let _report = ReportPanic(name);
    future.await
}

/// Starts an operating-system thread. Linux shows the first 15 bytes of `name`.
///
/// # Errors
/// The operating system's error if it can't create the thread.
pub fn spawn_thread<F, T>(name: &str, run: F) -> io::Result<thread::JoinHandle<T>>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let report_name = name.to_owned();
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        let _report = ReportThreadPanic(report_name);
        run()
    })
}

struct ReportPanic(&'static str);

impl Drop for ReportPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            tracing::error!(task = self.0, "task panicked");
        }
    }
}

struct ReportThreadPanic(String);

impl Drop for ReportThreadPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            tracing::error!(thread = self.0, "thread panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_returns_its_value_and_a_panic_stays_inside() {
        assert_eq!(spawn("value", async { 3 }).await.unwrap(), 3);
        let panicked = spawn("panics", async { panic!("expected by the test") }).await;
        assert!(panicked.unwrap_err().is_panic());
    }

    #[test]
    fn a_thread_carries_its_name() {
        let handle = spawn_thread("synod-test", || thread::current().name().map(str::to_owned));
        assert_eq!(
            handle.unwrap().join().unwrap().as_deref(),
            Some("synod-test")
        );
    }
}
