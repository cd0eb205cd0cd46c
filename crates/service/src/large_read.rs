//! Reads with large results: they run on threads of their own, within the budget of responses.

use std::time::Instant;

use crate::budget::{BudgetError, Place, ResponseBudget};
use crate::scans::{ScanError, ScanPool};

/// How much the first attempt may gather. Most results are smaller, and are read only once.
const FIRST_TRY_BYTES: usize = 4 << 20;

/// A read of one state of a service's data. Repeating it gives the same result.
pub trait LargeRead: Clone + Send + 'static {
    /// The result.
    type Output: Send + 'static;
    /// Why there is no result.
    type Error: From<BudgetError> + From<ScanError> + Send + 'static;

    /// Reads; `None` if the result has more than `max_bytes`.
    ///
    /// # Errors
    /// The read's own.
    fn read(&self, max_bytes: usize) -> Result<Option<Self::Output>, Self::Error>;

    /// The size of the result in bytes. Reads everything, but keeps nothing.
    ///
    /// # Errors
    /// The read's own.
    fn measure(&self) -> Result<u64, Self::Error>;

    /// The size of a result in bytes.
    fn size(output: &Self::Output) -> usize;
}

/// Runs large reads.
#[derive(Clone, Debug)]
pub struct LargeReads {
    /// The threads.
    pub scans: ScanPool,
    /// The memory.
    pub budget: ResponseBudget,
}

impl LargeReads {
    /// Reads once there is room for the result and a thread is free. A result that is too large for
    /// the first attempt is measured and read again.
    ///
    /// # Errors
    /// [`BudgetError`], [`ScanError`], and what the read fails with.
    ///
    /// # Cancel safety
    /// Dropping the future while it waits gives up the turn. A read that runs is not interrupted,
    /// and keeps its place until it ends.
    pub async fn run<R: LargeRead>(
        &self,
        read: R,
        deadline: Instant,
    ) -> Result<(R::Output, Place), R::Error> {
        let first_try = FIRST_TRY_BYTES.min(self.budget.largest());
        if let Some(done) = self.attempt(&read, first_try, deadline).await? {
            return Ok(done);
        }
        let measured = read.clone();
        let bytes = self.scans.run(move || measured.measure()).await?;
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let done = self.attempt(&read, bytes, deadline).await?;
        let grew =
            || ScanError::Failed(format!("it found more than the {bytes} bytes it measured"));
        Ok(done.ok_or_else(grew)?)
    }

    /// `None` if the result is larger than `max_bytes`.
    async fn attempt<R: LargeRead>(
        &self,
        read: &R,
        max_bytes: usize,
        deadline: Instant,
    ) -> Result<Option<(R::Output, Place)>, R::Error> {
        let mut place = self.budget.large(max_bytes, deadline).await?;
        let read = read.clone();
        // The thread owns the place, since the read goes on even if its caller is gone.
        let reading = self.scans.run(move || {
            let output = read.read(max_bytes)?;
            Ok(output.map(|output| {
                place.shrink(R::size(&output));
                (output, place)
            }))
        });
        reading.await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use synod_runtime::clock;
    use synod_runtime::metrics::Registry;

    use super::*;
    use crate::budget::BudgetMetrics;

    const MIB: usize = 1 << 20;

    #[derive(Debug, PartialEq, Eq)]
    enum Refused {
        Budget(BudgetError),
        Scan(ScanError),
    }

    impl From<BudgetError> for Refused {
        fn from(error: BudgetError) -> Self {
            Self::Budget(error)
        }
    }

    impl From<ScanError> for Refused {
        fn from(error: ScanError) -> Self {
            Self::Scan(error)
        }
    }

    /// A read that gathers `found` bytes and says that it gathers `measured`.
    #[derive(Clone)]
    struct Rows {
        found: usize,
        measured: usize,
        reads: Arc<AtomicUsize>,
    }

    impl LargeRead for Rows {
        type Output = Vec<u8>;
        type Error = Refused;

        fn read(&self, max_bytes: usize) -> Result<Option<Vec<u8>>, Refused> {
            self.reads.fetch_add(1, Ordering::Relaxed);
            Ok((self.found <= max_bytes).then(|| vec![7; self.found]))
        }

        fn measure(&self) -> Result<u64, Refused> {
            Ok(self.measured as u64)
        }

        fn size(output: &Vec<u8>) -> usize {
            output.len()
        }
    }

    fn rows(found: usize) -> Rows {
        Rows {
            found,
            measured: found,
            reads: Arc::default(),
        }
    }

    fn reads() -> LargeReads {
        let metrics = BudgetMetrics::new(&Registry::new()).unwrap();
        LargeReads {
            scans: ScanPool::default(),
            budget: ResponseBudget::new(64 * MIB, metrics),
        }
    }

    fn soon() -> Instant {
        clock::now() + Duration::from_secs(10)
    }

    #[tokio::test]
    async fn only_a_result_over_the_first_attempt_is_read_twice() {
        let reads = reads();
        for (found, times) in [(0, 1), (FIRST_TRY_BYTES, 1), (FIRST_TRY_BYTES + 1, 2)] {
            let rows = rows(found);
            let (output, place) = reads.run(rows.clone(), soon()).await.unwrap();
            assert_eq!(output.len(), found);
            assert_eq!(rows.reads.load(Ordering::Relaxed), times, "{found} bytes");
            drop(place);
        }
    }

    #[tokio::test]
    async fn a_result_keeps_only_the_room_that_it_needs() {
        let reads = reads();
        let most = reads.budget.largest();
        let mut places = Vec::new();
        // Each takes room for the first attempt. Fewer would fit if they kept it.
        for _ in 0..most / MIB - FIRST_TRY_BYTES / MIB {
            let (_, place) = reads.run(rows(MIB), clock::now()).await.unwrap();
            places.push(place);
        }
        let none = reads.run(rows(8 * MIB), clock::now()).await.unwrap_err();
        assert_eq!(none, Refused::Budget(BudgetError::Busy));
    }

    #[tokio::test]
    async fn what_never_fits_and_what_grows_is_refused() {
        let reads = reads();
        let refused = reads.run(rows(64 * MIB), soon()).await.unwrap_err();
        let (bytes, largest) = (64 * MIB, reads.budget.largest());
        assert_eq!(
            refused,
            Refused::Budget(BudgetError::TooLarge { bytes, largest })
        );
        let grows = Rows {
            measured: 5 * MIB,
            ..rows(6 * MIB)
        };
        let refused = reads.run(grows, soon()).await.unwrap_err();
        assert!(matches!(refused, Refused::Scan(ScanError::Failed(_))));
    }
}
