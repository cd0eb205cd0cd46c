//! Reads the hub's history from the keyspace.

use std::sync::Arc;

use synod_mvcc::{EventsPage, KeyRange, MvccError, MvccReader, Revision, View};

use super::interest::{EventFlags, Interest, Upper, WatchRange};
use super::limits::WatchLimits;
use super::queue::Part;
use super::source::{
    self, DeletedKeys, EventKind, Fill, History, HistoryError, LargeRevision, Piece, Revisions,
};

/// Reads the store's history in bounded pieces. The only exception is what an interest sees of a
/// large revision.
#[derive(Debug)]
pub struct StoreHistory {
    reader: MvccReader,
    piece_bytes: usize,
}

impl StoreHistory {
    /// The history of the reader's store.
    pub fn new(reader: MvccReader, limits: &WatchLimits) -> Self {
        Self {
            reader,
            piece_bytes: limits.piece_bytes,
        }
    }

    /// Reads a page from revision `from` on. Also returns the last revision that it covers
    /// completely, and the view it was read from.
    fn page(
        &self,
        from: i64,
        range: Option<&KeyRange>,
    ) -> Result<(EventsPage, i64, View), HistoryError> {
        let view = self.reader.view();
        let current = view.revision();
        let page = view.events(Revision::new(from), current, range, self.piece_bytes)?;
        let through = page.next.map_or(current, Revision::prev);
        Ok((page, through.get(), view))
    }
}

impl StoreHistory {
    /// Reads the events of a large revision that `interest` sees.
    fn read_large(
        &self,
        view: &View,
        interest: &Interest,
        revision: i64,
    ) -> Result<Piece, HistoryError> {
        let range = key_range(&interest.range);
        let mut events = Vec::new();
        let mut after = Some(0).filter(|_| source::admits(interest.flags, EventKind::Delete));
        while let Some(piece) = after {
            let page = view.large_events(
                Revision::new(revision),
                piece,
                Some(&range),
                interest.flags.has(EventFlags::PREV_KV),
                self.piece_bytes,
            )?;
            let wires = page.events.iter();
            events.extend(wires.map(|event| source::encoded_event(event, interest.flags)));
            after = page.next;
        }
        let parts = match events.is_empty() {
            true => Vec::new(),
            false => vec![Arc::new(Part::new(events))],
        };
        Ok(Piece {
            parts,
            through: revision,
            store_revision: view.revision().get(),
        })
    }
}

impl History for StoreHistory {
    fn revisions(&self) -> Revisions {
        let view = self.reader.view();
        Revisions {
            current: view.revision().get(),
            compacted: view.compacted().get(),
        }
    }

    fn read(&self, interest: &Interest, from: i64) -> Result<Piece, HistoryError> {
        let (page, through, view) = self.page(from, Some(&key_range(&interest.range)))?;
        if page.is_next_large && through < from {
            return self.read_large(&view, interest, from);
        }
        let mut parts = Vec::with_capacity(page.batches.len());
        for batch in &page.batches {
            let mut events = Vec::with_capacity(batch.events.len());
            source::for_each_event(batch, |at, _, kind| {
                if source::admits(interest.flags, kind) {
                    events.push(source::encoded(batch, at, interest.flags));
                }
            });
            if !events.is_empty() {
                parts.push(Arc::new(Part::new(events)));
            }
        }
        Ok(Piece {
            parts,
            through,
            store_revision: view.revision().get(),
        })
    }

    fn batches(&self, from: i64) -> Result<Fill, HistoryError> {
        let (page, through, view) = self.page(from, None)?;
        let large = page.next.filter(|_| page.is_next_large);
        Ok(Fill {
            batches: page.batches,
            through,
            large: large.map(|revision| LargeRevision {
                revision: revision.get(),
                view,
            }),
        })
    }

    fn deleted_keys(&self, large: &LargeRevision, after: u32) -> Result<DeletedKeys, HistoryError> {
        let revision = Revision::new(large.revision);
        let page = (large.view).large_events(revision, after, None, false, self.piece_bytes)?;
        let keys = page.events.iter().map(|event| event.key.clone());
        Ok(DeletedKeys {
            keys: keys.collect(),
            next: page.next,
        })
    }
}

fn key_range(range: &WatchRange) -> KeyRange {
    match range {
        WatchRange::Key(key) => KeyRange::One(key.clone()),
        WatchRange::Span(start, end) => KeyRange::Span {
            start: start.clone(),
            end: match end {
                Upper::Before(end) => Some(end.clone()),
                Upper::Unbounded => None,
            },
        },
    }
}

impl From<MvccError> for HistoryError {
    fn from(error: MvccError) -> Self {
        if let MvccError::Compacted { compacted } = error {
            return Self::Compacted(compacted.get());
        }
        Self::Failed(error.to_string())
    }
}
