//! The budget of memory for responses, from when they are built until they are sent.
//!
//! A response can be as large as all data, and a slow client keeps it in memory: without a bound a
//! few of them would exhaust the memory. Large responses wait in turn for room. Small ones have a
//! share of their own, so that they need not wait for large ones. So have the responses of writes:
//! slow readers must not stop writers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use prometheus::{IntCounter, IntGauge};
use synod_rpc::{Hold, Keep};
use synod_runtime::clock;
use synod_runtime::metrics::{MetricsError, Registry};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The unit of the semaphores, so that any budget fits.
const UNIT_BYTES: usize = 1 << 10;
/// Smaller responses are not counted: the number of calls bounds them.
const UNCOUNTED_BYTES: usize = 16 << 10;
/// While a response is encoded it is in memory twice: as records and as a message.
const COPIES: usize = 2;
/// Small responses have one part in so many of the budget.
const SMALL_SHARE: usize = 8;
/// Responses of writes have one part in so many of the budget.
const WRITES_SHARE: usize = 8;

/// The budget of a process. Clones share it.
#[derive(Clone, Debug)]
pub struct ResponseBudget {
    large: Share,
    small: Share,
    writes: Share,
    /// Units of writes' responses beyond their share: a write that is done must be answered.
    overdraft: Arc<AtomicUsize>,
    metrics: BudgetMetrics,
}

#[derive(Clone, Debug)]
struct Share {
    free: Arc<Semaphore>,
    units: u32,
}

/// The budget's instruments.
#[derive(Clone, Debug)]
pub struct BudgetMetrics {
    held: IntGauge,
    refused: IntCounter,
}

/// Why a response gets no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BudgetError {
    /// It never fits.
    #[error("a response of {bytes} bytes is larger than {largest}: request less at a time")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The largest size that fits.
        largest: usize,
    },
    /// There was no room for it in time.
    #[error("too many large responses are in progress: try again, or request less at a time")]
    Busy,
}

/// A response's place in the budget, given back on drop. Empty for a response that is not counted.
#[derive(Debug, Default)]
pub struct Place(Option<Counted>);

#[derive(Debug)]
struct Counted {
    permit: Option<OwnedSemaphorePermit>,
    overdraft: Overdraft,
    held: IntGauge,
}

/// Units beyond the share of writes.
#[derive(Debug)]
struct Overdraft {
    units: usize,
    total: Arc<AtomicUsize>,
}

/// The place of a response of one message. After the encoding only one copy is left.
struct OfMessage(Mutex<Place>);

