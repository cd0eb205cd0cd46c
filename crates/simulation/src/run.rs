//! One run: a seed in, a report or a failure out.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use crate::Algorithm;
use crate::choices::Record;
use crate::flavour::Flavour;
use crate::invariants::{CORE_ASSERTION, Check, Invariant};
use crate::report::{Failure, Report};
use crate::trace::TraceFormat;
use crate::world::World;

/// Holds, unless a run is asked to break it.
pub(crate) const CANARY: Invariant = Invariant {
    name: "canary",
    source: "none: it is broken on purpose",
};

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// The algorithm of the group.
    pub algorithm: Algorithm,
    /// The kind of run.
    pub flavour: Flavour,
    /// Where all decisions come from. The cores' own seeds come from here even when decisions are
    /// replayed.
    pub seed: u64,
    /// Whether to keep a trace.
    pub trace: Option<TraceFormat>,
    /// Breaks the rule `canary` on purpose once so many entries are committed: to try out what
    /// becomes of a failure.
    pub canary: Option<u64>,
    /// Whether to keep the decisions.
    pub record: bool,
    /// Decisions to use in place of the seed's.
    pub replay: Option<&'a Record>,
}

impl Options<'_> {
    /// A run without trace and record.
    #[must_use]
    pub const fn new(algorithm: Algorithm, flavour: Flavour, seed: u64) -> Self {
        Self {
            algorithm,
            flavour,
            seed,
            trace: None,
            canary: None,
            record: false,
            replay: None,
        }
    }
}

/// Runs one seed.
///
/// # Errors
/// The first rule that was broken.
pub fn run(algorithm: Algorithm, flavour: Flavour, seed: u64) -> Result<Report, Box<Failure>> {
    run_with(&Options::new(algorithm, flavour, seed))
}

/// Runs one seed, with a trace or a record.
///
/// # Errors
/// The first rule that was broken.
pub fn run_with(options: &Options<'_>) -> Result<Report, Box<Failure>> {
    let mut world = match guarded(|| World::new(options)) {
        Ok(world) => world,
        Err(violation) => return Err(Box::new(Failure::new(options, violation))),
    };
    let result = guarded(AssertUnwindSafe(|| world.run()));
    finish(options, world, result)
}

pub(crate) fn finish(
    options: &Options<'_>,
    world: World,
    result: Check,
) -> Result<Report, Box<Failure>> {
    let env = world.env;
    match result {
        Ok(()) => Ok(Report {
            counts: env.counts,
            simulated_us: env.now,
            trace: env.trace.into_lines(),
        }),
        Err(violation) => Err(Box::new(Failure {
            at_us: env.now,
            counts: env.counts,
            record: env.choices.into_record(),
            trace: env.trace.into_lines(),
            ..Failure::new(options, violation)
        })),
    }
}

thread_local! {
    /// Whether a run is under way here, whose panics are findings.
    static RUNNING: Cell<bool> = const { Cell::new(false) };
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Takes a panic of the code under test for what it is: a broken assertion.
pub(crate) fn guarded<T>(run: impl FnOnce() -> Check<T>) -> Check<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if RUNNING.get() {
                PANIC.set(info.to_string());
            } else {
                usual(info);
            }
        }));
    });
    RUNNING.set(true);
    let result = catch_unwind(AssertUnwindSafe(run));
    RUNNING.set(false);
    result.unwrap_or_else(|_| Err(CORE_ASSERTION.broken(PANIC.take())))
}
