//! Deletions that are too large for one engine write. They are written in pieces under one
//! revision, and readers see all of them at once.
//!
//! Until the commit, readers stay on the previous view, and a row in `Meta` names the revision. If
//! an engine is opened with that row, the deletion was interrupted: [`roll_back`] undoes its
//! pieces, and the caller applies the log entry again.
//!
//! Such a revision has several rows in `Revisions`: its pieces, numbered from 1. Its events are
//! read piece by piece ([`View::large_events`](crate::View::large_events)); they are never all in
//! memory.

use std::sync::Arc;

use bytes::Bytes;
use synod_engine::{Batch, Direction, Engine, Snapshot, Space};

use crate::history::{history_key, lease_bounds, lease_key, leased_key};
use crate::record::live_bytes;
use crate::revisions::{Change, piece_key, piece_row, rows_from};
use crate::state::{lease_row, unfinished_key, unfinished_revision};
use crate::{EventKind, KeyRange, KeyValueView, LeaseId, MvccError, MvccStore, Revision};

/// The maximum size of a piece with more than one change: its records and rows, in bytes.
///
/// Pieces must end at the same place in all releases: after a restart from another member's
/// snapshot, a watcher may continue with that snapshot's pieces.
const MAX_PIECE_BYTES: usize = 1 << 20;

/// A running deletion. If it is dropped without [`LargeDelete::finish`] after it has deleted a key,
/// the store refuses all further work. It must be opened again, which rolls the deletion back.
pub struct LargeDelete<'a> {
    store: &'a mut MvccStore,
    piece: Piece,
    number: u32,
    deleted: u64,
    finished: bool,
}

/// Changes that are written in one batch.
#[derive(Default)]
struct Piece {
    batch: Batch,
    changes: Vec<Change>,
    live_growth: i64,
}

impl std::fmt::Debug for LargeDelete<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LargeDelete")
            .field("revision", &self.revision())
            .field("deleted", &self.deleted)
            .finish_non_exhaustive()
    }
}

impl<'a> LargeDelete<'a> {
    pub(crate) fn new(store: &'a mut MvccStore) -> Self {
        Self {
            store,
            piece: Piece::default(),
            number: 0,
            deleted: 0,
            finished: false,
        }
    }

    fn revision(&self) -> Revision {
        self.store.pending.revision.next()
    }

    /// Deletes the keys within `range`, in order. The ranges of one deletion must not overlap.
    ///
    /// # Errors
    /// [`MvccError::Engine`].
    pub fn delete_range(&mut self, range: &KeyRange) -> Result<(), MvccError> {
        if range.is_empty() {
            return Ok(());
        }
        let snapshot = Arc::clone(&self.store.view.snapshot);
        for row in snapshot.scan(Space::Latest, range.bounds(), Direction::Forward) {
            let (_, record) = row?;
            self.delete(&record)?;
        }
        Ok(())
    }

    /// Removes a lease and deletes its keys, in order.
    ///
    /// # Errors
    /// [`MvccError::LeaseNotFound`], [`MvccError::Engine`].
    pub fn revoke_lease(&mut self, id: LeaseId) -> Result<(), MvccError> {
        let snapshot = Arc::clone(&self.store.view.snapshot);
        if snapshot.get(Space::Leases, &lease_row(id))?.is_none() {
            return Err(MvccError::LeaseNotFound { id });
        }
        for row in snapshot.scan(Space::LeaseKeys, lease_bounds(id), Direction::Forward) {
            let key = leased_key(&row?.0);
            if let Some(record) = snapshot.get(Space::Latest, &key)? {
                self.delete(&record)?;
            }
        }
        let overlay = &mut self.store.pending.overlay;
        overlay.set(Space::Leases, lease_row(id), None, false);
        Ok(())
    }

