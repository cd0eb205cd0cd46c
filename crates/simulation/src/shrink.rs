//! Making a failing run smaller: fewer decisions that are not the harmless one, and the same rule
//! broken.
//!
//! First whole streams are taken away, then the ends of streams, then parts of them, from large to
//! small. Every candidate is a run of its own, so the effort is bounded by a number of runs.

use crate::choices::{Record, Stream};
use crate::report::Failure;
use crate::run::{Options, run_with};
use crate::trace::TraceFormat;

/// A smaller run that breaks the same rule.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// Its failure, with record and trace.
    pub failure: Failure,
    /// Decisions other than the harmless one, before and after.
    pub weight: (usize, usize),
    /// Runs that it took.
    pub runs: usize,
}

struct Search<'a> {
    options: Options<'a>,
    invariant: &'static str,
    best: Record,
    runs: usize,
    max_runs: usize,
}

/// Shrinks the failure of a seed with at most `max_runs` runs. None where the seed doesn't fail.
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
    /// Whether the candidate breaks the same rule; then it is the best so far.
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
                // What was really drawn: the run may have ended earlier.
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

    /// Takes the ends of streams away, half, a quarter, ... of them.
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

    /// Makes parts of streams harmless, from large to small.
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
