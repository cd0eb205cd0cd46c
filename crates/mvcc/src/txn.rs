//! A transaction: the changes of one log entry, under one main revision.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use synod_engine::Space;
use synod_types::NodeId;

use crate::history::{history_key, lease_key};
use crate::range::{Reading, Time};
use crate::record::{KeyValueFields, live_bytes, tombstone};
use crate::revisions::Change;
use crate::source::Source;
use crate::state::{lease_row, member_row, meta_key};
use crate::{
    Compare, Event, EventBatch, EventKind, KeyRange, KeyValueView, LeaseId, LeaseRecord,
    MAX_KEY_BYTES, MvccError, MvccStore, RangeQuery, RangeResult, Revision, view,
};

/// A transaction with this many changes keeps an index of their keys.
const INDEXED_CHANGES: usize = 16;

/// Estimated memory per deleted key beyond its record.
const DELETE_OVERHEAD_BYTES: usize = 256;

/// A put.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Put {
    /// The key.
    pub key: Bytes,
    /// The value; unused with `ignore_value`.
    pub value: Bytes,
    /// The lease to attach the key to; [`LeaseId::NONE`] detaches it. Unused with `ignore_lease`.
    pub lease: LeaseId,
    /// Keep the current value.
    pub ignore_value: bool,
    /// Keep the current lease.
    pub ignore_lease: bool,
}

/// The result of a deletion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    /// The number of deleted keys.
    pub count: u64,
    /// Their records in wire form and key order, if requested.
    pub prev_kvs: Vec<Bytes>,
}

/// The result of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxnOutcome {
    /// The revision after it.
    pub revision: Revision,
    /// Whether it changed the keyspace.
    pub changed: bool,
}

/// A running transaction. It sees its own changes and those of all earlier transactions. If it is
/// dropped without [`WriteTxn::finish`], its changes are undone.
pub struct WriteTxn<'a> {
    store: &'a mut MvccStore,
    changes: Vec<Pending>,
    index: HashMap<Bytes, usize>,
    live_growth: i64,
    delete_room: DeleteRoom,
    finished: bool,
}

/// How much more a transaction may delete.
struct DeleteRoom {
    max_bytes: usize,
    left: usize,
}

impl DeleteRoom {
    fn of(max_bytes: usize) -> Self {
        Self {
            max_bytes,
            left: max_bytes,
        }
    }

    fn too_large(&self) -> MvccError {
        MvccError::DeleteTooLarge {
            max_bytes: self.max_bytes,
        }
    }

    /// Subtracts the memory that deleting this record needs.
    fn take(&mut self, record: &[u8]) -> Result<(), MvccError> {
        let needed = record.len() + DELETE_OVERHEAD_BYTES;
        self.left = self.left.checked_sub(needed).ok_or(self.too_large())?;
        Ok(())
    }
}

/// A change that has not become an event yet.
struct Pending {
    kind: EventKind,
    key: Bytes,
    kv: Bytes,
    prev_kv: Option<Bytes>,
    displaced: Revision,
    lease: LeaseId,
    is_create: bool,
}

/// The record that a change displaces.
struct Displaced {
    record: Bytes,
    fields: KeyValueView,
}

impl<'a> WriteTxn<'a> {
    pub(crate) fn new(store: &'a mut MvccStore) -> Self {
        Self {
            store,
            changes: Vec::new(),
            index: HashMap::new(),
            live_growth: 0,
            delete_room: DeleteRoom::of(usize::MAX),
            finished: false,
        }
    }

    /// Limits what the transaction may delete from now on, in bytes: the records, plus
    /// `DELETE_OVERHEAD_BYTES` for each. The default is no limit.
    pub fn limit_deletes(&mut self, max_bytes: usize) {
        self.delete_room = DeleteRoom::of(max_bytes);
    }