    fn delete(&mut self, record: &Bytes) -> Result<(), MvccError> {
        // Copied, because rows of a scan share large buffers. These are kept, and the key is kept
        // longer than the record.
        let record = Bytes::copy_from_slice(record);
        let fields = KeyValueView::parse(&record)?;
        let key = Bytes::copy_from_slice(&fields.key(&record));
        let (displaced, tombstone) = (
            history_key(&key, fields.modified),
            history_key(&key, self.revision()),
        );
        self.store.deleted(&key)?;
        self.deleted += 1;
        let piece = &mut self.piece;
        piece.live_growth += live_bytes(&displaced, &record) + live_bytes(&tombstone, &[]);
        piece.live_growth -= live_bytes(&key, &record);
        piece.changes.push(Change {
            kind: EventKind::Delete,
            key: key.clone(),
            displaced: fields.modified,
            displaced_bytes: record.len(),
        });
        if fields.lease.is_some() {
            let row = lease_key(fields.lease, &key);
            piece.batch.delete(Space::LeaseKeys, row);
        }
        piece.batch.delete(Space::Latest, key);
        piece.batch.put(Space::History, displaced, record);
        piece.batch.put(Space::History, tombstone, Bytes::new());
        if piece.changes.len() >= self.store.piece_changes || piece.batch.bytes() >= MAX_PIECE_BYTES
        {
            self.write_piece()?;
        }
        Ok(())
    }

    fn write_piece(&mut self) -> Result<(), MvccError> {
        let mut piece = std::mem::take(&mut self.piece);
        if piece.changes.is_empty() {
            return Ok(());
        }
        if self.number == 0 {
            let row = Bytes::copy_from_slice(&self.revision().to_be_bytes());
            piece.batch.put(Space::Meta, unfinished_key(), row);
        }
        self.number += 1;
        let key = piece_key(self.revision(), self.number);
        let row = piece_row(&piece.changes);
        piece.live_growth += live_bytes(&key, &row);
        piece.batch.put(Space::Revisions, key, row);
        self.store.write_piece(piece.batch)?;
        self.store.pending.live_growth += piece.live_growth;
        Ok(())
    }

    /// Ends the deletion. The next [`MvccStore::commit`] makes it visible; nothing else may start
    /// before that. Returns the number of deleted keys. If it is zero, there is no new revision.
    ///
    /// # Errors
    /// [`MvccError::Engine`].
    pub fn finish(mut self) -> Result<u64, MvccError> {
        self.write_piece()?;
        self.finished = true;
        let revision = self.revision();
        let pending = &mut self.store.pending;
        pending.overlay.keep();
        if self.number > 0 {
            let overlay = &mut pending.overlay;
            overlay.set(Space::Meta, unfinished_key(), None, true);
            overlay.keep();
            pending.revision = revision;
            pending.large = true;
        }
        Ok(self.deleted)
    }
}

impl Drop for LargeDelete<'_> {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        self.store.pending.overlay.undo();
        if self.deleted > 0 {
            self.store.fail();
        }
    }
}

/// Undoes a deletion that was interrupted before its commit.
pub(crate) fn roll_back(engine: &dyn Engine) -> Result<(), MvccError> {
    let snapshot = engine.snapshot();
    let Some(revision) = unfinished_revision(&*snapshot)? else {
        return Ok(());
    };
    for row in rows_from(&*snapshot, revision)? {
        let row = row?;
        if row.first != revision {
            continue;
        }
        let mut batch = Batch::new();
        for (_, changes) in row.within(revision, revision) {
            for change in changes {
                restore(&*snapshot, revision, change, &mut batch)?;
            }
        }
        batch.delete(Space::Revisions, row.key());
        engine.write(batch)?;
    }
    let mut batch = Batch::new();
    batch.delete(Space::Meta, unfinished_key());
    engine.write(batch)?;
    Ok(())
}

fn restore(
    snapshot: &dyn Snapshot,
    revision: Revision,
    change: &Change,
    batch: &mut Batch,
) -> Result<(), MvccError> {
    let displaced = history_key(&change.key, change.displaced);
    let record = snapshot.get(Space::History, &displaced)?.ok_or_else(|| {
        let key = change.key.escape_ascii();
        MvccError::corrupt(format!(
            "no record of \"{key}\", which is needed to roll back an unfinished deletion"
        ))
    })?;
    let record = Bytes::copy_from_slice(&record);
    let fields = KeyValueView::parse(&record)?;
    let key = fields.key(&record);
    if fields.lease.is_some() {
        let row = lease_key(fields.lease, &key);
        batch.put(Space::LeaseKeys, row, Bytes::new());
    }
    batch.delete(Space::History, history_key(&key, revision));
    batch.delete(Space::History, displaced);
    batch.put(Space::Latest, key, record);
    Ok(())
}
