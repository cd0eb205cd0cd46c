//! Executes one run: from a seed to a report or a failure.

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

/// Holds, unless a run is asked to violate it.
pub(crate) const CANARY: Invariant = Invariant {
    name: "canary",
    source: "none: it is broken on purpose",
};

/// The options of a run.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// The algorithm of the group.
    pub algorithm: Algorithm,
    /// The flavour.
    pub flavour: Flavour,
    /// The seed of all decisions. The cores' seeds come from it even if decisions are replayed.
    pub seed: u64,
    /// The format of the trace; `None` for no trace.
    pub trace: Option<TraceFormat>,
    /// Violates the invariant `canary` on purpose once this many entries are committed, to test how
    /// failures are handled.
    pub canary: Option<u64>,
    /// Whether to record the decisions.
    pub record: bool,
    /// Decisions to use instead of the seed's.
    pub replay: Option<&'a Record>,
}

impl Options<'_> {
    /// A run without a trace and a record.
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
/// The first invariant that was violated.
pub fn run(algorithm: Algorithm, flavour: Flavour, seed: u64) -> Result<Report, Box<Failure>> {
    run_with(&Options::new(algorithm, flavour, seed))
}

/// Runs one seed with these options.
///
/// # Errors
/// The first invariant that was violated.
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
    /// Whether a run is in progress on this thread. Its panics are violations.
    static RUNNING: Cell<bool> = const { Cell::new(false) };
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Turns a panic of the code under test into a violated assertion.
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
