//! Each key's history, as clients saw it, is linearizable.

use std::collections::{BTreeMap, BTreeSet};

use porcupine_rs::{Model, Operation, check_operations};

use super::{Check, Invariant};
use crate::command::{Key, Value};
use crate::time::Time;

pub(crate) const RULE: Invariant = Invariant {
    name: "linearizability",
    source: "Herlihy and Wing, Linearizability; Wing and Gong's search, by porcupine",
};

/// The most operations of a key that are searched: the search is exponential at its worst.
const MAX_OPERATIONS: usize = 120;

/// What a client saw of one key.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Seen {
    Wrote(Option<Value>),
    Read(Option<Value>),
    Swapped {
        expect: Option<Value>,
        new: Value,
    },
    Kept {
        expect: Option<Value>,
        found: Option<Value>,
    },
}

/// The operations of a run.
#[derive(Default)]
pub(crate) struct History {
    keys: BTreeMap<Key, Vec<Record>>,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    client: u32,
    called: Time,
    /// None: nobody knows whether it happened.
    returned: Option<Time>,
    seen: Seen,
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
        self.keys.entry(key).or_default().push(Record {
            client,
            called,
            returned,
            seen,
        });
    }
}

#[derive(Clone, Debug)]
struct Register;

impl Model for Register {
    type State = Option<Value>;
    type Op = Seen;
    type Metadata = ();

    fn init() -> Self::State {
        None
    }

    fn step(state: &Self::State, op: &Seen) -> (bool, Self::State) {
        match *op {
            Seen::Wrote(value) => (true, value),
            Seen::Read(value) => (*state == value, *state),
            Seen::Swapped { expect, new } => (*state == expect, Some(new)),
            Seen::Kept { expect, found } => (*state == found && found != expect, *state),
        }
    }
}

/// At the end of a run. Returns how many operations were checked.
pub(crate) fn check(history: &History) -> Check<u64> {
    let mut checked = 0;
    for (key, records) in &history.keys {
        let records = first(records);
        let operations = operations(&records);
        checked += operations.len() as u64;
        RULE.ensure(check_operations(&operations), || {
            let lines: Vec<String> = records.iter().map(|record| format!("{record:?}")).collect();
            format!("key {key} is not linearizable:\n{}", lines.join("\n"))
        })?;
    }
    Ok(checked)
}

/// The first operations of a key. Of those that are under way when the first one is called that is
/// left out, nobody knows how they ended: what they saw may be the effect of one that isn't here.
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

/// An operation of unknown outcome that nobody has observed is left out: at the end of the order it
/// is always legal. A deletion can't be recognised in what others see: it stays, with an end after
/// all others.
fn operations(records: &[Record]) -> Vec<Operation<Register>> {
    let observed = observed(records);
    let end = records
        .iter()
        .map(|record| record.returned.unwrap_or(record.called))
        .max()
        .unwrap_or(0)
        .saturating_add(1);
    let happened = |record: &&Record| match (record.returned, record.seen) {
        (Some(_), _) => true,
        (None, Seen::Wrote(Some(value)) | Seen::Swapped { new: value, .. }) => {
            observed.contains(&value)
        }
        (None, Seen::Wrote(None)) => true,
        (None, Seen::Read(_) | Seen::Kept { .. }) => false,
    };
    let instant = |time: Time| i64::try_from(time).unwrap_or(i64::MAX);
    records
        .iter()
        .filter(happened)
        .map(|record| Operation {
            client_id: Some(record.client),
            call_time: instant(record.called),
            return_time: instant(record.returned.unwrap_or(end)),
            op: record.seen,
            metadata: None,
        })
        .collect()
}

/// The values that certainly were there: somebody saw them, or a swap from them happened.
fn observed(records: &[Record]) -> BTreeSet<Value> {
    let mut observed = BTreeSet::new();
    loop {
        let before = observed.len();
        for record in records {
            let certain = record.returned.is_some();
            observed.extend(match record.seen {
                Seen::Read(value) if certain => value,
                Seen::Kept { found, .. } if certain => found,
                Seen::Swapped { expect, new } if certain || observed.contains(&new) => expect,
                Seen::Read(_) | Seen::Kept { .. } | Seen::Swapped { .. } | Seen::Wrote(_) => None,
            });
        }
        if observed.len() == before {
            return observed;
        }
    }
}
