//! Reads a log back: every complete record, and a verdict about the end of the log.
//!
//! A batch is synced before the next one is written. So at the point where valid records end, what
//! follows tells an interrupted write from damage. A valid record of a *later* batch proves that
//! everything before it was durable, so unreadable data is damage. Valid records of the *same*
//! batch prove nothing, since a disk writes the pages of one batch in any order. Nothing follows
//! the last batch: damage to it looks like an interrupted write. That is why the log writes a mark
//! when it becomes idle or is closed.

use std::{collections::BTreeSet, io};

use synod_consensus_core::mutants::{Mutant, is_active};

use crate::{
    disk::{Disk, DiskFile},
    error::OpenError,
    record::{BatchId, Header, Parsed, Record, RecordCodec, SegmentId, record_bytes},
    replay::{Replay, TornTail},
    segment::{FORMAT_VERSION, HeaderFault, SEGMENT_HEADER_BYTES, SegmentHeader, segment_name},
    segment_buffer::SegmentBuffer,
};

/// An open segment.
pub(crate) struct Segment {
    pub(crate) sequence: u64,
    pub(crate) capacity: u64,
    pub(crate) file: Box<dyn DiskFile>,
}

/// The bytes of the last batch that was read. Only batches before it are known to be durable.
pub(crate) struct LastBatch {
    pub(crate) sequence: u64,
    pub(crate) start: u64,
    pub(crate) bytes: Vec<u8>,
}

/// A recovered log.
pub(crate) struct Found {
    pub(crate) replay: Replay,
    pub(crate) log: u64,
    /// The segment and the offset where writing continues.
    pub(crate) active: Segment,
    pub(crate) end: u64,
    /// The empty segment after the active one, if the log stopped while it changed segments.
    pub(crate) next: Option<Segment>,
    /// Larger than the number of every batch found in the log.
    pub(crate) next_batch: u64,
    pub(crate) last_batch: Option<LastBatch>,
    pub(crate) torn: Option<TornTail>,
    /// Segments before the horizon that were not read.
    pub(crate) leftovers: Vec<u64>,
}

/// Reads the log with the segments `sequences`, at least one.
pub(crate) fn recover(disk: &dyn Disk, sequences: &BTreeSet<u64>) -> Result<Found, OpenError> {
    let newest = sequences.last().copied().unwrap_or(0);
    // A crash may have undone some removals, so there can be gaps before the horizon, which is
    // known only at the end.
    let oldest = (0..=newest)
        .rev()
        .take_while(|sequence| sequences.contains(sequence))
        .last()
        .unwrap_or(newest);
    let mut reader = Reader::new(disk);
    let end = reader.read_all(oldest, newest)?;
    if oldest > reader.replay.horizon.max(1) {
        return Err(OpenError::MissingSegment {
            dir: disk.describe(),
            file: segment_name(oldest - 1),
        });
    }
    Ok(Found {
        replay: reader.replay,
        log: reader.log.unwrap_or(0),
        active: end.active,
        end: end.offset,
        next: end.next,
        next_batch: reader.highest_batch + 1,
        last_batch: reader.last_batch,
        torn: end.torn,
        leftovers: sequences.range(..oldest).copied().collect(),
    })
}

/// The end of the log.
struct LogEnd {
    active: Segment,
    offset: u64,
    next: Option<Segment>,
    torn: Option<TornTail>,
}

/// The extent of the records in one segment.
struct Extent {
    end: u64,
    sealed: bool,
    /// Why the record at `end` is invalid, if the segment is not sealed.
    fault: String,
}

struct Reader<'a> {
    disk: &'a dyn Disk,
    replay: Replay,
    log: Option<u64>,
    /// The batch of the last complete record.
    batch: BatchId,
    highest_batch: u64,
    last_batch: Option<LastBatch>,
    /// The current segment.
    bytes: SegmentBuffer,
}

impl<'a> Reader<'a> {
    fn new(disk: &'a dyn Disk) -> Self {
        Self {
            disk,
            replay: Replay::default(),
            log: None,
            batch: BatchId {
                number: 0,
                start: 0,
            },
            highest_batch: 0,
            last_batch: None,
            bytes: SegmentBuffer::default(),
        }
    }