    fn source(&self) -> Source<'_> {
        Source {
            snapshot: &*self.store.view.snapshot,
            overlay: Some(&self.store.pending.overlay),
            recent: Some(&self.store.recent),
        }
    }

    fn reading(&self) -> Reading<'_> {
        Reading {
            source: self.source(),
            view: &self.store.view,
            current: self.revision(),
            compacted: self.store.pending.compacted,
        }
    }

    /// The revision of this transaction's changes.
    fn main(&self) -> Revision {
        self.store.pending.revision.next()
    }

    /// The newest revision that this transaction sees; its own if it changed something.
    #[must_use]
    pub fn revision(&self) -> Revision {
        if self.changes.is_empty() {
            self.store.pending.revision
        } else {
            self.main()
        }
    }

    /// The compacted revision.
    #[must_use]
    pub fn compacted(&self) -> Revision {
        self.store.pending.compacted
    }

    /// A key's current record in wire form.
    ///
    /// # Errors
    /// [`MvccError::Engine`].
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, MvccError> {
        self.reading().get(key, Time::Current)
    }

    /// Executes a query. It sees the transaction's earlier changes.
    ///
    /// # Errors
    /// As [`View::range`](crate::View::range).
    pub fn range(&self, query: &RangeQuery) -> Result<RangeResult, MvccError> {
        self.reading().range(query)
    }

    /// Whether a condition holds. Evaluate all conditions before the first change.
    ///
    /// # Errors
    /// [`MvccError::Engine`].
    pub fn compare(&self, compare: &Compare) -> Result<bool, MvccError> {
        self.reading().compare(compare)
    }

    /// Stores a key. Returns the displaced record in wire form.
    ///
    /// # Errors
    /// [`MvccError::KeyLength`], [`MvccError::KeyNotFound`] for `ignore_*` on a missing key,
    /// [`MvccError::Engine`].
    pub fn put(&mut self, put: &Put) -> Result<Option<Bytes>, MvccError> {
        if put.key.is_empty() || put.key.len() > MAX_KEY_BYTES {
            return Err(MvccError::KeyLength {
                length: put.key.len(),
            });
        }
        let displaced = self.displaced_by(&put.key)?;
        if displaced.is_none() && (put.ignore_value || put.ignore_lease) {
            return Err(MvccError::KeyNotFound);
        }
        let main = self.main();
        let before = displaced.as_ref();
        let lease_before = before.map_or(LeaseId::NONE, |before| before.fields.lease);
        let lease = if put.ignore_lease {
            lease_before
        } else {
            put.lease
        };
        let value = match before {
            Some(before) if put.ignore_value => before.fields.value(&before.record),
            Some(_) | None => &put.value,
        };
        let kv = KeyValueFields {
            key: &put.key,
            create: before.map_or(main, |before| before.fields.create),
            modified: main,
            version: before.map_or(1, |before| before.fields.version + 1),
            value,
            lease,
        }
        .encode();
        // Use the record's copy of the key: the caller's may pin a whole network buffer.
        let key = KeyValueView::parse(&kv)?.key(&kv);
        if lease != lease_before {
            self.detach(lease_before, &key);
            if lease.is_some() {
                self.set(
                    Space::LeaseKeys,
                    lease_key(lease, &key),
                    Some(Bytes::new()),
                    false,
                );
            }
        }
        self.live_growth += live_bytes(&key, &kv);
        self.set(
            Space::Latest,
            key.clone(),
            Some(kv.clone()),
            displaced.is_some(),
        );
        let prev_kv = before.map(|before| before.record.clone());
        let is_create = displaced.is_none();
        self.displace(&key, displaced);
        self.note(Pending {
            kind: EventKind::Put,
            key,
            kv,
            prev_kv: prev_kv.clone(),
            displaced: Revision::ZERO,
            lease,
            is_create,
        })?;
        Ok(prev_kv)
    }

    /// Deletes the keys within `range`. If there are none, nothing changes, not even the revision.
    /// With `max_prev_bytes` it returns their records.
    ///
    /// # Errors
    /// [`MvccError::ResultTooLarge`] if the records exceed `max_prev_bytes`,
    /// [`MvccError::DeleteTooLarge`], [`MvccError::Engine`]. After an error, drop the transaction.
    pub fn delete_range(
        &mut self,
        range: &KeyRange,
        max_prev_bytes: Option<usize>,
    ) -> Result<Deleted, MvccError> {
        let mut room = std::mem::replace(&mut self.delete_room, DeleteRoom::of(0));
        let mut prev_bytes = 0;
        let rows = self.reading().all(range, |record| {
            prev_bytes += record.len();
            match max_prev_bytes {
                Some(max_bytes) if prev_bytes > max_bytes => {
                    Err(MvccError::ResultTooLarge { max_bytes })
                }
                Some(_) | None => room.take(record),
            }
        })?;
        self.delete_room = room;
        let mut deleted = Deleted::default();
        for (key, record) in rows {
            // Copied, because rows of a scan share large buffers and these are kept.
            let record = Bytes::copy_from_slice(&record);
            if max_prev_bytes.is_some() {
                deleted.prev_kvs.push(record.clone());
            }
            deleted.count += 1;
            self.delete(&key, record)?;
        }
        Ok(deleted)
    }

    fn delete(&mut self, key: &[u8], record: Bytes) -> Result<(), MvccError> {
        let main = self.main();
        let fields = KeyValueView::parse(&record)?;
        let kv = tombstone(key, main);
        // Copied, because the engine keeps the key for long and a slice would pin the record.
        let key = Bytes::copy_from_slice(key);
        self.detach(fields.lease, &key);
        self.set(Space::Latest, key.clone(), None, true);
        self.displace(
            &key,
            Some(Displaced {
                record: record.clone(),
                fields,
            }),
        );
        self.note(Pending {
            kind: EventKind::Delete,
            key,
            kv,
            prev_kv: Some(record),
            displaced: Revision::ZERO,
            lease: LeaseId::NONE,
            is_create: false,
        })
    }

    /// Detaches a key from a lease.
    fn detach(&mut self, lease: LeaseId, key: &[u8]) {
        if lease.is_some() {
            self.set(Space::LeaseKeys, lease_key(lease, key), None, false);
        }
    }

    fn displaced_by(&self, key: &[u8]) -> Result<Option<Displaced>, MvccError> {
        let overlay = &self.store.pending.overlay;
        let record = match overlay.get(Space::Latest, key) {
            Some(pending) => pending.value.clone(),
            None if let Some(record) = self.store.recent.get(key) => Some(record.clone()),
            // Copied, because rows of a snapshot share large buffers and this one is kept in
            // memory.
            None => self
                .store
                .view
                .snapshot
                .get(Space::Latest, key)?
                .map(|record| Bytes::copy_from_slice(&record)),
        };
        record
            .map(|record| {
                let fields = KeyValueView::parse(&record)?;
                Ok(Displaced { record, fields })
            })
            .transpose()
    }

    /// Moves a displaced record to the history, unless this transaction wrote it: no reader ever
    /// saw such a record.
    fn displace(&mut self, key: &[u8], displaced: Option<Displaced>) {
        let Some(Displaced { record, fields }) = displaced else {
            return;
        };
        self.live_growth -= live_bytes(key, &record);
        if fields.modified < self.main() {
            let row = history_key(key, fields.modified);
            self.live_growth += live_bytes(&row, &record);
            self.set(Space::History, row, Some(record), false);
        }
    }

    /// Adds a change. A second change to the same key replaces the first and takes over its
    /// displaced record.
    fn note(&mut self, mut change: Pending) -> Result<(), MvccError> {
        let main = self.main();
        let earlier = self.earlier(&change.key);
        if let Some(earlier) = earlier {
            let earlier = &self.changes[earlier];
            change.prev_kv = earlier.prev_kv.clone();
            change.displaced = earlier.displaced;
        } else if let Some(prev_kv) = &change.prev_kv {
            change.displaced = KeyValueView::parse(prev_kv)?.modified;
        }
        let had_tombstone = earlier.is_some_and(|earlier| self.needs_tombstone(earlier));
        let needs_tombstone = change.kind == EventKind::Delete && change.displaced > Revision::ZERO;
        if had_tombstone != needs_tombstone {
            let row = history_key(&change.key, main);
            let growth = live_bytes(&row, &[]);
            self.live_growth += if needs_tombstone { growth } else { -growth };
            self.set(Space::History, row, needs_tombstone.then(Bytes::new), false);
        }
        match earlier {
            Some(earlier) => self.changes[earlier] = change,
            None => {
                if !self.index.is_empty() {
                    self.index.insert(change.key.clone(), self.changes.len());
                }
                self.changes.push(change);
            }
        }
        Ok(())
    }

    fn needs_tombstone(&self, change: usize) -> bool {
        let change = &self.changes[change];
        change.kind == EventKind::Delete && change.displaced > Revision::ZERO
    }

    /// The index of this transaction's change to `key`.
    fn earlier(&mut self, key: &[u8]) -> Option<usize> {
        if self.changes.len() < INDEXED_CHANGES {
            return self.changes.iter().position(|change| change.key == key);
        }
        if self.index.is_empty() {
            let keys = self.changes.iter().map(|change| change.key.clone());
            self.index = keys.zip(0..).collect();
        }
        self.index.get(key).copied()
    }

    fn set(&mut self, space: Space, key: Bytes, value: Option<Bytes>, existed: bool) {
        self.store.pending.overlay.set(space, key, value, existed);
    }

    /// A lease's record.
    ///
    /// # Errors
    /// [`MvccError::Engine`].
    pub fn lease(&self, id: LeaseId) -> Result<Option<LeaseRecord>, MvccError> {
        view::lease(self.source(), id)
    }

    /// The first key attached to a lease that is not before `start`.
    ///
    /// # Errors
    /// [`MvccError::Engine`].
    pub fn lease_key_from(&self, id: LeaseId, start: &[u8]) -> Result<Option<Bytes>, MvccError> {
        view::lease_key_from(self.source(), id, start)
    }

    /// Creates a lease.
    ///
    /// # Errors
    /// [`MvccError::LeaseExists`], [`MvccError::Engine`].
    pub fn lease_grant(&mut self, id: LeaseId, record: LeaseRecord) -> Result<(), MvccError> {
        if self.lease(id)?.is_some() {
            return Err(MvccError::LeaseExists { id });
        }
        self.set(Space::Leases, lease_row(id), Some(record.encode()), false);
        Ok(())
    }

    /// Records the remaining time of a lease; zero means the full TTL.
    ///
    /// # Errors
    /// [`MvccError::LeaseNotFound`], [`MvccError::Engine`].
    pub fn lease_checkpoint(&mut self, id: LeaseId, remaining_s: i64) -> Result<(), MvccError> {
        let record = self.lease(id)?.ok_or(MvccError::LeaseNotFound { id })?;
        let record = LeaseRecord {
            remaining_s,
            ..record
        };
        self.set(Space::Leases, lease_row(id), Some(record.encode()), false);
        Ok(())
    }

    /// Removes a lease and deletes its keys in order. Returns the number of keys.
    ///
    /// # Errors
    /// [`MvccError::LeaseNotFound`], [`MvccError::DeleteTooLarge`], [`MvccError::Engine`].
    pub fn lease_revoke(&mut self, id: LeaseId) -> Result<u64, MvccError> {
        if self.lease(id)?.is_none() {
            return Err(MvccError::LeaseNotFound { id });
        }
        let mut deleted = 0;
        let max_keys = self.delete_room.left / DELETE_OVERHEAD_BYTES;
        let keys = view::keys_of_lease(self.source(), id, max_keys.saturating_add(1))?;
        if keys.len() > max_keys {
            return Err(self.delete_room.too_large());
        }
        for key in keys {
            deleted += self.delete_range(&KeyRange::One(key), None)?.count;
        }
        self.set(Space::Leases, lease_row(id), None, false);
        Ok(deleted)
    }

    /// Compacts: nothing before `revision` can be read any more. [`Compactor`](crate::Compactor)
    /// removes the rows later.
    ///
    /// # Errors
    /// [`MvccError::Compacted`] if `revision` is already compacted, [`MvccError::FutureRevision`].
    pub fn compact(&mut self, revision: Revision) -> Result<(), MvccError> {
        let compacted = self.store.pending.compacted;
        if revision <= compacted {
            return Err(MvccError::Compacted { compacted });
        }
        let current = self.store.pending.revision;
        if revision > current {
            return Err(MvccError::FutureRevision { current });
        }
        self.store.pending.compacted = revision;
        // Save the counts, because sweeping removes rows that would be needed to bring them up to
        // date.
        self.store.pending.save_counts = true;
        Ok(())
    }

    /// A row stored by [`WriteTxn::meta_put`].
    ///
    /// # Errors
    /// [`MvccError::Engine`].
    pub fn meta_get(&self, key: &[u8]) -> Result<Option<Bytes>, MvccError> {
        Ok(self.source().get(Space::Meta, &meta_key(key))?)
    }

    /// Stores a row of the service itself, outside the keyspace and without a revision.
    pub fn meta_put(&mut self, key: &[u8], value: Bytes) {
        self.set(Space::Meta, meta_key(key), Some(value), false);
    }

    /// Removes a row stored by [`WriteTxn::meta_put`].
    pub fn meta_delete(&mut self, key: &[u8]) {
        self.set(Space::Meta, meta_key(key), None, false);
    }

    /// A member's record.
    ///
    /// # Errors
    /// [`MvccError::Engine`].
    pub fn member(&self, id: NodeId) -> Result<Option<Bytes>, MvccError> {
        Ok(self.source().get(Space::Members, &member_row(id))?)
    }

    /// Stores a member's record.
    pub fn member_put(&mut self, id: NodeId, record: Bytes) {
        self.set(Space::Members, member_row(id), Some(record), false);
    }

    /// Removes a member.
    pub fn member_delete(&mut self, id: NodeId) {
        self.set(Space::Members, member_row(id), None, false);
    }

    /// Ends the transaction. The next [`MvccStore::commit`] commits its changes.
    pub fn finish(mut self) -> TxnOutcome {
        self.finished = true;
        let revision = self.revision();
        let changed = !self.changes.is_empty();
        let pending = &mut self.store.pending;
        pending.overlay.keep();
        pending.live_growth += self.live_growth;
        if changed {
            pending.revision = revision;
            let changes: Vec<Change> = self.changes.iter().map(Pending::change).collect();
            pending.rows.push(revision, &changes);
            let events = std::mem::take(&mut self.changes)
                .into_iter()
                .map(|change| Arc::new(change.event()))
                .collect();
            pending
                .events
                .push(Arc::new(EventBatch { revision, events }));
        }
        TxnOutcome { revision, changed }
    }
}

impl Drop for WriteTxn<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.store.pending.overlay.undo();
        }
    }
}

impl Pending {
    fn change(&self) -> Change {
        Change {
            kind: self.kind,
            key: self.key.clone(),
            displaced: self.displaced,
            displaced_bytes: self.prev_kv.as_ref().map_or(0, Bytes::len),
        }
    }

    fn event(self) -> Event {
        Event::new(
            self.kind,
            self.key,
            self.kv,
            self.prev_kv,
            self.lease,
            self.is_create,
        )
    }
}
