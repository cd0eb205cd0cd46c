//! Rows of `Revisions`: the changes of each revision.
//!
//! A row holds consecutive revisions; its key is the first of them. So many small transactions that
//! are applied together cost one row. Members may group revisions differently. A revision that is
//! too large for one row has several: its numbered pieces (see [`crate::large`]).

use std::ops::Bound;

use bytes::{BufMut, Bytes, BytesMut};
use synod_engine::{Direction, Snapshot, Space};

use crate::codec::{Cursor, put_bytes, put_varint};
use crate::{EventKind, MvccError, Revision};

/// A row that is larger than this is closed.
const MAX_ROW_BYTES: usize = 16 << 10;

const PIECE_KEY_BYTES: usize = 8 + 4;

const PUT: u8 = 0;
const DELETE: u8 = 1;

/// A change as stored in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) kind: EventKind,
    pub(crate) key: Bytes,
    /// Revision of the displaced version; zero if there was none.
    pub(crate) displaced: Revision,
    /// Bytes of the displaced record.
    pub(crate) displaced_bytes: usize,
}

impl Change {
    /// The change after its displaced record was removed.
    pub(crate) fn without_displaced(&self) -> Self {
        Self {
            kind: self.kind,
            key: self.key.clone(),
            displaced: Revision::ZERO,
            displaced_bytes: 0,
        }
    }

    /// The change in the number of keys.
    pub(crate) fn growth(&self) -> i64 {
        match (self.kind, self.displaced == Revision::ZERO) {
            (EventKind::Put, true) => 1,
            (EventKind::Delete, false) => -1,
            (EventKind::Put, false) | (EventKind::Delete, true) => 0,
        }
    }
}

/// Groups changes into rows.
#[derive(Default)]
pub(crate) struct RowWriter {
    rows: Vec<(Revision, BytesMut)>,
}

impl RowWriter {
    /// Adds a revision, which must follow the last one added.
    pub(crate) fn push(&mut self, revision: Revision, changes: &[Change]) {
        let fits = self
            .rows
            .last()
            .is_some_and(|(_, row)| row.len() < MAX_ROW_BYTES);
        if !fits {
            self.rows.push((revision, BytesMut::new()));
        }
        let Some((_, row)) = self.rows.last_mut() else {
            return;
        };
        put_changes(row, changes);
    }

    /// Returns the rows, each in a separate buffer.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = (Bytes, Bytes)> {
        std::mem::take(&mut self.rows)
            .into_iter()
            .map(|(first, row)| (row_key(first), Bytes::copy_from_slice(&row)))
    }
}

fn put_changes(row: &mut BytesMut, changes: &[Change]) {
    put_varint(row, changes.len() as u64);
    for change in changes {
        row.put_u8(match change.kind {
            EventKind::Put => PUT,
            EventKind::Delete => DELETE,
        });
        put_bytes(row, &change.key);
        put_varint(row, change.displaced.get().cast_unsigned());
        put_varint(row, change.displaced_bytes as u64);
    }
}

/// The key of a piece of a large revision.
pub(crate) fn piece_key(revision: Revision, number: u32) -> Bytes {
    let mut key = BytesMut::with_capacity(PIECE_KEY_BYTES);
    key.put_slice(&revision.to_be_bytes());
    key.put_u32(number);
    key.freeze()
}

/// The row of a piece of a large revision.
pub(crate) fn piece_row(changes: &[Change]) -> Bytes {
    let mut row = BytesMut::new();
    put_changes(&mut row, changes);
    Bytes::copy_from_slice(&row)
}

fn row_key(first: Revision) -> Bytes {
    Bytes::copy_from_slice(&first.to_be_bytes())
}

/// A decoded row.
pub(crate) struct RevisionRow {
    pub(crate) first: Revision,
    /// The piece's number if the row is a piece of a large revision.
    pub(crate) piece: Option<u32>,
    /// The changes of `first` and the revisions after it.
    pub(crate) revisions: Vec<Vec<Change>>,
    /// The size of the row's key and value, in bytes.
    pub(crate) bytes: usize,
}

impl RevisionRow {
    fn decode(key: &Bytes, row: Bytes) -> Result<Self, MvccError> {
        let bytes = key.len() + row.len();
        let (first, piece) = split_row_key(key)
            .ok_or_else(|| MvccError::corrupt("revision row with a malformed key"))?;
        let mut cursor = Cursor::new(row);
        let mut revisions = Vec::new();
        while !cursor.is_empty() {
            let changes = decode_changes(&mut cursor).ok_or_else(|| {
                MvccError::corrupt(format!("undecodable revision row at {first}"))
            })?;
            revisions.push(changes);
        }
        Ok(Self {
            first,
            piece,
            revisions,
            bytes,
        })
    }

