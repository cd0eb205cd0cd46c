//! The register, and which operations of a history the search has to put in order.

use std::collections::BTreeMap;
use std::time::Duration;

use porcupine_rs::{CheckResult, Model, Operation, check_operations, check_operations_timeout};

/// A value, or none.
type Value = Option<u64>;

/// One operation as its client saw it.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// Who called: a client waits for one answer before the next call.
    pub client: u32,
    /// When, in any unit.
    pub called: i64,
    /// When the answer came; `None`: nobody knows whether it happened.
    pub returned: Option<i64>,
    /// What it did.
    pub seen: Seen,
}

/// What an operation did or, if it has no answer, would have done.
#[derive(Clone, Copy, Debug)]
pub enum Seen {
    /// A put, or without a value a deletion.
    Wrote(Option<u64>),
    /// A get, and what it found.
    Read(Option<u64>),
    /// A compare-and-swap that wrote `new` over `expect`.
    Swapped {
        /// What was there.
        expect: Option<u64>,
        /// What is there now.
        new: u64,
    },
    /// A compare-and-swap that found something else than `expect`.
    Kept {
        /// What it looked for.
        expect: Option<u64>,
        /// What was there.
        found: Option<u64>,
    },
}

/// The answer to the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order that explains every answer; it has so many operations.
    Linearizable(usize),
    /// There is none.
    Violated,
    /// The search took too long.
    Undecided,
}

#[derive(Clone, Debug)]
struct Register;

impl Model for Register {
    type State = Value;
    type Op = Seen;
    type Metadata = ();

    fn init() -> Value {
        None
    }

    fn step(state: &Value, op: &Seen) -> (bool, Value) {
        match *op {
            Seen::Wrote(value) => (true, value),
            Seen::Read(value) => (*state == value, *state),
            Seen::Swapped { expect, new } => (*state == expect, Some(new)),
            Seen::Kept { expect, found } => (*state == found && found != expect, *state),
        }
    }
}

/// Judges the history of one key, however long it takes.
#[must_use]
pub fn check(records: &[Record]) -> Verdict {
    let operations = operations(records);
    if check_operations(&operations) {
        Verdict::Linearizable(operations.len())
    } else {
        Verdict::Violated
    }
}

/// Judges the history of one key, or gives up after `within`.
#[must_use]
pub fn check_within(records: &[Record], within: Duration) -> Verdict {
    let operations = operations(records);
    match check_operations_timeout(&operations, within) {
        CheckResult::Ok => Verdict::Linearizable(operations.len()),
        CheckResult::Illegal => Verdict::Violated,
        CheckResult::Unknown => Verdict::Undecided,
    }
}

/// A write of unknown outcome that nobody observed is left out: at the end of the order it is
/// always legal. One that was observed has happened before the first observation returned. A
/// deletion can't be recognised in what others see: it stays, with an end after all others.
fn operations(records: &[Record]) -> Vec<Operation<Register>> {
    let observed = observed(records);
    let times = records
        .iter()
        .map(|record| record.returned.unwrap_or(record.called));
    let end = times.max().unwrap_or(0).saturating_add(1);
    let operation = |record: &Record| {
        let returned = match (record.returned, record.seen) {
            (Some(returned), _) => returned,
            (None, Seen::Wrote(Some(value)) | Seen::Swapped { new: value, .. }) => {
                // Never before the call, or what was observed too early would be legal.
                (*observed.get(&value)?).max(record.called)
            }
            (None, Seen::Wrote(None)) => end,
            (None, Seen::Read(_) | Seen::Kept { .. }) => return None,
        };
        Some(Operation {
            client_id: Some(record.client),
            call_time: record.called,
            return_time: returned,
            op: record.seen,
            metadata: None,
        })
    };
    records.iter().filter_map(operation).collect()
}

