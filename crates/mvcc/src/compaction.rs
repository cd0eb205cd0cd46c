//! Removes rows that no readable revision needs, in small steps.
//!
//! Once an event is at or before the compacted revision, the version that it displaced can't be
//! read any more. So the displaced row is removed, and for a deletion its tombstone too. Both go in
//! one batch: without the tombstone, the displaced version would become visible again. Events at
//! the compacted revision itself stay readable.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use synod_engine::{Batch, Snapshot, Space};
use synod_types::LogPosition;

use crate::history::history_key;
use crate::revisions::{Change, RevisionRow, piece_row, rows_after_piece, rows_from};
use crate::state::State;
use crate::view::Shared;
use crate::{EventKind, MvccError, Revision};

/// The maximum number of rows per step. Writers wait a few microseconds for each removed row.
const MAX_STEP_ROWS: usize = 500;

type Rows<'a> = Box<dyn Iterator<Item = Result<RevisionRow, MvccError>> + 'a>;

/// The result of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactionStep {
    /// The number of removed rows.
    pub rows: usize,
    /// Whether everything up to the compacted revision has been removed.
    pub is_done: bool,
    /// The revision up to which everything has been removed.
    pub swept: Revision,
}

/// Removes compacted rows and persists the store. Runs on a thread of the caller's choice,
/// concurrently with the applying thread.
#[derive(Clone)]
pub struct Compactor {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Compactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compactor").finish_non_exhaustive()
    }
}

/// The removals of one step.
#[derive(Default)]
struct Sweep {
    batch: Batch,
    bytes: u64,
    swept: Revision,
    sweeping: Option<Sweeping>,
}

/// The progress of sweeping a large revision.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Sweeping {
    /// The compacted revision that this sweep is for.
    compacted: Revision,
    revision: Revision,
    /// The last piece that was swept.
    piece: u32,
}

impl Compactor {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Removes about `max_rows` rows, at most `MAX_STEP_ROWS`; slightly more if one row of
    /// `Revisions` names many keys. Waits while the engine is busy. After a restart it continues
    /// where it stopped. Call it from one thread at a time.
    ///
    /// # Errors
    /// [`MvccError::Engine`].
    pub fn step(&self, max_rows: usize) -> Result<CompactionStep, MvccError> {
        let (engine, snapshot, from, sweeping) = {
            let core = self.shared.core.lock();
            let engine = Arc::clone(&core.engine);
            // A fresh snapshot: views still show rows that earlier steps removed.
            let snapshot = engine.snapshot();
            // A later compaction restarts the sweep, since it can remove more of the pieces already
            // swept.
            let compacted = core.state.compacted;
            let sweeping = core.sweeping.filter(|s| s.compacted == compacted);
            (engine, snapshot, core.state, sweeping)
        };
        if from.swept >= from.compacted {
            return Ok(CompactionStep {
                rows: 0,
                is_done: true,
                swept: from.swept,
            });
        }
        let sweep = plan(&*snapshot, &from, sweeping, max_rows.min(MAX_STEP_ROWS))?;
        drop(snapshot);
        engine.wait_for_room();
        let rows = sweep.batch.len();
        let mut core = self.shared.core.lock();
        if core.state.swept != from.swept || !Arc::ptr_eq(&core.engine, &engine) {
            // Another thread was faster, or the engine was replaced and its rows are grouped
            // differently.
            return Ok(CompactionStep {
                rows: 0,
                is_done: false,
                swept: core.state.swept,
            });
        }
        let mut state = core.state;
        state.swept = sweep.swept;
        state.live_bytes = state.live_bytes.saturating_sub(sweep.bytes);
        let mut batch = sweep.batch;
        let (key, row) = state.row();
        batch.put(Space::Meta, key, row);
        core.engine.write(batch)?;
        core.state = state;
        core.sweeping = sweep.sweeping;
        self.shared
            .live_bytes
            .store(state.live_bytes, Ordering::Relaxed);
        drop(core);
        Ok(CompactionStep {
            rows,
            is_done: state.swept >= state.compacted,
            swept: state.swept,
        })
    }

    /// Makes all commits so far durable against power loss, like
    /// [`MvccStore::persist`](crate::MvccStore::persist).
    ///
    /// # Errors
    /// [`MvccError::Engine`].
    pub fn persist(&self) -> Result<LogPosition, MvccError> {
        let (engine, applied) = {
            let core = self.shared.core.lock();
            (Arc::clone(&core.engine), core.state.applied)
        };
        engine.persist()?;
        Ok(applied)
    }
}

/// Collects the next rows to remove.
fn plan(
    snapshot: &dyn Snapshot,
    from: &State,
    sweeping: Option<Sweeping>,
    max_rows: usize,
) -> Result<Sweep, MvccError> {
    let mut sweep = Sweep {
        swept: from.swept,
        sweeping,
        ..Sweep::default()
    };
    let rows: Rows<'_> = match sweeping {
        Some(at) => Box::new(rows_after_piece(snapshot, at.revision, at.piece)),
        None => Box::new(rows_from(snapshot, from.swept)?),
    };
    for row in rows {
        let row = row?;
        if row.first > from.compacted {
            break;
        }
        if sweep.batch.len() >= max_rows {
            return Ok(sweep);
        }
        if let Some(number) = row.piece {
            sweep.remove_piece(&row, from);
            sweep.sweeping = Some(Sweeping {
                compacted: from.compacted,
                revision: row.first,
                piece: number,
            });
            continue;
        }
        sweep.sweeping = None;
        for (revision, changes) in row.within(from.swept.next(), from.compacted) {
            for change in changes {
                sweep.remove(revision, change);
            }
            sweep.swept = revision;
            if sweep.batch.len() >= max_rows && revision < row.last() {
                return Ok(sweep);
            }
        }
        if row.last() < from.compacted && row.last() <= from.counted {
            sweep.remove_row(&row);
        }
    }
    sweep.swept = from.compacted;
    sweep.sweeping = None;
    Ok(sweep)
}

impl Sweep {
    /// Removes the versions that a piece of a large revision displaced. Removes the piece's own row
    /// too, unless its events can still be read; then the row is rewritten without displaced
    /// versions.
    fn remove_piece(&mut self, row: &RevisionRow, from: &State) {
        if row.first > from.swept {
            for change in row.changes() {
                self.remove(row.first, change);
            }
        }
        if row.first < from.compacted {
            self.remove_row(row);
        } else if row
            .changes()
            .any(|change| change.displaced > Revision::ZERO)
        {
            let changes: Vec<Change> = row.changes().map(Change::without_displaced).collect();
            let rest = piece_row(&changes);
            self.bytes += row.bytes.saturating_sub(row.key().len() + rest.len()) as u64;
            self.batch.put(Space::Revisions, row.key(), rest);
        }
    }

    fn remove_row(&mut self, row: &RevisionRow) {
        self.bytes += row.bytes as u64;
        self.batch.delete(Space::Revisions, row.key());
    }

    fn remove(&mut self, revision: Revision, change: &Change) {
        if change.displaced == Revision::ZERO {
            return;
        }
        let row = history_key(&change.key, change.displaced);
        self.bytes += (row.len() + change.displaced_bytes) as u64;
        self.batch.delete(Space::History, row);
        if change.kind == EventKind::Delete {
            let tombstone = history_key(&change.key, revision);
            self.bytes += tombstone.len() as u64;
            self.batch.delete(Space::History, tombstone);
        }
    }
}
