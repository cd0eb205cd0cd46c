//! The time that a client gives a call.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use synod_runtime::clock;
use tonic::Status;

/// When a call has to be over. A call without a timeout has no deadline.
pub(super) struct Deadline(Option<Set>);

struct Set {
    at: Instant,
    passed: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Deadline {
    pub(super) fn after(timeout: Option<Duration>) -> Self {
        // Too far away for the clock: no deadline.
        let at = timeout.and_then(|timeout| clock::now().checked_add(timeout));
        Self(at.map(|at| Set {
            at,
            passed: Box::pin(clock::sleep_until(at)),
        }))
    }

    /// # Errors
    /// It has passed.
    pub(super) fn check(&self) -> Result<(), Status> {
        match &self.0 {
            Some(set) if set.at <= clock::now() => Err(exceeded()),
            Some(_) | None => Ok(()),
        }
    }

    /// Ready when it has passed.
    pub(super) fn poll_passed(&mut self, context: &mut Context<'_>) -> Poll<Status> {
        match &mut self.0 {
            Some(set) => set.passed.as_mut().poll(context).map(|()| exceeded()),
            None => Poll::Pending,
        }
    }

    /// Runs a future until then.
    ///
    /// # Errors
    /// The deadline has passed; the future was dropped.
    pub(super) async fn run<F: Future>(&mut self, future: F) -> Result<F::Output, Status> {
        let mut future = pin!(future);
        poll_fn(|context| match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => self.poll_passed(context).map(Err),
        })
        .await
    }
}

/// With the text of Go's gRPC.
fn exceeded() -> Status {
    Status::deadline_exceeded("context deadline exceeded")
}