    fn read_all(&mut self, oldest: u64, newest: u64) -> Result<LogEnd, OpenError> {
        for sequence in oldest..=newest {
            let (segment, header) = self.load(sequence)?;
            self.replay.ledger.begin_segment(sequence);
            let extent = self.scan(header.id)?;
            if extent.sealed {
                continue;
            }
            if sequence + 1 < newest {
                return Err(self.corrupt(sequence, extent.end, extent.fault));
            }
            let torn = self.judge_end(&header, &extent)?;
            let next = if sequence < newest {
                let (next, header) = self.load(newest)?;
                // The seal was durable before anything was written to the next segment.
                if self
                    .later_headers(header.id, SEGMENT_HEADER_BYTES)
                    .next()
                    .is_some()
                {
                    return Err(self.corrupt(sequence, extent.end, extent.fault));
                }
                Some(next)
            } else {
                None
            };
            return Ok(LogEnd {
                active: segment,
                offset: extent.end,
                next,
                torn,
            });
        }
        // The newest segment is sealed, which happens only after the next one was created.
        Err(OpenError::MissingSegment {
            dir: self.disk.describe(),
            file: segment_name(newest + 1),
        })
    }

    /// Loads a segment into memory and checks its header.
    fn load(&mut self, sequence: u64) -> Result<(Segment, SegmentHeader), OpenError> {
        let name = segment_name(sequence);
        let failed = |source: io::Error| {
            OpenError::io("read", format!("{}/{name}", self.disk.describe()), source)
        };
        let file = self.disk.open(&name).map_err(failed)?;
        let size = file.size().map_err(failed)?;
        let too_large = |_| failed(io::ErrorKind::FileTooLarge.into());
        // Free the previous segment first.
        self.bytes = SegmentBuffer::default();
        self.bytes =
            SegmentBuffer::new(usize::try_from(size).map_err(too_large)?).map_err(failed)?;
        file.read_at(0, self.bytes.as_mut_slice()).map_err(failed)?;
        let header = self.check_header(sequence, &name)?;
        if header.capacity != size {
            let reason = format!(
                "the file has {size} bytes, but was made with {}: it was truncated or appended to",
                header.capacity
            );
            return Err(self.corrupt(sequence, size.min(header.capacity), reason));
        }
        self.log = Some(header.id.log);
        let segment = Segment {
            sequence,
            capacity: size,
            file,
        };
        Ok((segment, header))
    }

    fn check_header(&self, sequence: u64, name: &str) -> Result<SegmentHeader, OpenError> {
        let dir = || self.disk.describe();
        let foreign = |reason: String| OpenError::Foreign {
            dir: dir(),
            file: name.to_owned(),
            reason,
        };
        let header = match SegmentHeader::decode(&self.bytes) {
            Ok(header) => header,
            Err(HeaderFault::Newer(found)) => {
                return Err(OpenError::NewerFormat {
                    dir: dir(),
                    file: name.to_owned(),
                    found,
                    supported: FORMAT_VERSION,
                });
            }
            Err(HeaderFault::NotASegment) => {
                let reason = "it does not start with the magic number of a log segment".to_owned();
                return Err(self.corrupt(sequence, 0, reason));
            }
            Err(HeaderFault::Damaged) => {
                let reason = "the segment header does not match its checksum".to_owned();
                return Err(self.corrupt(sequence, 0, reason));
            }
        };
        if let Some(log) = self.log.filter(|log| *log != header.id.log) {
            return Err(foreign(format!("log id {:x}, not {log:x}", header.id.log)));
        }
        if header.id.sequence != sequence {
            let reason = format!("it is number {:x} of its log", header.id.sequence);
            return Err(foreign(reason));
        }
        Ok(header)
    }

