//! Changes by transactions since the last engine write.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use bytes::Bytes;
use synod_engine::{Batch, Space};

/// A changed row.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    /// The new value; `None` deletes the row.
    pub(crate) value: Option<Bytes>,
    /// Whether the engine has the row. Only kept for `Latest`, where it determines how the number
    /// of keys changes.
    pub(crate) existed: bool,
}

/// Changed rows by space, with what is needed to undo the running transaction.
#[derive(Default)]
pub(crate) struct Overlay {
    spaces: [BTreeMap<Bytes, Pending>; Space::COUNT],
    undo: Vec<(Space, Bytes, Option<Pending>)>,
    rows: usize,
    bytes: usize,
}

impl Overlay {
    pub(crate) fn get(&self, space: Space, key: &[u8]) -> Option<&Pending> {
        self.spaces[space.index()].get(key)
    }

    pub(crate) fn space(&self, space: Space) -> &BTreeMap<Bytes, Pending> {
        &self.spaces[space.index()]
    }

    /// Changes a row. `existed` is only used for the row's first change.
    pub(crate) fn set(&mut self, space: Space, key: Bytes, value: Option<Bytes>, existed: bool) {
        self.bytes += key.len() + value.as_ref().map_or(0, Bytes::len);
        match self.spaces[space.index()].entry(key) {
            Entry::Vacant(entry) => {
                self.undo.push((space, entry.key().clone(), None));
                entry.insert(Pending { value, existed });
                self.rows += 1;
            }
            Entry::Occupied(mut entry) => {
                let existed = entry.get().existed;
                let key = entry.key().clone();
                let before = entry.insert(Pending { value, existed });
                self.undo.push((space, key, Some(before)));
            }
        }
    }

    /// Keeps the changes of the running transaction.
    pub(crate) fn keep(&mut self) {
        self.undo.clear();
    }

    /// Undoes the changes of the running transaction.
    pub(crate) fn undo(&mut self) {
        while let Some((space, key, before)) = self.undo.pop() {
            let rows = &mut self.spaces[space.index()];
            match before {
                Some(before) => {
                    rows.insert(key, before);
                }
                None => {
                    rows.remove(&key);
                    self.rows -= 1;
                }
            }
        }
    }

    /// Moves all changes into a batch.
    pub(crate) fn drain_into(&mut self, batch: &mut Batch) {
        self.undo.clear();
        (self.rows, self.bytes) = (0, 0);
        for space in Space::ALL {
            for (key, pending) in std::mem::take(&mut self.spaces[space.index()]) {
                match pending.value {
                    Some(value) => batch.put(space, key, value),
                    None => batch.delete(space, key),
                }
            }
        }
    }

    /// The size of all rows that were set, in bytes, including those that were replaced or undone
    /// since.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }
}
