//! A naive keyspace.

use std::collections::BTreeMap;

use synod_consensus_core::{Entry, EntryKind};
use synod_types::Index;

use crate::command::{Applied, Command, Key, Value, Write, WriteOutcome};

/// Every value of every key, by the index that wrote it.
pub(super) struct Model {
    keys: BTreeMap<Key, Vec<(Index, Option<Value>)>>,
    revision: i64,
    compacted: i64,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            keys: BTreeMap::new(),
            revision: 1,
            compacted: 0,
        }
    }
}

impl Model {
    pub(super) fn value_at(&self, index: Index, key: Key) -> Option<Value> {
        let values = self.keys.get(&key)?;
        let place = values.partition_point(|(at, _)| *at <= index);
        values.get(place.checked_sub(1)?)?.1
    }

    pub(super) fn apply(&mut self, entry: &Entry) -> Applied {
        let command = match entry.kind {
            EntryKind::Normal => Command::decode(&entry.data),
            EntryKind::Noop | EntryKind::Config => None,
        };
        let outcome = command.map_or(WriteOutcome::Nothing, |command| {
            self.write(entry.index, command.write)
        });
        Applied {
            revision: self.revision,
            outcome,
        }
    }

    fn write(&mut self, index: Index, write: Write) -> WriteOutcome {
        match write {
            Write::Put(key, value) => {
                self.set(index, key, Some(value));
                WriteOutcome::Done
            }
            Write::Delete(key) => {
                let there = self.value_at(index, key).is_some();
                if there {
                    self.set(index, key, None);
                }
                WriteOutcome::Deleted(u64::from(there))
            }
            Write::Cas { key, expect, new } => {
                let found = self.value_at(index, key);
                if found == expect {
                    self.set(index, key, Some(new));
                    WriteOutcome::Swapped
                } else {
                    WriteOutcome::Kept(found)
                }
            }
            Write::Compact(revision) => {
                if revision > self.compacted && revision <= self.revision {
                    self.compacted = revision;
                    WriteOutcome::Done
                } else {
                    WriteOutcome::Refused
                }
            }
        }
    }

    fn set(&mut self, index: Index, key: Key, value: Option<Value>) {
        self.revision += 1;
        self.keys.entry(key).or_default().push((index, value));
    }
}
