//! Monotonic time, wall-clock time and timers.
//!
//! Monotonic time follows tokio's clock: if tokio's time is paused (tests with `test-util`), so is
//! [`now`]. Only log lines and user-visible dates may depend on [`wall`].

use std::{
    future::Future,
    time::{Duration, Instant, SystemTime},
};

pub use tokio::time::error::Elapsed;

/// The current time on the monotonic clock.
#[must_use]
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// The current wall-clock time. It may jump in either direction.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the wall clock"
)]
pub fn wall() -> SystemTime {
    SystemTime::now()
}

/// Sleeps for `duration`.
///
/// # Cancel safety
/// Dropping the future cancels the timer.
pub async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// Sleeps until `deadline`. Returns at once if it has passed.
///
/// # Cancel safety
/// Dropping the future cancels the timer.
pub async fn sleep_until(deadline: Instant) {
    tokio::time::sleep_until(deadline.into()).await;
}

/// Runs `future`, until `deadline` at most.
///
/// # Errors
/// [`Elapsed`] if the deadline passed first. The future is then dropped.
pub async fn timeout_at<F: Future>(deadline: Instant, future: F) -> Result<F::Output, Elapsed> {
    tokio::time::timeout_at(deadline.into(), future).await
}

/// Runs `future` for at most `duration`.
///
/// # Errors
/// [`Elapsed`] if the time ran out first. The future is then dropped.
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