/// The place of a stream of messages.
struct OfStream(#[expect(dead_code, reason = "kept, and given back when it is dropped")] Place);

impl BudgetMetrics {
    /// Registers the instruments.
    ///
    /// # Errors
    /// A name is taken.
    pub fn new(registry: &Registry) -> Result<Self, MetricsError> {
        Ok(Self {
            held: registry.gauge(
                "synod_response_budget_held_bytes",
                "Memory held by counted responses that are being built or sent (bytes).",
            )?,
            refused: registry.counter(
                "synod_response_budget_refused_total",
                "Requests refused because their responses found no room in the budget.",
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

    fn try_take(&self, units: u32) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).try_acquire_many_owned(units).ok()
    }

    /// Waits until the deadline. The share must be at least `units` large.
    async fn take(&self, units: u32, deadline: Instant) -> Option<OwnedSemaphorePermit> {
        let taking = Arc::clone(&self.free).acquire_many_owned(units);
        // The semaphore is never closed.
        clock::timeout_at(deadline, taking).await.ok()?.ok()
    }
}

impl ResponseBudget {
    /// A budget of `total` bytes.
    #[must_use]
    pub fn new(total: usize, metrics: BudgetMetrics) -> Self {
        let units = u32::try_from(total / UNIT_BYTES).unwrap_or(u32::MAX);
        let part = |share: usize| units / u32::try_from(share).unwrap_or(u32::MAX);
        let (small, writes) = (part(SMALL_SHARE), part(WRITES_SHARE));
        Self {
            large: Share::new(units - small - writes),
            small: Share::new(small),
            writes: Share::new(writes),
            overdraft: Arc::default(),
            metrics,
        }
    }

    /// The size of the largest response that fits, in bytes.
    #[must_use]
    pub fn largest(&self) -> usize {
        self.large.units as usize * UNIT_BYTES / COPIES
    }

    /// A place for a small response of so many bytes, if the share of small responses has room.
    #[must_use]
    pub fn small(&self, bytes: usize) -> Option<Place> {
        if bytes <= UNCOUNTED_BYTES {
            return Some(Place::default());
        }
        let permit = self.small.try_take(units(bytes, COPIES))?;
        Some(self.place(permit))
    }

    /// Waits for a place for the value of one key. It waits with the small responses, so that gets
    /// don't wait for ranges, unless it is larger than their whole share.
    ///
    /// # Errors
    /// As [`Self::large`].
    ///
    /// # Cancel safety
    /// Dropping the future gives up the turn.
    pub async fn single(&self, bytes: usize, deadline: Instant) -> Result<Place, BudgetError> {
        let units = units(bytes, COPIES);
        if units > self.small.units {
            return self.large(bytes, deadline).await;
        }
        match self.small.take(units, deadline).await {
            Some(permit) => Ok(self.place(permit)),
            None => Err(self.busy()),
        }
    }

    /// A place for a response that is built already. If the share of small responses has no room,
    /// waits for a place among the large ones.
    ///
    /// # Errors
    /// As [`Self::large`].
    ///
    /// # Cancel safety
    /// Dropping the future gives up the turn.
    pub async fn made(&self, bytes: usize, deadline: Instant) -> Result<Place, BudgetError> {
        match self.small(bytes) {
            Some(place) => Ok(place),
            None => self.large(bytes, deadline).await,
        }
    }

    /// Waits for a place for a large response of up to so many bytes.
    ///
    /// # Errors
    /// [`BudgetError::TooLarge`], or [`BudgetError::Busy`] when the deadline passes.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the turn.
    pub async fn large(&self, bytes: usize, deadline: Instant) -> Result<Place, BudgetError> {
        let units = units(bytes, COPIES);
        if units > self.large.units {
            self.metrics.refused.inc();
            let largest = self.largest();
            return Err(BudgetError::TooLarge { bytes, largest });
        }
        match self.large.take(units, deadline).await {
            Some(permit) => Ok(self.place(permit)),
            None => Err(self.busy()),
        }
    }

    /// Refuses a write that returns something while earlier writes' responses exceed their share.
    /// `returns` says whether the write returns something; it is called only if they do.
    ///
    /// # Errors
    /// [`BudgetError::Busy`]: the write must not be proposed.
    pub fn check_write(&self, returns: impl FnOnce() -> bool) -> Result<(), BudgetError> {
        let overdraft = self.overdraft.load(Ordering::Relaxed);
        // Free units of the share count against the overdraft.
        if overdraft > self.writes.free.available_permits() && returns() {
            return Err(self.busy());
        }
        Ok(())
    }

    /// Waits for a place for the `most` bytes that a write may return, before it is proposed. Once
    /// the write is done, [`Self::written`] takes what its response needs.
    ///
    /// # Errors
    /// [`BudgetError::Busy`]: the write must not be proposed.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the turn.
    pub async fn write(&self, most: usize, deadline: Instant) -> Result<Place, BudgetError> {
        self.check_write(|| true)?;
        let units = units(most, 1);
        if units > self.writes.units {
            // The share is too small for any such write.
            return self.large(most.min(self.largest()), deadline).await;
        }
        let free = [&self.writes, &self.large];
        let taken = free.into_iter().find_map(|share| share.try_take(units));
        if let Some(permit) = taken {
            return Ok(self.place(permit));
        }
        match self.writes.take(units, deadline).await {
            Some(permit) => Ok(self.place(permit)),
            None => Err(self.busy()),
        }
    }

    /// The place for the response of a write that is done, given the place that was taken `before`.
    /// What finds no room is counted beyond the share.
    #[must_use]
    pub fn written(&self, bytes: usize, before: Option<Place>) -> Place {
        if bytes <= UNCOUNTED_BYTES {
            return Place::default();
        }
        let needed = units(bytes, COPIES);
        let mut place = before.unwrap_or_default();
        if place.units() >= needed as usize {
            place.keep(needed as usize);
            return place;
        }
        if let Some(permit) = self.writes.try_take(needed) {
            return self.place(permit);
        }
        let permit = place.0.take().and_then(|mut counted| {
            let permit = counted.permit.take()?;
            counted.held.sub(bytes_of(permit.num_permits()));
            Some(permit)
        });
        let taken = permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        self.counted(permit, needed as usize - taken)
    }

    fn busy(&self) -> BudgetError {
        self.metrics.refused.inc();
        BudgetError::Busy
    }

    fn place(&self, permit: OwnedSemaphorePermit) -> Place {
        self.counted(Some(permit), 0)
    }

    fn counted(&self, permit: Option<OwnedSemaphorePermit>, beyond: usize) -> Place {
        let counted = Counted {
            permit,
            overdraft: Overdraft::new(beyond, &self.overdraft),
            held: self.metrics.held.clone(),
        };
        counted.held.add(bytes_of(counted.units()));
        Place(Some(counted))
    }
}

impl Place {
    /// Gives back what a response of so many bytes does not need.
    pub fn shrink(&mut self, bytes: usize) {
        self.keep(units(bytes, COPIES) as usize);
    }

    /// A response of one message. It keeps the place until its last byte is sent.
    pub fn response<T>(self, message: T) -> tonic::Response<T> {
        self.held(message, |place| Hold::new(OfMessage(Mutex::new(place))))
    }

    /// A stream of messages. It keeps the place until all are sent.
    pub fn stream<T>(self, messages: T) -> tonic::Response<T> {
        self.held(messages, |place| Hold::new(OfStream(place)))
    }

    fn held<T>(self, message: T, hold: impl FnOnce(Self) -> Hold) -> tonic::Response<T> {
        let mut response = tonic::Response::new(message);
        if self.0.is_some() {
            response.extensions_mut().insert(hold(self));
        }
        response
    }

    fn units(&self) -> usize {
        self.0.as_ref().map_or(0, Counted::units)
    }

    /// Gives back all but so many units.
    fn keep(&mut self, units: usize) {
        let Some(counted) = &mut self.0 else {
            return;
        };
        let excess = counted.units().saturating_sub(units);
        let repaid = counted.overdraft.repay(excess);
        if let Some(permit) = &mut counted.permit {
            drop(permit.split(excess - repaid));
        }
        counted.held.sub(bytes_of(excess));
    }
}

impl Keep for OfMessage {
    fn encoded(&self) {
        let mut place = self.0.lock();
        let units = place.units();
        place.keep(units.div_ceil(COPIES));
    }
}

impl Keep for OfStream {}

impl Counted {
    fn units(&self) -> usize {
        let permits = self.permit.as_ref();
        permits.map_or(0, OwnedSemaphorePermit::num_permits) + self.overdraft.units
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.held.sub(bytes_of(self.units()));
    }
}

impl Overdraft {
    fn new(units: usize, total: &Arc<AtomicUsize>) -> Self {
        total.fetch_add(units, Ordering::Relaxed);
        Self {
            units,
            total: Arc::clone(total),
        }
    }

    /// Gives back up to so many units. Returns how many.
    fn repay(&mut self, units: usize) -> usize {
        let repaid = units.min(self.units);
        self.units -= repaid;
        self.total.fetch_sub(repaid, Ordering::Relaxed);
        repaid
    }
}

impl Drop for Overdraft {
    fn drop(&mut self) {
        self.total.fetch_sub(self.units, Ordering::Relaxed);
    }
}

fn units(bytes: usize, copies: usize) -> u32 {
    let units = bytes.saturating_mul(copies).div_ceil(UNIT_BYTES);
    u32::try_from(units).unwrap_or(u32::MAX)
}

fn bytes_of(units: usize) -> i64 {
    i64::try_from(units * UNIT_BYTES).unwrap_or(i64::MAX)
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
    async fn large_responses_wait_for_room_and_small_ones_do_not() {
        let budget = budget(16 * MIB);
        assert_eq!(budget.largest(), 6 * MIB);
        let first = budget.large(6 * MIB, soon()).await.unwrap();
        assert_eq!(budget.metrics.held.get(), 12 << 20);
        let refused = budget.large(MIB, soon()).await.unwrap_err();
        assert_eq!(refused, BudgetError::Busy);
        let small = budget.small(MIB).unwrap();
        assert!(budget.small(MIB / 2).is_none());
        assert!(budget.small(UNCOUNTED_BYTES).is_some());
        let late = clock::now() + Duration::from_secs(60);
        let (waited, ()) = tokio::join!(budget.large(6 * MIB, late), async { drop(first) });
        drop((small, waited.unwrap()));
        assert_eq!(budget.metrics.held.get(), 0);
        assert_eq!(budget.metrics.refused.get(), 1);
    }

    #[tokio::test]
    async fn a_response_that_never_fits_is_refused_at_once_with_the_size_that_does() {
        let budget = budget(16 * MIB);
        let late = clock::now() + Duration::from_secs(3600);
        let refused = budget.large(6 * MIB + 1, late).await.unwrap_err();
        let (bytes, largest) = (6 * MIB + 1, 6 * MIB);
        assert_eq!(refused, BudgetError::TooLarge { bytes, largest });
    }

    #[tokio::test]
    async fn a_response_keeps_what_it_needs_until_it_is_sent() {
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

    #[tokio::test]
    async fn the_response_of_a_write_is_always_counted_and_other_writes_wait_for_room() {
        // 2 MiB of it for writes.
        let budget = budget(16 * MIB);
        budget.check_write(|| true).unwrap();
        // Their clients read nothing.
        let first = budget.written(MIB, None);
        let second = budget.written(2 * MIB, None);
        assert_eq!(budget.metrics.held.get(), 6 << 20);
        let refused = budget.check_write(|| true).unwrap_err();
        assert_eq!(refused, BudgetError::Busy);
        let refused = budget.write(MIB, soon()).await.unwrap_err();
        assert_eq!(refused, BudgetError::Busy);
        assert_eq!(budget.metrics.refused.get(), 2);
        budget.check_write(|| false).unwrap();
        drop(second);
        budget.check_write(|| true).unwrap();
        drop(first);
        assert_eq!(budget.metrics.held.get(), 0);
        assert_eq!(budget.overdraft.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn writes_go_on_while_ranges_hold_all_room_for_large_responses() {
        let budget = budget(64 * MIB);
        let ranges = budget.large(budget.largest(), soon()).await.unwrap();
        // The share of writes is 8 MiB.
        let mut writes = Vec::new();
        for _ in 0..4 {
            writes.push(budget.write(2 * MIB, soon()).await.unwrap());
        }
        let refused = budget.write(2 * MIB, soon()).await.unwrap_err();
        assert_eq!(refused, BudgetError::Busy);
        let most = writes.pop();
        let place = budget.written(MIB / 2, most);
        assert_eq!(place.units(), MIB / UNIT_BYTES);
        writes.push(budget.write(MIB, soon()).await.unwrap());
        // Without the ranges there is room for more of them.
        drop(ranges);
        for _ in 0..24 {
            writes.push(budget.write(2 * MIB, soon()).await.unwrap());
        }
        drop((writes, place));
        assert_eq!(budget.metrics.held.get(), 0);
    }

    #[tokio::test]
    async fn a_write_may_return_more_than_it_took_a_place_for() {
        let budget = budget(16 * MIB);
        let before = budget.write(MIB, soon()).await.unwrap();
        let place = budget.written(3 * MIB, Some(before));
        assert_eq!(budget.metrics.held.get(), 6 << 20);
        budget.check_write(|| true).unwrap_err();
        drop(place);
        budget.check_write(|| true).unwrap();
        assert_eq!(budget.metrics.held.get(), 0);
    }

    #[tokio::test]
    async fn values_of_single_keys_do_not_wait_for_ranges() {
        let budget = budget(16 * MIB);
        let ranges = budget.large(6 * MIB, soon()).await.unwrap();
        let first = budget.single(MIB, soon()).await.unwrap();
        let refused = budget.single(MIB, soon()).await.unwrap_err();
        assert_eq!(refused, BudgetError::Busy);
        let late = clock::now() + Duration::from_secs(60);
        let (second, ()) = tokio::join!(budget.single(MIB, late), async { drop(first) });
        // A value that is larger than their share waits with the ranges.
        let large = budget.single(2 * MIB, soon()).await.unwrap_err();
        assert_eq!(large, BudgetError::Busy);
        drop((ranges, second.unwrap()));
        budget.single(2 * MIB, soon()).await.unwrap();
    }

    #[test]
    fn an_encoded_response_counts_once() {
        let budget = budget(16 * MIB);
        let place = Mutex::new(budget.written(MIB / 2, None));
        let message = OfMessage(place);
        assert_eq!(budget.metrics.held.get(), 1 << 20);
        message.encoded();
        assert_eq!(budget.metrics.held.get(), 1 << 19);
        drop(message);
        assert_eq!(budget.metrics.held.get(), 0);
        assert_eq!(budget.writes.free.available_permits(), 2 * MIB / UNIT_BYTES);
    }
}
