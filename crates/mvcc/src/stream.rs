//! Reads a range in chunks, for results that shouldn't be in memory at once.

use bytes::Bytes;

use crate::range::Time;
use crate::{KeyRange, KeyValueView, MvccError, MvccReader, RangeQuery, Revision, SortOrder};

/// A chunk of a range's result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeChunk {
    /// Wire forms of `mvccpb.KeyValue`, in key order.
    pub kvs: Vec<Bytes>,
    /// Whether this is the last chunk. `count` and `more` are only valid then.
    pub is_last: bool,
    /// The number of keys within the range, regardless of the limit.
    pub count: u64,
    /// Whether the limit truncated the result.
    pub more: bool,
}

/// A range that is read chunk by chunk at one revision.
#[derive(Debug)]
pub struct RangeStream {
    reader: MvccReader,
    query: RangeQuery,
    revision: Revision,
    store_revision: Revision,
    chunk_bytes: usize,
    // The range still to be read; `None` after the end.
    rest: Option<KeyRange>,
    sent: usize,
}

impl RangeStream {
    pub(crate) fn new(
        reader: MvccReader,
        query: RangeQuery,
        chunk_bytes: usize,
    ) -> Result<Self, MvccError> {
        let view = reader.view();
        let revision = match view.reading().time(query.revision)? {
            Time::Current => view.revision(),
            Time::Past(revision) => revision,
        };
        Ok(Self {
            rest: Some(query.range.clone()),
            reader,
            query,
            revision,
            store_revision: view.revision(),
            chunk_bytes,
            sent: 0,
        })
    }

    /// Whether a query can be streamed. It can't if it sorts by anything but the key or has bounds
    /// on revisions.
    #[must_use]
    pub fn supports(query: &RangeQuery) -> bool {
        let by_key = query.target == crate::SortTarget::Key
            && matches!(query.order, SortOrder::None | SortOrder::Ascend);
        by_key && !query.has_filters()
    }

    /// The store's revision when the stream began. The revision that is read may be older.
    #[must_use]
    pub fn store_revision(&self) -> Revision {
        self.store_revision
    }

    /// The next chunk; `None` after the last one.
    ///
    /// # Errors
    /// [`MvccError::Compacted`] if the revision was compacted meanwhile, [`MvccError::Engine`].
    pub fn next_chunk(&mut self) -> Result<Option<RangeChunk>, MvccError> {
        let Some(rest) = self.rest.take() else {
            return Ok(None);
        };
        let view = self.reader.view();
        let reading = view.reading();
        let time = reading.time(Some(self.revision))?;
        let limit = match self.query.limit {
            0 => 0,
            limit => limit - self.sent,
        };
        if self.query.count_only || rest.is_empty() {
            let count = if rest.is_empty() {
                self.sent as u64
            } else {
                reading.count(&rest, time)?
            };
            return Ok(Some(RangeChunk {
                is_last: true,
                count,
                ..RangeChunk::default()
            }));
        }
        let (rows, ended) = reading.chunk(&rest, time, limit, self.chunk_bytes)?;
        self.sent += rows.len();
        let limited = limit > 0 && rows.len() == limit;
        let mut chunk = RangeChunk {
            is_last: ended || limited,
            ..RangeChunk::default()
        };
        if ended {
            chunk.count = self.sent as u64;
        } else if limited {
            chunk.count = reading.count(&self.query.range, time)?;
            chunk.more = chunk.count > self.sent as u64;
        } else if let Some((last, _)) = rows.last() {
            self.rest = Some(after(&rest, last));
        }
        for (_, record) in rows {
            chunk.kvs.push(if self.query.keys_only {
                KeyValueView::parse(&record)?.keys_only(&record)
            } else {
                record
            });
        }
        Ok(Some(chunk))
    }
}

/// The part of `range` after `key`.
fn after(range: &KeyRange, key: &[u8]) -> KeyRange {
    let mut start = Vec::with_capacity(key.len() + 1);
    start.extend_from_slice(key);
    start.push(0);
    KeyRange::Span {
        start: start.into(),
        end: match range {
            // No key follows within the range of a single key.
            KeyRange::One(_) => Some(Bytes::new()),
            KeyRange::Span { end, .. } => end.clone(),
        },
    }
}
