//! Monotonic and wall time, and waiting.
//!
//! Monotonic time follows tokio's clock: where tokio's time is paused (tests with `test-util`), so
//! is [`now`]. Nothing but log lines and user-visible dates may depend on [`wall`].

use std::{
    future::Future,
    time::{Duration, Instant, SystemTime},
};

pub use tokio::time::error::Elapsed;

/// The monotonic clock.
#[must_use]
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// The wall clock, which may jump either way.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the wall clock"
)]
pub fn wall() -> SystemTime {
    SystemTime::now()
}

/// Waits for `duration`.
///
/// # Cancel safety
/// Dropping the future cancels the timer.
pub async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// Waits until `deadline`; returns at once when it has passed.
///
/// # Cancel safety
/// Dropping the future cancels the timer.
pub async fn sleep_until(deadline: Instant) {
    tokio::time::sleep_until(deadline.into()).await;
}

/// Runs `future` until `deadline`.
///
/// # Errors
/// [`Elapsed`] when the deadline passed first; the future is dropped then.
pub async fn timeout_at<F: Future>(deadline: Instant, future: F) -> Result<F::Output, Elapsed> {
    tokio::time::timeout_at(deadline.into(), future).await
}

/// Runs `future` for at most `duration`.
///
/// # Errors
/// [`Elapsed`] when the time was over first; the future is dropped then.
pub async fn timeout<F: Future>(duration: Duration, future: F) -> Result<F::Output, Elapsed> {
    tokio::time::timeout(duration, future).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_deadline_in_the_past_elapses_and_one_in_the_future_does_not() {
        let past = now();
        assert!(
            timeout_at(past, std::future::pending::<()>())
                .await
                .is_err()
        );
        let future = now() + Duration::from_secs(60);
        assert_eq!(timeout_at(future, async { 7 }).await.unwrap(), 7);
        sleep_until(past).await;
        sleep(Duration::from_millis(1)).await;
        assert!(now() > past);
        assert!(wall() > SystemTime::UNIX_EPOCH);
    }
}
