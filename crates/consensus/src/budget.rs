//! Memory for responses: in the making, and on their way out.
//!
//! A client that reads slowly keeps its response in memory, and a range can be as large as the
//! keyspace: without a bound a few of them end the process. Large responses wait for room in their
//! turn; small ones have a share of their own, so that they go on meanwhile.

use std::sync::Arc;
use std::time::Instant;

use prometheus::{IntCounter, IntGauge};
use synod_rpc::Hold;
use synod_runtime::clock;
use synod_runtime::metrics::{MetricsError, Registry};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::Error;

/// What is counted, so that any budget fits a semaphore.
const UNIT_BYTES: usize = 1 << 10;
/// Smaller responses are not counted: the number of calls bounds them.
const UNCOUNTED_BYTES: usize = 16 << 10;
/// While it is encoded a response is there twice: as records and as a message.
const COPIES: usize = 2;
/// The share of small responses is one part of so many.
const SMALL_SHARE: usize = 4;

/// The budget of a process. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct ResponseBudget {
    large: Share,
    small: Share,
    metrics: BudgetMetrics,
}

#[derive(Clone, Debug)]
struct Share {
    free: Arc<Semaphore>,
    units: u32,
}

#[derive(Clone, Debug)]
pub(crate) struct BudgetMetrics {
    held: IntGauge,
    refused: IntCounter,
}

/// A place in the budget, for a response that is being made; nothing for one that is not counted.
#[derive(Debug, Default)]
pub(crate) struct Place(Option<Counted>);

#[derive(Debug)]
struct Counted {
    permit: OwnedSemaphorePermit,
    held: IntGauge,
}

impl BudgetMetrics {
    /// Registers the instruments.
    ///
    /// # Errors
    /// A name that is taken.
    pub(crate) fn new(registry: &Registry) -> Result<Self, MetricsError> {
        Ok(Self {
            held: registry.gauge(
                "synod_response_budget_held_bytes",
                "Memory held by counted responses, in the making and on their way out (bytes).",
            )?,
            refused: registry.counter(
                "synod_response_budget_refused_total",
                "Requests refused since their responses found no room in the budget.",
            )?,
        })
    }
}

impl Share {
    fn new(units: u32) -> Self {
        Self {
            free: Arc::new(Semaphore::new(units as usize)),
            units,
        }
    }
}

impl ResponseBudget {
    /// A budget of `total` bytes.
    pub(crate) fn new(total: usize, metrics: BudgetMetrics) -> Self {
        let units = u32::try_from(total / UNIT_BYTES).unwrap_or(u32::MAX);
        let small = units / u32::try_from(SMALL_SHARE).unwrap_or(u32::MAX);
        Self {
            large: Share::new(units - small),
            small: Share::new(small),
            metrics,
        }
    }

    /// The largest response that finds room, in bytes.
    pub(crate) fn largest(&self) -> usize {
        self.large.units as usize * UNIT_BYTES / COPIES
    }

    /// A place for a small response of so many bytes, if there is room in the small ones' share.
    pub(crate) fn small(&self, bytes: usize) -> Option<Place> {
        if bytes <= UNCOUNTED_BYTES {
            return Some(Place::default());
        }
        let free = Arc::clone(&self.small.free);
        let permit = free.try_acquire_many_owned(units(bytes)).ok()?;
        Some(self.place(permit))
    }

    /// Waits for a place for a response of up to so many bytes.
    ///
    /// # Errors
    /// [`Error::ResponseTooLarge`], or [`Error::ResponsesBusy`] when the deadline passes.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the turn.
    pub(crate) async fn large(&self, bytes: usize, deadline: Instant) -> Result<Place, Error> {
        let units = units(bytes);
        if units > self.large.units {
            self.metrics.refused.inc();
            let largest = self.largest();
            return Err(Error::ResponseTooLarge { bytes, largest });
        }
        let free = Arc::clone(&self.large.free);
        match clock::timeout_at(deadline, free.acquire_many_owned(units)).await {
            Ok(Ok(permit)) => Ok(self.place(permit)),
            // The semaphore is never closed.
            Ok(Err(_)) | Err(_) => {
                self.metrics.refused.inc();
                Err(Error::ResponsesBusy)
            }
        }
    }

