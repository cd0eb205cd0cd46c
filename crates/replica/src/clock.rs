//! Maps the core's ticks to this process's monotonic clock.

use std::time::{Duration, Instant};

use synod_runtime::clock;
use synod_types::Tick;

/// One tick of the core.
pub const TICK: Duration = Duration::from_millis(10);

/// Tick zero is when the replica started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TickClock {
    base: Instant,
}

impl TickClock {
    pub(crate) fn start() -> Self {
        Self { base: clock::now() }
    }

    /// The tick that contains `instant`. Rounded down, so that a lease counted from it ends early,
    /// never late.
    pub(crate) fn tick_at(&self, instant: Instant) -> Tick {
        let ticks = instant.saturating_duration_since(self.base).as_micros() / TICK.as_micros();
        Tick::new(u64::try_from(ticks).unwrap_or(u64::MAX))
    }

    /// When `tick` begins. A far tick is limited to a day after the start: an early wake-up does no
    /// harm.
    pub(crate) fn instant_of(&self, tick: Tick) -> Instant {
        const DAY_TICKS: u64 = 24 * 3600 * 100;
        let ticks = u32::try_from(tick.get().min(DAY_TICKS)).unwrap_or(u32::MAX);
        self.base + TICK * ticks
    }

    /// Nanoseconds since the start, which fit into an atomic.
    pub(crate) fn nanos_at(&self, instant: Instant) -> u64 {
        let nanos = instant.saturating_duration_since(self.base).as_nanos();
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }

    /// The start of `tick`, in nanoseconds since the start.
    pub(crate) fn nanos_of(tick: Tick) -> u64 {
        const TICK_NANOS: u64 = 10_000_000;
        tick.get().saturating_mul(TICK_NANOS)
    }
}
