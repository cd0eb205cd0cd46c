//! Linearizability of a recorded history, key by key, as a register with put, get and CAS.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use porcupine_rs::{CheckResult, Model, Operation, check_operations_timeout};

use crate::{Action, Outcome, Record};

/// One action with its answer, as the model sees it.
#[derive(Clone, Copy, Debug)]
enum Step {
    Write(u64),
    Read(Option<u64>),
    /// A CAS that wrote `new` over `expect`.
    Swapped {
        expect: Option<u64>,
        new: u64,
    },
    /// A CAS that found `seen` instead of `expect`.
    Kept {
        expect: Option<u64>,
        seen: Option<u64>,
    },
}

#[derive(Clone, Debug)]
struct Register;

impl Model for Register {
    type State = Option<u64>;
    type Op = Step;
    type Metadata = ();

    fn init() -> Self::State {
        None
    }

    fn step(state: &Self::State, step: &Step) -> (bool, Self::State) {
        match *step {
            Step::Write(value) => (true, Some(value)),
            Step::Read(seen) => (*state == seen, *state),
            Step::Swapped { expect, new } => (*state == expect, Some(new)),
            Step::Kept { expect, seen } => (*state == seen && seen != expect, *state),
        }
    }
}

/// Checks that the history of every key is linearizable; keys start absent.
///
/// A write of unknown outcome that nobody observed is left out: placed at the end of the order it
/// is always legal. One that was observed has happened before the first observation returned, so
/// it counts as a write that returned then.
///
/// # Errors
/// Names the keys that aren't linearizable and writes their histories below `evidence`; also when
/// the search didn't end `within` the time for one key.
pub fn check_linearizable(records: &[Record], within: Duration, evidence: &Path) -> Result<usize> {
    let mut by_key: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
    for record in records {
        by_key.entry(&record.key).or_default().push(record);
    }
    let mut checked = 0;
    let mut wrong = Vec::new();
    for (key, records) in by_key {
        let history = operations(&records);
        checked += history.len();
        match check_operations_timeout(&history, within) {
            CheckResult::Ok => {}
            CheckResult::Illegal => {
                let file = evidence.join(format!("{}.history", key.replace('/', "_")));
                let lines: Vec<String> =
                    records.iter().map(|record| format!("{record:?}")).collect();
                std::fs::write(&file, lines.join("\n"))?;
                wrong.push(format!(
                    "{key} is not linearizable (its history: {})",
                    file.display()
                ));
            }
            CheckResult::Unknown => {
                wrong.push(format!(
                    "{key}: no verdict on {} steps in {within:?}",
                    history.len()
                ));
            }
        }
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("; "));
    }
    Ok(checked)
}

fn operations(records: &[&Record]) -> Vec<Operation<Register>> {
    let first_seen = first_observations(records);
    let certain: BTreeSet<u64> = records
        .iter()
        .filter(|record| record.done().is_some())
        .filter_map(|record| record.action.written())
        .collect();
    records
        .iter()
        .filter_map(|record| {
            let (step, returned_ns) = match record.outcome {
                Outcome::Refused => return None,
                Outcome::Unknown => {
                    let value = record
                        .action
                        .written()
                        .filter(|value| !certain.contains(value))?;
                    let seen_ns = *first_seen.get(&value)?;
                    (happened(record.action)?, seen_ns)
                }
                Outcome::Done(observed) => {
                    let seen = observed.read.map(|(value, _)| value);
                    let step = match record.action {
                        Action::Get => Step::Read(seen),
                        Action::Cas { expect, .. } if !observed.wrote => {
                            Step::Kept { expect, seen }
                        }
                        Action::Put(_) | Action::Cas { .. } => happened(record.action)?,
                    };
                    (step, record.returned_ns)
                }
            };
            Some(Operation {
                client_id: Some(record.client),
                call_time: record.called_ns,
                return_time: returned_ns,
                op: step,
                metadata: None,
            })
        })
        .collect()
}

fn happened(action: Action) -> Option<Step> {
    match action {
        Action::Put(value) => Some(Step::Write(value)),
        Action::Cas { expect, new } => Some(Step::Swapped { expect, new }),
        Action::Get => None,
    }
}

/// For every value: when the first answer that proves its existence had returned.
fn first_observations(records: &[&Record]) -> HashMap<u64, i64> {
    let mut first: HashMap<u64, i64> = HashMap::new();
    for record in records {
        let Some(observed) = record.done() else {
            continue;
        };
        let read = observed.read.map(|(value, _)| value);
        let replaced = match record.action {
            Action::Cas { expect, .. } if observed.wrote => expect,
            Action::Put(_) | Action::Get | Action::Cas { .. } => None,
        };
        for value in read.into_iter().chain(replaced) {
            let seen = first.entry(value).or_insert(i64::MAX);
            *seen = record.returned_ns.min(*seen);
        }
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Observed;

    const SOON: Duration = Duration::from_secs(10);

    fn record(client: u32, time: (i64, i64), action: Action, outcome: Outcome) -> Record {
        let (called_ns, returned_ns) = time;
        Record {
            client,
            key: "k".to_owned(),
            action,
            called_ns,
            returned_ns,
            outcome,
        }
    }

    fn wrote(revision: i64) -> Outcome {
        Outcome::Done(Observed {
            wrote: true,
            read: None,
            revision,
        })
    }

    fn saw(read: Option<(u64, i64)>) -> Outcome {
        Outcome::Done(Observed {
            wrote: false,
            read,
            revision: 9,
        })
    }

    fn verdict(records: &[Record]) -> bool {
        let folder = tempfile::tempdir().unwrap();
        check_linearizable(records, SOON, folder.path()).is_ok()
    }

    #[test]
    fn a_stale_read_is_found() {
        let history = |seen| {
            [
                record(1, (0, 10), Action::Put(1), wrote(2)),
                record(1, (20, 30), Action::Put(2), wrote(3)),
                record(2, (40, 50), Action::Get, saw(Some(seen))),
            ]
        };
        assert!(verdict(&history((2, 3))));
        assert!(!verdict(&history((1, 2))));
    }

    #[test]
    fn an_unknown_write_may_happen_late_but_not_twice() {
        let late = [
            record(1, (0, 10), Action::Put(1), Outcome::Unknown),
            record(2, (20, 30), Action::Put(2), wrote(2)),
            record(2, (40, 50), Action::Get, saw(Some((2, 2)))),
            record(2, (60, 70), Action::Get, saw(Some((1, 3)))),
        ];
        assert!(verdict(&late));
        let again = [
            record(2, (80, 90), Action::Put(3), wrote(4)),
            record(2, (100, 110), Action::Get, saw(Some((1, 5)))),
        ];
        assert!(!verdict(&[&late[..], &again[..]].concat()));
    }

    #[test]
    fn two_swaps_from_one_value_are_found() {
        let swap = |new| Action::Cas {
            expect: Some(1),
            new,
        };
        let history = [
            record(1, (0, 10), Action::Put(1), wrote(2)),
            record(1, (20, 60), swap(2), wrote(3)),
            record(2, (20, 60), swap(3), wrote(4)),
        ];
        assert!(!verdict(&history));
        assert!(verdict(&history[..2]));
    }
}