    /// The last revision of the row.
    pub(crate) fn last(&self) -> Revision {
        self.first.plus(self.revisions.len()).prev()
    }

    pub(crate) fn key(&self) -> Bytes {
        match self.piece {
            Some(number) => piece_key(self.first, number),
            None => row_key(self.first),
        }
    }

    /// The changes of all the row's revisions.
    pub(crate) fn changes(&self) -> impl Iterator<Item = &Change> {
        self.revisions.iter().flatten()
    }

    /// The row's revisions within `from..=to`, with their changes.
    pub(crate) fn within(
        &self,
        from: Revision,
        to: Revision,
    ) -> impl Iterator<Item = (Revision, &[Change])> {
        self.revisions
            .iter()
            .enumerate()
            .map(|(at, changes)| (self.first.plus(at), &changes[..]))
            .filter(move |(revision, _)| *revision >= from && *revision <= to)
    }
}

/// A row's first revision, and its number if it is a piece.
fn split_row_key(key: &[u8]) -> Option<(Revision, Option<u32>)> {
    let (first, number) = key.split_first_chunk()?;
    let number = match number.is_empty() {
        true => None,
        false => Some(u32::from_be_bytes(number.try_into().ok()?)),
    };
    Some((Revision::new(i64::from_be_bytes(*first)), number))
}

fn decode_changes(cursor: &mut Cursor) -> Option<Vec<Change>> {
    let count = cursor.length()?;
    let mut changes = Vec::new();
    for _ in 0..count {
        let kind = match cursor.u8()? {
            PUT => EventKind::Put,
            DELETE => EventKind::Delete,
            _ => return None,
        };
        changes.push(Change {
            kind,
            key: cursor.bytes()?,
            displaced: Revision::new(cursor.varint()?.cast_signed()),
            displaced_bytes: cursor.length()?,
        });
    }
    Some(changes)
}

/// The rows starting with the one that holds `from`, or with the first row if that one was removed.
pub(crate) fn rows_from(
    snapshot: &dyn Snapshot,
    from: Revision,
) -> Result<impl Iterator<Item = Result<RevisionRow, MvccError>>, MvccError> {
    let upto = (Bound::Unbounded, Bound::Included(row_key(from)));
    let holding = snapshot
        .scan(Space::Revisions, upto, Direction::Backward)
        .next()
        .transpose()?;
    let start = match holding {
        None => Bound::Unbounded,
        // This is the last piece of an earlier revision, so `from` comes after it.
        Some((key, _)) if key.len() == PIECE_KEY_BYTES => Bound::Excluded(key),
        Some((key, _)) => Bound::Included(key),
    };
    Ok(scan(snapshot, start))
}

/// The pieces of a large revision after `number`, then the rows after that revision.
pub(crate) fn rows_after_piece(
    snapshot: &dyn Snapshot,
    revision: Revision,
    number: u32,
) -> impl Iterator<Item = Result<RevisionRow, MvccError>> {
    scan(snapshot, Bound::Excluded(piece_key(revision, number)))
}

fn scan(
    snapshot: &dyn Snapshot,
    start: Bound<Bytes>,
) -> impl Iterator<Item = Result<RevisionRow, MvccError>> {
    let bounds = (start, Bound::Unbounded);
    let rows = snapshot.scan(Space::Revisions, bounds, Direction::Forward);
    rows.map(|row| {
        let (key, row) = row?;
        RevisionRow::decode(&key, row)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_round_trip() {
        let change = |kind, displaced: i64| Change {
            kind,
            key: Bytes::from_static(b"key"),
            displaced: Revision::new(displaced),
            displaced_bytes: 300,
        };
        let changes = [
            change(EventKind::Put, 0),
            change(EventKind::Delete, 1 << 40),
        ];
        let mut writer = RowWriter::default();
        writer.push(Revision::new(5), &changes);
        writer.push(Revision::new(6), &changes[..1]);
        let rows: Vec<_> = writer.take().collect();
        assert_eq!(rows.len(), 1);
        let row = RevisionRow::decode(&rows[0].0, rows[0].1.clone()).unwrap();
        assert_eq!((row.first.get(), row.last().get()), (5, 6));
        assert_eq!(row.revisions, [changes.to_vec(), changes[..1].to_vec()]);
        assert_eq!(changes.map(|change| change.growth()), [1, -1]);
        let cut = rows[0].1.slice(..rows[0].1.len() - 1);
        assert!(RevisionRow::decode(&rows[0].0, cut).is_err());
    }
}
