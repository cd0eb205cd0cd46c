//! Shrinks a failing run: fewer decisions other than the harmless choice, and the same invariant
//! violated.
//!
//! It first removes whole streams, then the ends of streams, then parts of them, from large to
//! small. Every candidate is a separate run, so the effort is bounded by a number of runs.

use crate::choices::{Record, Stream};
use crate::report::Failure;
use crate::run::{Options, run_with};
use crate::trace::TraceFormat;

/// A smaller run that violates the same invariant.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// Its failure, with record and trace.
    pub failure: Failure,
    /// The number of decisions other than the harmless choice, before and after.
    pub weight: (usize, usize),
    /// The number of runs used.
    pub runs: usize,
}

struct Search<'a> {
    options: Options<'a>,
    invariant: &'static str,
    best: Record,
    runs: usize,
    max_runs: usize,
}

/// Shrinks a seed's failure with at most `max_runs` runs. `None` if the seed doesn't fail.
#[must_use]
pub fn shrink(options: &Options<'_>, max_runs: usize, format: TraceFormat) -> Option<Shrunk> {
    let recording = Options {
        record: true,
        trace: None,
        ..*options
    };
    let failure = run_with(&recording).err()?;
    let before = failure.record.weight();
    let mut search = Search {
        options: recording,
        invariant: failure.invariant,
        best: failure.record,
        runs: 1,
        max_runs,
    };
    search.drop_streams();
    while search.cut_ends() | search.zero_parts() {}
    let last = Options {
        trace: Some(format),
        replay: Some(&search.best),
        ..recording
    };
    let failure = *run_with(&last).err()?;
    Some(Shrunk {
        weight: (before, search.best.weight()),
        runs: search.runs,
        failure,
    })
}

impl Search<'_> {
    /// Whether the candidate violates the same invariant. If so, it becomes the best so far.
    fn try_one(&mut self, candidate: Record) -> bool {
        if self.runs >= self.max_runs || candidate == self.best {
            return false;
        }
        self.runs += 1;
        let options = Options {
            replay: Some(&candidate),
            ..self.options
        };
        match run_with(&options) {
            Err(failure) if failure.invariant == self.invariant => {
                // Use the decisions that were drawn: the run may have ended earlier.
                let smaller = failure.record.weight() < self.best.weight();
                if smaller {
                    self.best = failure.record;
                }
                smaller
            }
            Ok(_) | Err(_) => false,
        }
    }

    fn drop_streams(&mut self) {
        for stream in Stream::ALL {
            let mut candidate = self.best.clone();
            candidate.stream_mut(stream).clear();
            self.try_one(candidate);
        }
    }

    /// Truncates streams by half, a quarter, and so on.
    fn cut_ends(&mut self) -> bool {
        let mut better = false;
        for stream in Stream::ALL {
            let mut part = 2;
            while self.best.stream(stream).len() / part > 0 && self.runs < self.max_runs {
                let mut candidate = self.best.clone();
                let length = candidate.stream(stream).len();
                candidate
                    .stream_mut(stream)
                    .truncate(length - length / part);
                if self.try_one(candidate) {
                    better = true;
                } else {
                    part *= 2;
                }
            }
        }
        better
    }

    /// Zeroes parts of streams, from large to small.
    fn zero_parts(&mut self) -> bool {
        let mut better = false;
        for stream in Stream::ALL {
            let mut size = self.best.stream(stream).len() / 2;
            while size > 0 && self.runs < self.max_runs {
                let mut at = 0;
                while at < self.best.stream(stream).len() && self.runs < self.max_runs {
                    let mut candidate = self.best.clone();
                    let values = candidate.stream_mut(stream);
                    let end = values.len().min(at + size);
                    let part = &mut values[at..end];
                    if part.iter().any(|value| *value != 0) {
                        part.fill(0);
                        better |= self.try_one(candidate);
                    }
                    at = end;
                }
                size /= 2;
            }
        }
        better
    }
}
