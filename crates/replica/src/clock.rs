//! The core's ticks on this process's monotonic clock.

use std::time::{Duration, Instant};

use synod_runtime::clock;
use synod_types::Tick;

/// One tick of the core.
pub const TICK: Duration = Duration::from_millis(10);

/// Tick zero is where the replica started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TickClock {
    base: Instant,
}

impl TickClock {
    pub(crate) fn start() -> Self {
        Self { base: clock::now() }
    }

    /// The tick that contains `instant`. Rounded down: a lease counted from it ends early, never
    /// late.
    pub(crate) fn tick_at(&self, instant: Instant) -> Tick {
        let ticks = instant.saturating_duration_since(self.base).as_micros() / TICK.as_micros();
        Tick::new(u64::try_from(ticks).unwrap_or(u64::MAX))
    }

    /// When `tick` begins. A far tick is cut to a day from the start: an early wake-up does no
    /// harm.
    pub(crate) fn instant_of(&self, tick: Tick) -> Instant {
        const DAY_TICKS: u64 = 24 * 3600 * 100;
        let ticks = u32::try_from(tick.get().min(DAY_TICKS)).unwrap_or(u32::MAX);
        self.base + TICK * ticks
    }

    /// Nanoseconds from the start: a point in time that fits an atomic.
    pub(crate) fn nanos_at(&self, instant: Instant) -> u64 {
        let nanos = instant.saturating_duration_since(self.base).as_nanos();
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }

    /// The beginning of `tick` in nanoseconds from the start.
    pub(crate) fn nanos_of(tick: Tick) -> u64 {
        const TICK_NANOS: u64 = 10_000_000;
        tick.get().saturating_mul(TICK_NANOS)
    }
}
