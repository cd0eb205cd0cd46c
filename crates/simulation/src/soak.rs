//! Runs many seeds on several threads. Each run is single-threaded.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use crate::flavour::Flavour;
use crate::report::{Counts, Failure};
use crate::run::run;
use synod_consensus_core::Algorithm;

/// The options of a soak.
#[derive(Clone, Debug)]
pub struct SoakOptions {
    /// The algorithms, used in turn.
    pub algorithms: Vec<Algorithm>,
    /// The flavours, used in turn.
    pub flavours: Vec<Flavour>,
    /// The first seed; the others follow.
    pub first_seed: u64,
    /// The maximum number of seeds. Each runs with one algorithm and one flavour.
    pub max_runs: u64,
    /// The number of threads.
    pub jobs: usize,
}

/// The result of a soak.
#[derive(Clone, Debug, Default)]
pub struct Soak {
    /// Completed runs.
    pub runs: u64,
    /// The counts of all runs.
    pub counts: Counts,
    /// The simulated time of all runs, in microseconds.
    pub simulated_us: u64,
    /// The first failures, at most one per thread.
    pub failures: Vec<Failure>,
}

/// Runs seeds until all are done, one fails, or `is_over` returns true.
pub fn soak(options: &SoakOptions, is_over: &(dyn Fn() -> bool + Sync)) -> Soak {
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let total = Mutex::new(Soak::default());
    thread::scope(|scope| {
        for _ in 0..options.jobs.max(1) {
            scope.spawn(|| {
                let own = work(options, &next, &stop, is_over);
                if let Ok(mut total) = total.lock() {
                    total.add(own);
                }
            });
        }
    });
    total.into_inner().unwrap_or_default()
}

fn work(
    options: &SoakOptions,
    next: &AtomicU64,
    stop: &AtomicBool,
    is_over: &(dyn Fn() -> bool + Sync),
) -> Soak {
    let mut own = Soak::default();
    while !stop.load(Ordering::Relaxed) && !is_over() {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let Some((algorithm, flavour)) = choose(options, number) else {
            break;
        };
        if number >= options.max_runs {
            break;
        }
        own.runs += 1;
        match run(algorithm, flavour, options.first_seed.wrapping_add(number)) {
            Ok(report) => {
                own.counts.add(&report.counts);
                own.simulated_us += report.simulated_us;
            }
            Err(failure) => {
                stop.store(true, Ordering::Relaxed);
                own.failures.push(*failure);
            }
        }
    }
    own
}

fn choose(options: &SoakOptions, number: u64) -> Option<(Algorithm, Flavour)> {
    let at = |length: usize, number: u64| {
        let length = u64::try_from(length).ok().filter(|length| *length > 0)?;
        usize::try_from(number % length).ok()
    };
    let algorithms = u64::try_from(options.algorithms.len()).ok()?;
    let algorithm = *options
        .algorithms
        .get(at(options.algorithms.len(), number)?)?;
    let rest = number.checked_div(algorithms)?;
    let flavour = *options.flavours.get(at(options.flavours.len(), rest)?)?;
    Some((algorithm, flavour))
}

impl Soak {
    fn add(&mut self, other: Self) {
        self.runs += other.runs;
        self.counts.add(&other.counts);
        self.simulated_us += other.simulated_us;
        self.failures.extend(other.failures);
    }
}
