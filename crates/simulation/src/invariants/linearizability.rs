//! Each key's history, as observed by clients, is linearizable.

use std::collections::BTreeMap;

use synod_history::{Record, Seen, Verdict};

use super::{Check, Invariant};
use crate::command::Key;
use crate::time::Time;

pub(crate) const RULE: Invariant = Invariant {
    name: "linearizability",
    source: "Herlihy and Wing, Linearizability; Wing and Gong's search, by porcupine",
};

/// The maximum number of a key's operations to check, since the search is exponential in the worst
/// case.
const MAX_OPERATIONS: usize = 120;

/// The operations of a run.
#[derive(Default)]
pub(crate) struct History {
    keys: BTreeMap<Key, Vec<Record>>,
}

impl History {
    pub(crate) fn add(
        &mut self,
        client: u32,
        key: Key,
        called: Time,
        returned: Option<Time>,
        seen: Seen,
    ) {
        let instant = |time: Time| i64::try_from(time).unwrap_or(i64::MAX);
        self.keys.entry(key).or_default().push(Record {
            client,
            called: instant(called),
            returned: returned.map(instant),
            seen,
        });
    }
}

/// Called at the end of a run. Returns the number of checked operations.
pub(crate) fn check(history: &History) -> Check<u64> {
    let mut checked = 0;
    for (key, records) in &history.keys {
        let records = first(records);
        let verdict = synod_history::check(&records);
        if let Verdict::Linearizable(operations) = verdict {
            checked += operations as u64;
        }
        RULE.ensure(verdict != Verdict::Violated, || {
            let lines: Vec<String> = records.iter().map(|record| format!("{record:?}")).collect();
            format!("key {key} is not linearizable:\n{}", lines.join("\n"))
        })?;
    }
    Ok(checked)
}

/// The first operations of a key. Those in flight when the first omitted one is called have an
/// unknown outcome: what they observed may be the effect of an omitted operation.
fn first(records: &[Record]) -> Vec<Record> {
    let mut records = records.to_vec();
    records.sort_by_key(|record| record.called);
    if let Some(rest) = records.get(MAX_OPERATIONS) {
        let cut = rest.called;
        records.truncate(MAX_OPERATIONS);
        for record in &mut records {
            record.returned = record.returned.filter(|returned| *returned < cut);
        }
    }
    records
}
