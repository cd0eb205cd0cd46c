//! Encodes the records of one write.

use std::io::IoSlice;

use bytes::Bytes;

use crate::record::{ALIGNMENT, BatchId, Fields, RECORD_HEADER_BYTES, RecordCodec, record_bytes};

/// Payloads of at least this size are written in place; smaller ones are copied into one buffer.
const BORROW_BYTES: usize = 16 * 1024;
/// A buffer that a large batch has grown beyond this size is freed.
const KEEP_BYTES: usize = 4 << 20;

/// Records for one segment that are written in one write and become durable in one sync.
#[derive(Debug)]
pub(crate) struct Batch {
    codec: RecordCodec,
    id: BatchId,
    /// The offset of the batch in the segment, and of its next record.
    start: u64,
    end: u64,
    records: u64,
    gathered: Vec<u8>,
    /// Large payloads, each with the number of buffered bytes before it.
    borrowed: Vec<(usize, Bytes)>,
}

impl Batch {
    pub(crate) const fn new(codec: RecordCodec) -> Self {
        Self {
            codec,
            id: BatchId {
                number: 0,
                start: 0,
            },
            start: 0,
            end: 0,
            records: 0,
            gathered: Vec::new(),
            borrowed: Vec::new(),
        }
    }

    /// Starts a batch at `start`, an aligned offset. Reuses the previous batch's memory.
    pub(crate) fn begin(&mut self, codec: RecordCodec, number: u64, start: u64) {
        self.codec = codec;
        self.id = BatchId {
            number,
            // Segment sizes fit in 32 bits, see `LogCoreConfig`.
            start: u32::try_from(start).unwrap_or(u32::MAX),
        };
        self.start = start;
        self.end = start;
        self.records = 0;
        self.gathered.clear();
        self.gathered.shrink_to(KEEP_BYTES);
        self.borrowed.clear();
    }

    pub(crate) fn push(&mut self, fields: &Fields, payload: &Bytes) {
        // Longer payloads are refused on append.
        let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let header = self.codec.header(self.end, self.id, fields, payload, len);
        self.gathered.extend_from_slice(&header);
        if payload.len() >= BORROW_BYTES {
            self.borrowed.push((self.gathered.len(), payload.clone()));
        } else {
            self.gathered.extend_from_slice(payload);
        }
        let size = record_bytes(u64::from(len));
        let padding = size - RECORD_HEADER_BYTES - u64::from(len);
        const ZEROS: [u8; 8] = [0; 8];
        debug_assert!(padding < ALIGNMENT);
        self.gathered
            .extend(ZEROS.iter().take(usize::try_from(padding).unwrap_or(0)));
        self.end += size;
        self.records += 1;
    }

    /// The batch's offset in the segment.
    pub(crate) const fn start(&self) -> u64 {
        self.start
    }

    /// The offset of the next record.
    pub(crate) const fn end(&self) -> u64 {
        self.end
    }

    /// The number of records.
    pub(crate) const fn records(&self) -> u64 {
        self.records
    }

    /// The batch's bytes, in order.
    pub(crate) fn parts(&self) -> Vec<IoSlice<'_>> {
        let mut parts = Vec::with_capacity(2 * self.borrowed.len() + 1);
        let mut done = 0;
        for (at, payload) in &self.borrowed {
            parts.push(IoSlice::new(&self.gathered[done..*at]));
            parts.push(IoSlice::new(payload));
            done = *at;
        }
        if done < self.gathered.len() {
            parts.push(IoSlice::new(&self.gathered[done..]));
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use synod_types::{GroupId, Index};

    use super::*;
    use crate::record::{Parsed, SegmentId};

    #[test]
    fn small_payloads_are_copied_and_large_ones_borrowed() {
        let codec = RecordCodec::new(SegmentId {
            log: 1,
            sequence: 1,
        });
        let mut batch = Batch::new(codec);
        batch.begin(codec, 3, 4096);
        let sizes = [0, 1, 8, BORROW_BYTES - 1, BORROW_BYTES, BORROW_BYTES + 3, 5];
        for (i, size) in sizes.iter().enumerate() {
            let fields = Fields::truncate(GroupId::new(1), Index::new(i as u64));
            batch.push(&fields, &Bytes::from(vec![7; *size]));
        }
        let parts = batch.parts();
        assert_eq!(parts.len(), 5);
        let mut segment = vec![0; 4096];
        for part in &parts {
            segment.extend_from_slice(part);
        }
        assert_eq!(segment.len() as u64, batch.end());
        let mut offset = 4096;
        for (i, size) in sizes.iter().enumerate() {
            let Parsed::Record { header, payload } = codec.parse(&segment, offset) else {
                panic!("record {i}");
            };
            assert_eq!(header.fields.index, i as u64);
            assert_eq!(header.batch.start, 4096);
            assert_eq!(payload, vec![7; *size]);
            offset += record_bytes(*size as u64);
        }
        assert_eq!(offset, batch.end());
    }
}