/// The values that certainly were there, since somebody saw them or a swap from them happened, and
/// when the first answer that proves it had come.
fn observed(records: &[Record]) -> BTreeMap<u64, i64> {
    let mut observed: BTreeMap<u64, i64> = BTreeMap::new();
    loop {
        let mut is_news = false;
        for record in records {
            let (value, proven) = match record.seen {
                Seen::Read(value) | Seen::Kept { found: value, .. } => (value, record.returned),
                // A swap without an answer happened if what it wrote was there.
                Seen::Swapped { expect, new } => {
                    (expect, record.returned.or(observed.get(&new).copied()))
                }
                Seen::Wrote(_) => (None, None),
            };
            let (Some(value), Some(proven)) = (value, proven) else {
                continue;
            };
            let known = observed.entry(value).or_insert(i64::MAX);
            is_news |= proven < *known;
            *known = proven.min(*known);
        }
        if !is_news {
            return observed;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(client: u32, called: i64, seen: Seen) -> Record {
        Record {
            client,
            called,
            returned: Some(called + 10),
            seen,
        }
    }

    fn unknown(client: u32, called: i64, seen: Seen) -> Record {
        Record {
            returned: None,
            ..done(client, called, seen)
        }
    }

    fn wrote(value: u64) -> Seen {
        Seen::Wrote(Some(value))
    }

    fn read(value: u64) -> Seen {
        Seen::Read(Some(value))
    }

    fn swapped(expect: u64, new: u64) -> Seen {
        let expect = Some(expect);
        Seen::Swapped { expect, new }
    }

    fn is_linearizable(records: &[Record]) -> bool {
        let verdict = check(records);
        assert_eq!(verdict, check_within(records, Duration::from_secs(10)));
        matches!(verdict, Verdict::Linearizable(_))
    }

    #[test]
    fn a_stale_read_is_found() {
        let history = |seen| {
            [
                done(1, 0, wrote(1)),
                done(1, 20, wrote(2)),
                done(2, 40, seen),
            ]
        };
        assert!(is_linearizable(&history(read(2))));
        assert!(!is_linearizable(&history(read(1))));
        assert!(!is_linearizable(&history(Seen::Read(None))));
    }

    #[test]
    fn a_write_of_unknown_outcome_may_happen_late_but_not_twice() {
        let late = [
            unknown(1, 0, wrote(1)),
            done(2, 20, wrote(2)),
            done(2, 40, read(2)),
            done(2, 60, read(1)),
        ];
        assert!(is_linearizable(&late));
        let again = [done(2, 80, wrote(3)), done(2, 100, read(1))];
        assert!(!is_linearizable(&[&late[..], &again[..]].concat()));
    }

    #[test]
    fn a_write_is_not_seen_before_it_is_called() {
        let history = |called| [done(2, 0, read(1)), unknown(1, called, wrote(1))];
        assert!(is_linearizable(&history(5)));
        assert!(!is_linearizable(&history(20)));
    }

    #[test]
    fn what_an_unknown_swap_replaced_has_happened_too() {
        let history = [
            unknown(1, 0, wrote(1)),
            unknown(2, 0, swapped(1, 2)),
            done(3, 20, read(2)),
        ];
        assert!(is_linearizable(&history));
        assert!(!is_linearizable(&history[1..]));
    }

    #[test]
    fn two_swaps_from_one_value_are_found() {
        let history = [
            done(1, 0, wrote(1)),
            done(1, 20, swapped(1, 2)),
            done(2, 20, swapped(1, 3)),
        ];
        assert!(!is_linearizable(&history));
        assert!(is_linearizable(&history[..2]));
    }

    #[test]
    fn a_swap_is_refused_only_by_another_value() {
        let kept = |found| {
            let expect = Some(2);
            [
                done(1, 0, wrote(1)),
                done(2, 20, Seen::Kept { expect, found }),
            ]
        };
        assert!(is_linearizable(&kept(Some(1))));
        assert!(!is_linearizable(&kept(None)));
        assert!(!is_linearizable(&[done(1, 0, wrote(2)), kept(Some(2))[1]]));
    }

    #[test]
    fn a_deletion_of_unknown_outcome_may_happen_or_not() {
        let history = |seen| {
            [
                done(1, 0, wrote(1)),
                unknown(2, 5, Seen::Wrote(None)),
                done(3, 20, seen),
            ]
        };
        assert!(is_linearizable(&history(read(1))));
        assert!(is_linearizable(&history(Seen::Read(None))));
    }
}