    /// Applies the complete records of the current segment.
    fn scan(&mut self, id: SegmentId) -> Result<Extent, OpenError> {
        let codec = RecordCodec::new(id);
        let bytes = std::mem::take(&mut self.bytes);
        let mut offset = SEGMENT_HEADER_BYTES;
        let mut sealed = false;
        let mut fault = String::new();
        while !sealed {
            let parsed = codec.parse(&bytes, offset);
            let (header, payload) = match &parsed {
                Parsed::Record { header, payload } if self.follows(header.batch, offset) => {
                    (header, *payload)
                }
                Parsed::Record { .. } | Parsed::DamagedPayload(_) | Parsed::Nothing => {
                    fault = describe(&parsed);
                    break;
                }
            };
            let record = Record::decode(&header.fields, payload)
                .map_err(|reason| self.corrupt(id.sequence, offset, reason.to_owned()))?;
            sealed = matches!(record, Record::Seal);
            self.replay.apply(record);
            self.batch = header.batch;
            offset += record_bytes(u64::from(header.payload_len));
        }
        self.highest_batch = self.highest_batch.max(self.batch.number);
        if offset > SEGMENT_HEADER_BYTES {
            let start = u64::from(self.batch.start);
            let range = usize::try_from(start).unwrap_or(0)..usize::try_from(offset).unwrap_or(0);
            self.last_batch = Some(LastBatch {
                sequence: id.sequence,
                start,
                bytes: bytes.get(range).unwrap_or_default().to_vec(),
            });
        }
        self.bytes = bytes;
        Ok(Extent {
            end: offset,
            sealed,
            fault,
        })
    }

    /// Whether a record at `offset` continues the current batch or starts a later one. Valid
    /// records of an interrupted write that was truncated earlier do neither.
    fn follows(&self, batch: BatchId, offset: u64) -> bool {
        batch == self.batch
            || (batch.number > self.batch.number && u64::from(batch.start) == offset)
    }

    /// Decides whether the records of the current segment end in an interrupted write or in damage.
    fn judge_end(
        &mut self,
        header: &SegmentHeader,
        extent: &Extent,
    ) -> Result<Option<TornTail>, OpenError> {
        let (mut traces, mut highest, mut later) = (false, self.batch.number, None);
        for (offset, found) in self.later_headers(header.id, extent.end) {
            traces |= found.batch.number >= self.batch.number;
            highest = highest.max(found.batch.number);
            let after = u64::from(found.batch.start) > extent.end;
            if later.is_none() && after && found.batch.number > self.batch.number {
                later = Some(offset);
            }
        }
        self.highest_batch = self.highest_batch.max(highest);
        let sequence = header.id.sequence;
        if let Some(later) = later
            && !is_active(Mutant::CorruptionTakenForTornTail)
        {
            let fault = &extent.fault;
            let reason = format!("{fault}, while an intact record of a later write is at {later}");
            return Err(self.corrupt(sequence, extent.end, reason));
        }
        if !traces && (header.recycled || self.is_zero_at(extent.end)) {
            return Ok(None);
        }
        let file = segment_name(sequence);
        tracing::warn!(
            segment = file,
            offset = extent.end,
            "truncating an interrupted write at the end of the log; it was never acknowledged"
        );
        Ok(Some(TornTail {
            file,
            offset: extent.end,
        }))
    }

    /// The valid record headers of the current segment, from `from` on.
    fn later_headers(
        &self,
        id: SegmentId,
        from: u64,
    ) -> impl Iterator<Item = (u64, Header)> + use<'_> {
        let codec = RecordCodec::new(id);
        let len = u64::try_from(self.bytes.len()).unwrap_or(u64::MAX);
        (from..len).step_by(8).filter_map(move |offset| {
            let (header, _) = codec.parse_header(&self.bytes, offset)?;
            Some((offset, header))
        })
    }

    /// Whether the place of the next record header is unwritten.
    fn is_zero_at(&self, offset: u64) -> bool {
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|at| self.bytes.get(at..));
        rest.is_none_or(|rest| rest.iter().take(80).all(|byte| *byte == 0))
    }

    fn corrupt(&self, sequence: u64, offset: u64, reason: String) -> OpenError {
        OpenError::Corrupt {
            dir: self.disk.describe(),
            file: segment_name(sequence),
            offset,
            reason,
        }
    }
}

fn describe(found: &Parsed<'_>) -> String {
    match found {
        Parsed::DamagedPayload(header) => format!(
            "the payload of the {:?} record of group {:x}, index {}, does not match its checksum",
            header.fields.kind, header.fields.group, header.fields.index
        ),
        Parsed::Record { header, .. } => format!(
            "the record there belongs to write {}, which was truncated earlier",
            header.batch.number
        ),
        Parsed::Nothing => "there is no intact record header".to_owned(),
    }
}