    fn place(&self, permit: OwnedSemaphorePermit) -> Place {
        let held = self.metrics.held.clone();
        held.add(bytes_of(&permit));
        Place(Some(Counted { permit, held }))
    }
}

impl Place {
    /// Gives back what a response of so many bytes doesn't need.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        let Some(counted) = &mut self.0 else {
            return;
        };
        let needed = units(bytes) as usize;
        let excess = counted.permit.num_permits().saturating_sub(needed);
        if let Some(excess) = counted.permit.split(excess) {
            counted.held.sub(bytes_of(&excess));
        }
    }

    /// A response that keeps the place until it has left.
    pub(crate) fn response<T>(self, message: T) -> tonic::Response<T> {
        let mut response = tonic::Response::new(message);
        if self.0.is_some() {
            response.extensions_mut().insert(Hold::new(self));
        }
        response
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.held.sub(bytes_of(&self.permit));
    }
}

fn units(bytes: usize) -> u32 {
    let units = bytes.saturating_mul(COPIES).div_ceil(UNIT_BYTES);
    u32::try_from(units).unwrap_or(u32::MAX)
}

fn bytes_of(permit: &OwnedSemaphorePermit) -> i64 {
    i64::try_from(permit.num_permits() * UNIT_BYTES).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn budget(total: usize) -> ResponseBudget {
        let metrics = BudgetMetrics::new(&Registry::new()).unwrap();
        ResponseBudget::new(total, metrics)
    }

    fn soon() -> Instant {
        clock::now() + Duration::from_millis(50)
    }

    const MIB: usize = 1 << 20;

    #[tokio::test]
    async fn large_responses_wait_for_room_and_small_ones_go_on() {
        let budget = budget(16 * MIB);
        assert_eq!(budget.largest(), 6 * MIB);
        let first = budget.large(6 * MIB, soon()).await.unwrap();
        assert_eq!(budget.metrics.held.get(), 12 << 20);
        let refused = budget.large(MIB, soon()).await.unwrap_err();
        assert_eq!(refused, Error::ResponsesBusy);
        let small = budget.small(2 * MIB).unwrap();
        assert!(budget.small(MIB).is_none());
        assert!(budget.small(UNCOUNTED_BYTES).is_some());
        let late = clock::now() + Duration::from_secs(60);
        let (waited, ()) = tokio::join!(budget.large(6 * MIB, late), async { drop(first) });
        drop((small, waited.unwrap()));
        assert_eq!(budget.metrics.held.get(), 0);
        assert_eq!(budget.metrics.refused.get(), 1);
    }

    #[tokio::test]
    async fn what_never_fits_is_refused_at_once_and_says_how_much_would() {
        let budget = budget(16 * MIB);
        let late = clock::now() + Duration::from_secs(3600);
        let refused = budget.large(6 * MIB + 1, late).await.unwrap_err();
        let (bytes, largest) = (6 * MIB + 1, 6 * MIB);
        assert_eq!(refused, Error::ResponseTooLarge { bytes, largest });
    }

    #[tokio::test]
    async fn a_response_keeps_what_it_needs_until_it_has_left() {
        let budget = budget(16 * MIB);
        let mut place = budget.large(6 * MIB, soon()).await.unwrap();
        place.shrink(MIB);
        assert_eq!(budget.metrics.held.get(), 2 << 20);
        let response = place.response(());
        assert_eq!(budget.metrics.held.get(), 2 << 20);
        drop(response);
        assert_eq!(budget.metrics.held.get(), 0);
        budget.large(6 * MIB, soon()).await.unwrap();
    }
}
