//! The time of the log: what batches are stamped with.
//!
//! It follows the wall clock of the sequencer's pod, but not in jumps: TTLs are measured by it. A
//! clock that is far ahead would end all nodes with a TTL at once, and time, which never goes back,
//! would stand still afterwards. So the log's time passes nearly as fast as the monotonic clock,
//! and approaches the wall clock meanwhile.

/// What the clocks of the sequencer's pod show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The wall clock, in milliseconds since 1970. It may jump.
    pub wall_ms: i64,
    /// A clock that never goes back and is never set, in milliseconds since some moment of this
    /// process.
    pub monotonic_ms: u64,
}

/// The log's time gains or loses at most one millisecond in so many, to meet the wall clock.
const MAX_SLEW: i64 = 8;

/// How long the slew is measured from the same moment. Within a few milliseconds it would be
/// rounded to nothing.
const ANCHOR_MS: i64 = 1_000;

/// The log's time at a sequencer.
#[derive(Debug)]
pub(super) struct LogTime {
    /// The time of the last batch.
    last_ms: i64,
    /// `None` before the first batch of a sequencer that doesn't know how old the last batch is.
    anchor: Option<Anchor>,
}

/// A moment at which the log's time is known.
#[derive(Clone, Copy, Debug)]
struct Anchor {
    time_ms: i64,
    monotonic_ms: u64,
}

impl Anchor {
    fn elapsed_ms(self, now: Now) -> i64 {
        let elapsed_ms = now.monotonic_ms.saturating_sub(self.monotonic_ms);
        i64::try_from(elapsed_ms).unwrap_or(i64::MAX)
    }
}

impl LogTime {
    /// Goes on after a batch of this time that was applied at `applied_ms` of the monotonic clock.
    pub(super) fn new(last_ms: i64, applied_ms: Option<u64>) -> Self {
        let anchor = applied_ms.map(|monotonic_ms| Anchor {
            time_ms: last_ms,
            monotonic_ms,
        });
        Self { last_ms, anchor }
    }

    /// The time now.
    pub(super) fn at(&self, now: Now) -> i64 {
        let time_ms = match self.anchor {
            None => now.wall_ms,
            Some(anchor) => {
                let elapsed_ms = anchor.elapsed_ms(now);
                let slew_ms = elapsed_ms / MAX_SLEW;
                let expected_ms = anchor.time_ms.saturating_add(elapsed_ms);
                let earliest_ms = expected_ms.saturating_sub(slew_ms);
                let latest_ms = expected_ms.saturating_add(slew_ms);
                now.wall_ms.clamp(earliest_ms, latest_ms)
            }
        };
        time_ms.max(self.last_ms)
    }

    /// The time of a batch.
    pub(super) fn stamp(&mut self, now: Now) -> i64 {
        self.last_ms = self.at(now);
        let is_old = |anchor: Anchor| anchor.elapsed_ms(now) >= ANCHOR_MS;
        if self.anchor.is_none_or(is_old) {
            self.anchor = Some(Anchor {
                time_ms: self.last_ms,
                monotonic_ms: now.monotonic_ms,
            });
        }
        self.last_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: i64 = 3_600_000;

    fn now(wall_ms: i64, monotonic_ms: u64) -> Now {
        Now {
            wall_ms,
            monotonic_ms,
        }
    }

    #[test]
    fn it_is_the_wall_clocks_while_that_is_steady() {
        let mut time = LogTime::new(5_000, None);
        assert_eq!(time.stamp(now(HOUR_MS, 70)), HOUR_MS, "nobody knows better");
        for passed in [1, 2, 900, 1_000, 1_001, 50_000, HOUR_MS] {
            let now = now(HOUR_MS + passed, 70 + passed.unsigned_abs());
            assert_eq!(time.at(now), HOUR_MS + passed);
            assert_eq!(time.stamp(now), HOUR_MS + passed);
        }
    }

    #[test]
    fn a_clock_that_is_ahead_gains_an_eighth() {
        let mut time = LogTime::new(1_000, Some(50));
        assert_eq!(time.stamp(now(i64::MAX, 50)), 1_000);
        assert_eq!(time.stamp(now(i64::MAX, 50 + 800)), 1_900);
        assert_eq!(time.stamp(now(i64::MAX, 50 + 1_600)), 2_800);
    }

    #[test]
    fn a_clock_that_is_behind_does_not_stop_it() {
        let mut time = LogTime::new(HOUR_MS, Some(50));
        assert_eq!(time.stamp(now(0, 50 + 800)), HOUR_MS + 700);
        assert_eq!(time.stamp(now(0, 50 + 1_600)), HOUR_MS + 1_400);
    }

    #[test]
    fn many_batches_within_a_millisecond_gain_no_more_than_one() {
        let mut often = LogTime::new(0, Some(0));
        let mut once = LogTime::new(0, Some(0));
        for monotonic_ms in 0..=10_000 {
            for _ in 0..3 {
                often.stamp(now(HOUR_MS, monotonic_ms));
            }
        }
        let (often, once) = (often.last_ms, once.stamp(now(HOUR_MS, 10_000)));
        assert_eq!((often, once), (11_250, 11_250));
    }

    #[test]
    fn it_meets_the_wall_clock_and_never_goes_back() {
        let mut time = LogTime::new(60_000, Some(0));
        let mut last_ms = 0;
        for monotonic_ms in (0..600_000).step_by(7) {
            let wall_ms = i64::try_from(monotonic_ms).unwrap();
            let time_ms = time.stamp(now(wall_ms, monotonic_ms));
            assert!(time_ms >= last_ms);
            last_ms = time_ms;
        }
        assert_eq!(last_ms, 599_998, "the wall clock's");
        assert_eq!(time.stamp(now(0, 599_998)), last_ms);
    }
}
