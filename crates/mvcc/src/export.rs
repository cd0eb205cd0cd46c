//! Exports the whole content as a resumable stream, and imports it into an empty engine.
//!
//! A chunk is a sequence of rows: space, length of the key, length of the value, key, value. A
//! resume token is the space and the key of the last row. A row never consists of zeros, since no
//! key of the first space is empty.

use std::ops::Bound;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::decode_varint;
use synod_engine::{Batch, Direction, Engine, Space};

use crate::codec::{Cursor, put_varint};
use crate::{MvccError, View};

/// Rows that an import writes in one batch.
const IMPORT_BATCH_BYTES: usize = 1 << 20;

/// Exports the rows after `resume_after` (empty: from the start): about `max_bytes`, but at least
/// one row. Also returns the next resume token, or `None` at the end. The same view and arguments
/// always give the same chunk.
///
/// # Errors
/// [`MvccError::MalformedImport`] for an invalid token, [`MvccError::Engine`].
pub fn export(
    view: &View,
    resume_after: &Bytes,
    max_bytes: usize,
) -> Result<(Bytes, Option<Bytes>), MvccError> {
    let (first, mut start) = match resume_after.first() {
        None => (0, Bound::Unbounded),
        Some(number) => {
            let space = Space::from_number(*number).ok_or(MvccError::MalformedImport {
                detail: "the resume token names an unknown space",
            })?;
            (space.index(), Bound::Excluded(resume_after.slice(1..)))
        }
    };
    let mut chunk = BytesMut::with_capacity(max_bytes.min(1 << 20));
    for space in &Space::ALL[first..] {
        let bounds = (start, Bound::Unbounded);
        for row in view.source().scan(*space, bounds, Direction::Forward) {
            let (key, value) = row?;
            chunk.put_u8(space.number());
            put_varint(&mut chunk, key.len() as u64);
            put_varint(&mut chunk, value.len() as u64);
            chunk.put_slice(&key);
            chunk.put_slice(&value);
            if chunk.len() >= max_bytes {
                let mut token = BytesMut::with_capacity(1 + key.len());
                token.put_u8(space.number());
                token.put_slice(&key);
                return Ok((chunk.freeze(), Some(token.freeze())));
            }
        }
        start = Bound::Unbounded;
    }
    Ok((chunk.freeze(), None))
}

/// Writes exported chunks, in order, into an engine that was empty.
#[derive(Debug)]
pub struct Importer {
    engine: Arc<dyn Engine>,
    batch: Batch,
    rows: u64,
}

impl Importer {
    /// Starts an import into `engine`, which must be empty.
    ///
    /// # Errors
    /// [`MvccError::MalformedImport`] if the engine is not empty, [`MvccError::Engine`].
    pub fn new(engine: Arc<dyn Engine>) -> Result<Self, MvccError> {
        let snapshot = engine.snapshot();
        for space in Space::ALL {
            let all = (Bound::Unbounded, Bound::Unbounded);
            if snapshot
                .scan(space, all, Direction::Forward)
                .next()
                .is_some()
            {
                return Err(MvccError::MalformedImport {
                    detail: "the engine is not empty",
                });
            }
        }
        Ok(Self {
            engine,
            batch: Batch::new(),
            rows: 0,
        })
    }

    /// Writes a chunk.
    ///
    /// # Errors
    /// [`MvccError::MalformedImport`], [`MvccError::Engine`]. After an error, destroy the engine.
    pub fn write(&mut self, chunk: Bytes) -> Result<(), MvccError> {
        let mut cursor = Cursor::new(chunk);
        while !cursor.is_empty() {
            let (space, key, value) = row(&mut cursor).ok_or(MvccError::MalformedImport {
                detail: "a row is truncated or its space is unknown",
            })?;
            // Copied, because rows are kept and slices would keep whole chunks in memory.
            let (key, value) = (Bytes::copy_from_slice(&key), Bytes::copy_from_slice(&value));
            self.batch.put(space, key, value);
            self.rows += 1;
            if self.batch.bytes() >= IMPORT_BATCH_BYTES {
                self.engine.write(std::mem::take(&mut self.batch))?;
            }
        }
        Ok(())
    }

    /// Ends the import and makes it durable against power loss. Returns the number of rows.
    ///
    /// # Errors
    /// [`MvccError::Engine`].
    pub fn finish(&mut self) -> Result<u64, MvccError> {
        self.engine.write(std::mem::take(&mut self.batch))?;
        self.engine.persist()?;
        Ok(self.rows)
    }
}

fn row(cursor: &mut Cursor) -> Option<(Space, Bytes, Bytes)> {
    let space = Space::from_number(cursor.u8()?)?;
    let (key, value) = (cursor.length()?, cursor.length()?);
    if key == 0 && space.number() == 0 {
        return None;
    }
    Some((space, cursor.take(key)?, cursor.take(value)?))
}

/// The length of the whole rows at the start of `stream`, in bytes. The rest is the start of
/// another row, or empty.
#[must_use]
pub fn whole_rows(stream: &[u8]) -> usize {
    let mut rest = stream;
    while let Some(after) = after_row(rest) {
        rest = after;
    }
    stream.len() - rest.len()
}

fn after_row(stream: &[u8]) -> Option<&[u8]> {
    let (number, mut rest) = stream.split_first()?;
    Space::from_number(*number)?;
    let mut length = || usize::try_from(decode_varint(&mut rest).ok()?).ok();
    let (key, value) = (length()?, length()?);
    if key == 0 && *number == 0 {
        return None;
    }
    rest.get(key.checked_add(value)?..)
}
