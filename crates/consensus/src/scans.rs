//! Long reads off the serving threads: a range over many keys or a hash would hold up every other
//! request.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use synod_runtime::task::spawn_blocking;
use tokio::sync::Semaphore;

use crate::error::Error;

/// Long reads that run at once.
const MAX_RUNNING: usize = 4;
/// Long reads that wait for their turn; more are refused.
const MAX_WAITING: usize = 4096;

/// A bounded number of threads for long reads.
#[derive(Clone, Debug)]
pub(crate) struct ScanPool {
    turns: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
}

impl ScanPool {
    pub(crate) fn new() -> Self {
        Self {
            turns: Arc::new(Semaphore::new(MAX_RUNNING)),
            waiting: Arc::new(AtomicUsize::new(0)),
        }
    }

    /// Runs `read` on a thread of its own, when it is its turn.
    ///
    /// # Errors
    /// [`Error::TooManyRequests`] when too many wait, and what `read` returns.
    ///
    /// # Cancel safety
    /// Dropping the future while it waits gives up the turn; a read that runs goes on to its end.
    pub(crate) async fn run<T, F>(&self, read: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T, Error> + Send + 'static,
    {
        let waiting = Waiting::enter(&self.waiting)?;
        let turn = Arc::clone(&self.turns)
            .acquire_owned()
            .await
            .map_err(|_| Error::NotRunning)?;
        drop(waiting);
        let task = spawn_blocking(move || {
            let _turn = turn;
            read()
        });
        task.await
            .map_err(|error| Error::Internal(format!("a read ended early: {error}")))?
    }
}

struct Waiting(Arc<AtomicUsize>);

impl Waiting {
    fn enter(count: &Arc<AtomicUsize>) -> Result<Self, Error> {
        let waiting = Self(Arc::clone(count));
        match count.fetch_add(1, Ordering::Relaxed) < MAX_WAITING {
            true => Ok(waiting),
            false => Err(Error::TooManyRequests),
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
    use super::*;

    #[tokio::test]
    async fn reads_return_what_they_read_and_give_their_turn_back() {
        let pool = ScanPool::new();
        for n in 0..3 * MAX_RUNNING {
            assert_eq!(pool.run(move || Ok(n)).await, Ok(n));
        }
        assert_eq!(
            pool.run::<(), _>(|| Err(Error::Compacted)).await,
            Err(Error::Compacted)
        );
        assert_eq!(pool.turns.available_permits(), MAX_RUNNING);
        assert_eq!(pool.waiting.load(Ordering::Relaxed), 0);
    }
}
