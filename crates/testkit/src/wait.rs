//! Awaits a condition with a deadline instead of sleeping.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::{Instant, sleep};

/// The interval between two checks of a condition.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Calls `look` every 20 ms until it returns `Ok(Some(_))`, for at most `within`.
///
/// # Errors
/// Names `what` was awaited, together with the last error of `look`.
pub async fn until<T>(
    what: &str,
    within: Duration,
    mut look: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + within;
    loop {
        let seen = tokio::time::timeout_at(deadline, look()).await;
        let error = match seen {
            Ok(Ok(Some(value))) => return Ok(value),
            Ok(Ok(None)) => anyhow::anyhow!("the condition never became true"),
            Ok(Err(error)) => error,
            Err(_) => anyhow::anyhow!("the last check did not return"),
        };
        if Instant::now() >= deadline {
            return Err(error).with_context(|| format!("waited {within:?} for {what}"));
        }
        sleep(LOOK_EVERY).await;
    }
}
