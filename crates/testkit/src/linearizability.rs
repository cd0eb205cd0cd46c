//! Checks whether a recorded history is linearizable, key by key.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use synod_history::{Record as Call, Seen, Verdict, check_within};

use crate::{Action, Outcome, Record};

/// Checks that the history of every key is linearizable. Keys initially don't exist.
///
/// # Errors
/// Names the keys that aren't linearizable, and writes their histories below `evidence`. Also if
/// the search of a key takes longer than `within`.
pub fn check_linearizable(records: &[Record], within: Duration, evidence: &Path) -> Result<usize> {
    let mut by_key: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
    for record in records {
        by_key.entry(&record.key).or_default().push(record);
    }
    let mut checked = 0;
    let mut wrong = Vec::new();
    for (key, records) in by_key {
        let history = calls(&records);
        match check_within(&history, within) {
            Verdict::Linearizable(operations) => checked += operations,
            Verdict::Violated => {
                let file = evidence.join(format!("{}.history", key.replace('/', "_")));
                let lines: Vec<String> =
                    records.iter().map(|record| format!("{record:?}")).collect();
                std::fs::write(&file, lines.join("\n"))?;
                wrong.push(format!(
                    "{key} is not linearizable (its history: {})",
                    file.display()
                ));
            }
            Verdict::Undecided => {
                let steps = history.len();
                wrong.push(format!("{key}: no verdict on {steps} steps in {within:?}"));
            }
        }
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("; "));
    }
    Ok(checked)
}

/// The records that carry information. Omitted are refused operations, reads without an answer, and
/// writes without an answer whose value another attempt wrote successfully.
fn calls(records: &[&Record]) -> Vec<Call> {
    let certain: BTreeSet<u64> = records
        .iter()
        .filter(|record| record.done().is_some())
        .filter_map(|record| record.action.written())
        .collect();
    let call = |record: &&Record| {
        let (seen, returned) = match record.outcome {
            Outcome::Refused => return None,
            Outcome::Unknown => {
                record
                    .action
                    .written()
                    .filter(|value| !certain.contains(value))?;
                (happened(record.action, None), None)
            }
            Outcome::Done(observed) => {
                let found = observed.read.map(|(value, _)| value);
                let seen = match record.action {
                    Action::Cas { expect, .. } if !observed.wrote => Seen::Kept { expect, found },
                    Action::Get | Action::Put(_) | Action::Cas { .. } => {
                        happened(record.action, found)
                    }
                };
                (seen, Some(record.returned_ns))
            }
        };
        Some(Call {
            client: record.client,
            called: record.called_ns,
            returned,
            seen,
        })
    };
    records.iter().filter_map(call).collect()
}

/// The effect of an operation. A get returns `found`.
fn happened(action: Action, found: Option<u64>) -> Seen {
    match action {
        Action::Put(value) => Seen::Wrote(Some(value)),
        Action::Cas { expect, new } => Seen::Swapped { expect, new },
        Action::Get => Seen::Read(found),
    }
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
    fn a_stale_read_is_detected() {
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
}
