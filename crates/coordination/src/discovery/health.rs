//! What results in a row say about a check.

use std::time::{Duration, Instant};

/// A check that has not begun to fail again for this time is forgiven one of its flaps.
const FORGIVEN_AFTER: Duration = Duration::from_secs(60);

/// Each flap after the first one doubles what a recovery needs, up to this many times.
const MAX_DOUBLINGS: u32 = 4;

/// Results in a row that change a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Thresholds {
    pub(super) failures: u32,
    pub(super) successes: u32,
}

/// Whether a check passes. A result that differs from the verdict changes it only when enough of
/// its kind came in a row.
#[derive(Debug)]
pub(super) struct Verdict {
    thresholds: Thresholds,
    is_passing: bool,
    /// Results in a row that differ from the verdict.
    contrary: u32,
    /// How often it began to fail, less what is forgiven.
    flaps: u32,
    /// When a flap was counted or forgiven last.
    flapped: Option<Instant>,
}

impl Verdict {
    /// The verdict so far.
    pub(super) fn new(thresholds: Thresholds, is_passing: bool) -> Self {
        Self {
            thresholds,
            is_passing,
            contrary: 0,
            flaps: 0,
            flapped: None,
        }
    }

    pub(super) fn is_passing(&self) -> bool {
        self.is_passing
    }

    /// Notes a result.
    pub(super) fn note(&mut self, has_passed: bool, now: Instant) {
        if has_passed == self.is_passing {
            self.contrary = 0;
            return;
        }
        self.forgive(now);
        self.contrary = self.contrary.saturating_add(1);
        if self.contrary < self.needed() {
            return;
        }
        self.contrary = 0;
        self.is_passing = has_passed;
        if !has_passed {
            self.flaps = (self.flaps + 1).min(MAX_DOUBLINGS + 1);
            self.flapped = Some(now);
        }
    }

    /// Results in a row that change the verdict.
    fn needed(&self) -> u32 {
        match self.is_passing {
            true => self.thresholds.failures,
            false => {
                let doublings = self.flaps.saturating_sub(1);
                self.thresholds.successes.saturating_mul(1 << doublings)
            }
        }
    }

    fn forgive(&mut self, now: Instant) {
        while let Some(flapped) = self.flapped.filter(|_| self.flaps > 0) {
            let forgiven = flapped + FORGIVEN_AFTER;
            if forgiven > now {
                return;
            }
            self.flaps -= 1;
            self.flapped = Some(forgiven);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use synod_runtime::clock;

    const THRESHOLDS: Thresholds = Thresholds {
        failures: 3,
        successes: 2,
    };

    /// Notes results until the verdict changes, and returns how many it took.
    fn until(verdict: &mut Verdict, has_passed: bool, now: Instant) -> u32 {
        assert_ne!(verdict.is_passing(), has_passed);
        for count in 1..1_000 {
            verdict.note(has_passed, now);
            if verdict.is_passing() == has_passed {
                return count;
            }
        }
        panic!("the verdict does not change")
    }

    #[test]
    fn a_verdict_changes_after_enough_results_in_a_row() {
        let now = clock::now();
        let mut verdict = Verdict::new(THRESHOLDS, true);
        for has_passed in [false, false, true, false, false] {
            verdict.note(has_passed, now);
            assert!(verdict.is_passing());
        }
        verdict.note(false, now);
        assert!(!verdict.is_passing());
        for has_passed in [true, false, true] {
            verdict.note(has_passed, now);
            assert!(!verdict.is_passing());
        }
        verdict.note(true, now);
        assert!(verdict.is_passing());
    }

    #[test]
    fn what_flaps_recovers_later_each_time_until_it_was_stable() {
        let now = clock::now();
        let mut verdict = Verdict::new(THRESHOLDS, true);
        let recover = |verdict: &mut Verdict, now| {
            assert_eq!(until(verdict, false, now), THRESHOLDS.failures);
            until(verdict, true, now)
        };
        let needed: Vec<u32> = (0..7).map(|_| recover(&mut verdict, now)).collect();
        assert_eq!(needed, [2, 4, 8, 16, 32, 32, 32]);
        let later = now + 2 * FORGIVEN_AFTER;
        assert_eq!(recover(&mut verdict, later), 16);
        let stable = later + 10 * FORGIVEN_AFTER;
        assert_eq!(recover(&mut verdict, stable), 2);
    }
}
