//! The format of a segment file: a header block, then records up to its capacity.
//!
//! The header block has 4096 bytes, of which 64 are used:
//!
//! ```text
//!  0 "SYNODLOG"   8 u32 format version   12 u32 flags (1: recycled)
//! 16 u64 log id  24 u64 sequence         32 u64 capacity in bytes, header block included
//! 60 u32 CRC32C over bytes 0..60
//! ```
//! Magic, version and checksum have the same place in all versions, so that a newer format is
//! distinguished from damage.

use crate::record::SegmentId;

/// The offset of the first record.
pub(crate) const SEGMENT_HEADER_BYTES: u64 = 4096;
/// The format version that this code writes, and the only one that it reads.
pub(crate) const FORMAT_VERSION: u32 = 1;

const MAGIC: &[u8; 8] = b"SYNODLOG";
const USED: usize = 64;
const CHECKSUM_AT: usize = 60;
const RECYCLED: u32 = 1;
const SEGMENT_SUFFIX: &str = ".seg";
const SPARE_SUFFIX: &str = ".spare";

/// The header of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SegmentHeader {
    pub(crate) id: SegmentId,
    /// Size of the file in bytes.
    pub(crate) capacity: u64,
    /// Whether the file was another segment before. If so, anything may follow the last record; in
    /// a new file, zeros follow it.
    pub(crate) recycled: bool,
}

/// The reason why a header is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum HeaderFault {
    NotASegment,
    Newer(u32),
    Damaged,
}

impl SegmentHeader {
    /// Encodes the header block.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(4096);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        let flags = if self.recycled { RECYCLED } else { 0 };
        out.extend_from_slice(&flags.to_le_bytes());
        out.extend_from_slice(&self.id.log.to_le_bytes());
        out.extend_from_slice(&self.id.sequence.to_le_bytes());
        out.extend_from_slice(&self.capacity.to_le_bytes());
        out.resize(CHECKSUM_AT, 0);
        let checksum = crc32c::crc32c(&out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out.resize(4096, 0);
        out
    }

    /// Decodes the header at the start of `file`, which may be too short.
    pub(crate) fn decode(file: &[u8]) -> Result<Self, HeaderFault> {
        let Some(used) = file.first_chunk::<USED>() else {
            return Err(HeaderFault::Damaged);
        };
        let number = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&used[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        let half = |at: usize| {
            let mut bytes = [0; 4];
            bytes.copy_from_slice(&used[at..at + 4]);
            u32::from_le_bytes(bytes)
        };
        let intact = crc32c::crc32c(&used[..CHECKSUM_AT]) == half(CHECKSUM_AT);
        if &used[..8] != MAGIC {
            return Err(HeaderFault::NotASegment);
        }
        if !intact {
            return Err(HeaderFault::Damaged);
        }
        if half(8) != FORMAT_VERSION {
            return Err(HeaderFault::Newer(half(8)));
        }
        Ok(Self {
            id: SegmentId {
                log: number(16),
                sequence: number(24),
            },
            capacity: number(32),
            recycled: half(12) & RECYCLED != 0,
        })
    }
}

/// The file name of a segment.
pub(crate) fn segment_name(sequence: u64) -> String {
    format!("{sequence:016x}{SEGMENT_SUFFIX}")
}

/// The file name of a spare: an allocated file that will become a segment.
pub(crate) fn spare_name(number: u64) -> String {
    format!("{number:016x}{SPARE_SUFFIX}")
}

/// The role of a file in the log's directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FileRole {
    Segment(u64),
    Spare(u64),
    Unknown,
}

/// The role of the file with this name.
pub(crate) fn file_role(name: &str) -> FileRole {
    let number = |suffix: &str, canonical: fn(u64) -> String| {
        let number = u64::from_str_radix(name.strip_suffix(suffix)?, 16).ok()?;
        (canonical(number) == name).then_some(number)
    };
    if let Some(sequence) = number(SEGMENT_SUFFIX, segment_name) {
        FileRole::Segment(sequence)
    } else if let Some(number) = number(SPARE_SUFFIX, spare_name) {
        FileRole::Spare(number)
    } else {
        FileRole::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        SegmentHeader {
            id: SegmentId {
                log: 0x1122,
                sequence: 7,
            },
            capacity: 1 << 20,
            recycled: true,
        }
    }

    #[test]
    fn a_header_survives_the_round_trip_and_keeps_its_bytes() {
        let block = header().encode();
        assert_eq!(block.len(), 4096);
        assert_eq!(SegmentHeader::decode(&block), Ok(header()));
        let golden: [u8; 40] = [
            0x53, 0x59, 0x4e, 0x4f, 0x44, 0x4c, 0x4f, 0x47, 1, 0, 0, 0, 1, 0, 0, 0, 0x22, 0x11, 0,
            0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0,
        ];
        assert_eq!(block[..40], golden);
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_refused() {
        let block = header().encode();
        for bit in 0..USED * 8 {
            let mut block = block.clone();
            block[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::decode(&block).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_newer_version_is_distinguished_from_damage() {
        let mut block = header().encode();
        block[8] = 2;
        assert_eq!(SegmentHeader::decode(&block), Err(HeaderFault::Damaged));
        let checksum = crc32c::crc32c(&block[..CHECKSUM_AT]);
        block[CHECKSUM_AT..USED].copy_from_slice(&checksum.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&block), Err(HeaderFault::Newer(2)));
        assert_eq!(
            SegmentHeader::decode(&[7; 4096]),
            Err(HeaderFault::NotASegment)
        );
        assert_eq!(
            SegmentHeader::decode(&block[..63]),
            Err(HeaderFault::Damaged)
        );
    }

    #[test]
    fn file_names_determine_roles() {
        assert_eq!(file_role(&segment_name(26)), FileRole::Segment(26));
        assert_eq!(file_role(&spare_name(3)), FileRole::Spare(3));
        assert_eq!(file_role("LOCK"), FileRole::Unknown);
        assert_eq!(file_role("1.seg"), FileRole::Unknown);
        assert_eq!(file_role("+000000000000001.seg"), FileRole::Unknown);
    }
}
