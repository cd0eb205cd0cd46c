//! The register model, and the selection of operations that the search has to order.

use std::collections::BTreeMap;
use std::time::Duration;

use porcupine_rs::{CheckResult, Model, Operation, check_operations, check_operations_timeout};

/// A register's value; `None` if it is empty.
type Value = Option<u64>;

/// One operation as seen by its client.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// The client. It waits for one answer before its next call.
    pub client: u32,
    /// The time of the call, in any unit.
    pub called: i64,
    /// The time of the answer. `None`: the outcome is unknown.
    pub returned: Option<i64>,
    /// The operation and its result.
    pub seen: Seen,
}

/// What an operation did or, if it has no answer, would have done.
#[derive(Clone, Copy, Debug)]
pub enum Seen {
    /// A put, or a deletion if there is no value.
    Wrote(Option<u64>),
    /// A get, with the value that it returned.
    Read(Option<u64>),
    /// A compare-and-swap that wrote `new` over `expect`.
    Swapped {
        /// The value that was replaced.
        expect: Option<u64>,
        /// The value after the swap.
        new: u64,
    },
    /// A compare-and-swap that found a value other than `expect`.
    Kept {
        /// The expected value.
        expect: Option<u64>,
        /// The value found.
        found: Option<u64>,
    },
}

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// An order explains every answer; it has this many operations.
    Linearizable(usize),
    /// No order explains every answer.
    Violated,
    /// The search exceeded its time limit.
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

/// Checks the history of one key without a time limit.
#[must_use]
pub fn check(records: &[Record]) -> Verdict {
    let operations = operations(records);
    if check_operations(&operations) {
        Verdict::Linearizable(operations.len())
    } else {
        Verdict::Violated
    }
}

/// Checks the history of one key, for at most `within`.
#[must_use]
pub fn check_within(records: &[Record], within: Duration) -> Verdict {
    let operations = operations(records);
    match check_operations_timeout(&operations, within) {
        CheckResult::Ok => Verdict::Linearizable(operations.len()),
        CheckResult::Illegal => Verdict::Violated,
        CheckResult::Unknown => Verdict::Undecided,
    }
}

/// The operations to order. A write of unknown outcome that no client observed is omitted: it is
/// always legal at the end of the order. One that was observed happened before the first
/// observation returned. A deletion can't be recognised in other operations' results, so it stays,
/// with an end after all others.
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
                // Never before the call; otherwise a value observed before its write would be
                // legal.
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

/// The values that certainly existed, because a client read them or swapped them, with the time of
/// the first answer that proves it.
fn observed(records: &[Record]) -> BTreeMap<u64, i64> {
    let mut observed: BTreeMap<u64, i64> = BTreeMap::new();
    loop {
        let mut is_news = false;
        for record in records {
            let (value, proven) = match record.seen {
                Seen::Read(value) | Seen::Kept { found: value, .. } => (value, record.returned),
                // A swap without an answer happened if its new value was observed.
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
    fn a_stale_read_is_detected() {
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
    fn a_write_is_not_observed_before_its_call() {
        let history = |called| [done(2, 0, read(1)), unknown(1, called, wrote(1))];
        assert!(is_linearizable(&history(5)));
        assert!(!is_linearizable(&history(20)));
    }

    #[test]
    fn the_value_replaced_by_an_observed_swap_was_written() {
        let history = [
            unknown(1, 0, wrote(1)),
            unknown(2, 0, swapped(1, 2)),
            done(3, 20, read(2)),
        ];
        assert!(is_linearizable(&history));
        assert!(!is_linearizable(&history[1..]));
    }

    #[test]
    fn two_swaps_from_one_value_are_detected() {
        let history = [
            done(1, 0, wrote(1)),
            done(1, 20, swapped(1, 2)),
            done(2, 20, swapped(1, 3)),
        ];
        assert!(!is_linearizable(&history));
        assert!(is_linearizable(&history[..2]));
    }

    #[test]
    fn a_swap_fails_only_if_the_value_differs() {
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
