//! How much of its history a service keeps.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The most samples of (time, position) that are kept.
const MAX_SAMPLES: u32 = 10;
/// The pause between two samples if a number of positions is kept.
const LAST_PAUSE: Duration = Duration::from_secs(300);
/// The shortest pause between two samples.
const MIN_PAUSE: Duration = Duration::from_millis(10);

/// Which positions (such as revisions) of a history are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// All.
    Everything,
    /// Those younger than this.
    Period(Duration),
    /// The last so many.
    Last(u64),
}

/// Decides up to which position a history can be removed.
#[derive(Debug)]
pub struct RetentionPlan {
    retention: Retention,
    samples: VecDeque<(Instant, i64)>,
}

impl RetentionPlan {
    /// A plan without samples.
    #[must_use]
    pub fn new(retention: Retention) -> Self {
        Self {
            retention,
            samples: VecDeque::new(),
        }
    }

    /// The pause between two samples; `None`: take none.
    #[must_use]
    pub fn pause(&self) -> Option<Duration> {
        match self.retention {
            Retention::Everything => None,
            Retention::Period(period) => Some((period / MAX_SAMPLES).max(MIN_PAUSE)),
            Retention::Last(_) => Some(LAST_PAUSE),
        }
    }

    /// Records the current position; to be called after each pause. Returns the newest position
    /// that can be removed, together with all before it.
    pub fn sample(&mut self, now: Instant, position: i64) -> Option<i64> {
        match self.retention {
            Retention::Everything => None,
            Retention::Last(keep) => {
                let keep = i64::try_from(keep).ok()?;
                Some(position.checked_sub(keep)?).filter(|position| *position > 0)
            }
            Retention::Period(period) => {
                self.samples.push_back((now, position));
                let mut target = None;
                while let Some((taken, sampled)) = self.samples.front().copied() {
                    if now.saturating_duration_since(taken) < period {
                        break;
                    }
                    target = Some(sampled);
                    self.samples.pop_front();
                }
                target
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use synod_runtime::clock;

    use super::*;

    #[test]
    fn a_period_keeps_what_is_younger() {
        let period = Duration::from_secs(100);
        let mut plan = RetentionPlan::new(Retention::Period(period));
        assert_eq!(plan.pause(), Some(Duration::from_secs(10)));
        let start = clock::now();
        let mut last = None;
        for step in 0..30_u32 {
            let now = start + Duration::from_secs(10) * step;
            let target = plan.sample(now, i64::from(step) + 1);
            // The sample of ten steps ago is exactly one period old.
            let expected = step.checked_sub(10).map(|old| i64::from(old) + 1);
            assert_eq!(target, expected, "step {step}");
            last = target;
        }
        assert_eq!(last, Some(20));
        assert!(plan.samples.len() <= MAX_SAMPLES as usize);
    }

    #[test]
    fn a_number_keeps_the_last_ones() {
        let mut plan = RetentionPlan::new(Retention::Last(100));
        let now = clock::now();
        assert_eq!(plan.sample(now, 50), None);
        assert_eq!(plan.sample(now, 100), None);
        assert_eq!(plan.sample(now, 350), Some(250));
        assert_eq!(RetentionPlan::new(Retention::Everything).pause(), None);
    }
}
