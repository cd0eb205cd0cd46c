//! Long reads on threads of their own. On a serving thread a range over many keys or a hash would
//! hold up all other requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use synod_runtime::task::spawn_blocking;
use tokio::sync::Semaphore;

/// How many long reads run at once.
const MAX_RUNNING: usize = 4;
/// How many long reads wait for their turn; more are refused.
const MAX_WAITING: usize = 4096;

/// A bounded number of threads for long reads. Clones share the threads.
#[derive(Clone, Debug)]
pub struct ScanPool {
    turns: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
}

/// Why a long read has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    /// Too many are waiting. It was not begun.
    #[error("too many long reads are waiting: try again later")]
    Busy,
    /// A defect: it panicked, or its results contradict each other.
    #[error("a long read failed: {0}")]
    Failed(String),
}

impl Default for ScanPool {
    fn default() -> Self {
        Self {
            turns: Arc::new(Semaphore::new(MAX_RUNNING)),
            waiting: Arc::default(),
        }
    }
}

impl ScanPool {
    /// Runs `read` on a thread of its own once it is its turn.
    ///
    /// # Errors
    /// [`ScanError`], or the error of `read`.
    ///
    /// # Cancel safety
    /// Dropping the future while it waits gives up the turn. A read that runs is not interrupted.
    pub async fn run<T, E, F>(&self, read: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<ScanError> + Send + 'static,
        F: FnOnce() -> Result<T, E> + Send + 'static,
    {
        let failed = |error: &dyn std::error::Error| ScanError::Failed(error.to_string());
        let waiting = Waiting::enter(&self.waiting)?;
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        // The semaphore is never closed.
        let turn = turn.map_err(|error| failed(&error))?;
        drop(waiting);
        let task = spawn_blocking(move || {
            let _turn = turn;
            read()
        });
        task.await.map_err(|error| failed(&error))?
    }
}

struct Waiting(Arc<AtomicUsize>);

impl Waiting {
    fn enter(count: &Arc<AtomicUsize>) -> Result<Self, ScanError> {
        let waiting = Self(Arc::clone(count));
        match count.fetch_add(1, Ordering::Relaxed) < MAX_WAITING {
            true => Ok(waiting),
            false => Err(ScanError::Busy),
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use synod_runtime::task::spawn;

    use super::*;

    #[tokio::test]
    async fn reads_return_what_they_read_and_give_their_turn_back() {
        let pool = ScanPool::default();
        for n in 0..3 * MAX_RUNNING {
            assert_eq!(pool.run(move || Ok::<_, ScanError>(n)).await, Ok(n));
        }
        let failure = ScanError::Failed("no such row".to_owned());
        let failing = failure.clone();
        assert_eq!(pool.run(move || Err::<(), _>(failing)).await, Err(failure));
        let panicked = pool.run::<(), ScanError, _>(|| panic!("expected by the test"));
        assert!(matches!(panicked.await, Err(ScanError::Failed(_))));
        assert_eq!(pool.turns.available_permits(), MAX_RUNNING);
        assert_eq!(pool.waiting.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_read_waits_for_its_turn_and_is_refused_when_too_many_wait() {
        let pool = ScanPool::default();
        let turns = Arc::clone(&pool.turns);
        let all = turns.acquire_many_owned(4).await.unwrap();
        let waiting = {
            let pool = pool.clone();
            spawn(
                "waits",
                async move { pool.run(|| Ok::<_, ScanError>(7)).await },
            )
        };
        while pool.waiting.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        pool.waiting.fetch_add(MAX_WAITING, Ordering::Relaxed);
        let refused = pool.run(|| Ok::<_, ScanError>(8)).await;
        assert_eq!(refused, Err(ScanError::Busy));
        drop(all);
        assert_eq!(waiting.await.unwrap(), Ok(7));
    }
}
