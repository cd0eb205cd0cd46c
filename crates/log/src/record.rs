//! The format of a record: a fixed header with its own checksum, followed by the payload.
//!
//! ```text
//!  0 u32 header checksum   CRC32C over log id, segment sequence, offset in the segment and bytes 4..80
//!  4 u32 payload checksum  CRC32C over the payload
//!  8 u32 payload length    bytes
//! 12 u32 batch start       offset at which this record's batch begins in the segment
//! 16 u64 batch             number of the batch, rising through the whole log
//! 24 u8  kind, u8 detail (entry kind, or whether there is a vote), 6 bytes zero
//! 32 u64 group
//! 40 u64 index             entry, truncation point, commit or start index; oldest segment in a horizon
//! 48 u64 ballot round      56 u64 ballot node
//! 64 u64 request's node, or the vote
//! 72 u64 request's number
//! 80 payload, padded with zeros to a multiple of 8
//! ```
//! All numbers are little-endian. The header's checksum covers the segment's identity and the
//! offset, which are not stored. So neither stale records of a recycled segment nor misdirected
//! writes are accepted as records. The header and the payload have separate checksums, so a damaged
//! payload still shows which entry it was.

use bytes::{Bytes, BytesMut};
use synod_consensus_core::{Entry, EntryFields, EntryKind, HardState, Membership, SnapshotMeta};
use synod_types::{Ballot, GroupId, Index, LogPosition, NodeId, RequestId};

/// Size of a record's header in bytes.
pub(crate) const RECORD_HEADER_BYTES: u64 = 80;
const HEADER: usize = 80;
/// Records start at multiples of this.
pub(crate) const ALIGNMENT: u64 = 8;

/// A segment's identity, included in every checksum of the segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SegmentId {
    /// The log's random number, the same in all its segments.
    pub(crate) log: u64,
    /// The segment's position in the log; never reused.
    pub(crate) sequence: u64,
}

impl SegmentId {
    fn seed(self) -> u32 {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.log.to_le_bytes());
        bytes[8..].copy_from_slice(&self.sequence.to_le_bytes());
        crc32c::crc32c(&bytes)
    }
}

/// The kind of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Kind {
    Put = 1,
    Truncate = 2,
    Reset = 3,
    HardState = 4,
    Release = 5,
    Forget = 6,
    /// Segments before `index` are no longer needed.
    Horizon = 7,
    /// The segment ends here, and the next one exists.
    Seal = 8,
    /// Carries no data. Its existence proves that the batch before it was durable.
    Mark = 9,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Put,
            2 => Self::Truncate,
            3 => Self::Reset,
            4 => Self::HardState,
            5 => Self::Release,
            6 => Self::Forget,
            7 => Self::Horizon,
            8 => Self::Seal,
            9 => Self::Mark,
            _ => return None,
        })
    }
}

/// The fixed fields of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fields {
    pub(crate) kind: Kind,
    pub(crate) detail: u8,
    pub(crate) group: u64,
    pub(crate) index: u64,
    pub(crate) round: u64,
    pub(crate) node: u64,
    pub(crate) origin: u64,
    pub(crate) number: u64,
}

impl Fields {
    const fn bare(kind: Kind, group: GroupId) -> Self {
        Self {
            kind,
            detail: 0,
            group: group.get(),
            index: 0,
            round: 0,
            node: 0,
            origin: 0,
            number: 0,
        }
    }

    pub(crate) fn put(group: GroupId, entry: &Entry) -> Self {
        Self {
            detail: match entry.kind {
                EntryKind::Noop => 0,
                EntryKind::Normal => 1,
                EntryKind::Config => 2,
            },
            index: entry.index.get(),
            round: entry.ballot.round,
            node: entry.ballot.node,
            origin: entry.id.node.get(),
            number: entry.id.seq,
            ..Self::bare(Kind::Put, group)
        }
    }

    pub(crate) fn truncate(group: GroupId, from: Index) -> Self {
        Self {
            index: from.get(),
            ..Self::bare(Kind::Truncate, group)
        }
    }

    pub(crate) fn hard_state(group: GroupId, state: &HardState) -> Self {
        Self {
            detail: u8::from(state.vote.is_some()),
            index: state.commit.get(),
            round: state.ballot.round,
            node: state.ballot.node,
            origin: state.vote.map_or(0, NodeId::get),
            ..Self::bare(Kind::HardState, group)
        }
    }

    /// Fields of a reset or a release. The payload is the membership.
    pub(crate) fn start(kind: Kind, group: GroupId, meta: &SnapshotMeta) -> Self {
        Self {
            index: meta.last.index.get(),
            round: meta.last.ballot.round,
            node: meta.last.ballot.node,
            ..Self::bare(kind, group)
        }
    }

    pub(crate) fn forget(group: GroupId) -> Self {
        Self::bare(Kind::Forget, group)
    }

    pub(crate) fn horizon(oldest: u64) -> Self {
        Self {
            index: oldest,
            ..Self::bare(Kind::Horizon, GroupId::new(0))
        }
    }

    pub(crate) fn seal() -> Self {
        Self::bare(Kind::Seal, GroupId::new(0))
    }

    pub(crate) fn mark() -> Self {
        Self::bare(Kind::Mark, GroupId::new(0))
    }

    fn ballot(&self) -> Ballot {
        Ballot {
            round: self.round,
            node: self.node,
        }
    }
}

/// A record's position among the batches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BatchId {
    /// Increases through the whole log.
    pub(crate) number: u64,
    /// Offset of the batch's first record in its segment.
    pub(crate) start: u32,
}

/// A record header with a valid checksum.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub(crate) batch: BatchId,
    pub(crate) payload_len: u32,
    payload_crc: u32,
    pub(crate) fields: Fields,
}

/// The result of parsing at an offset of a segment.
#[derive(Debug)]
pub(crate) enum Parsed<'a> {
    /// A complete record.
    Record { header: Header, payload: &'a [u8] },
    /// A valid header whose payload is damaged.
    DamagedPayload(Header),
    /// No record of this segment.
    Nothing,
}

/// The size of a record with this payload in bytes, including padding.
pub(crate) const fn record_bytes(payload_len: u64) -> u64 {
    RECORD_HEADER_BYTES + payload_len.next_multiple_of(ALIGNMENT)
}

/// Encodes headers and checks records of one segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecordCodec {
    seed: u32,
}

impl RecordCodec {
    pub(crate) fn new(segment: SegmentId) -> Self {
        Self {
            seed: segment.seed(),
        }
    }

    /// Encodes the header of a record at `offset`.
    pub(crate) fn header(
        self,
        offset: u64,
        batch: BatchId,
        fields: &Fields,
        payload: &[u8],
        payload_len: u32,
    ) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        put(&mut out, 4, &crc32c::crc32c(payload).to_le_bytes());
        put(&mut out, 8, &payload_len.to_le_bytes());
        put(&mut out, 12, &batch.start.to_le_bytes());
        put(&mut out, 16, &batch.number.to_le_bytes());
        out[24] = fields.kind as u8;
        out[25] = fields.detail;
        let numbers = [
            fields.group,
            fields.index,
            fields.round,
            fields.node,
            fields.origin,
            fields.number,
        ];
        for (slot, number) in numbers.iter().enumerate() {
            put(&mut out, 32 + 8 * slot, &number.to_le_bytes());
        }
        let checksum = self.checksum(offset, &out);
        put(&mut out, 0, &checksum.to_le_bytes());
        out
    }

    /// Parses the record at `offset`. `segment` is the whole segment.
    pub(crate) fn parse(self, segment: &[u8], offset: u64) -> Parsed<'_> {
        let Some((header, body)) = self.parse_header(segment, offset) else {
            return Parsed::Nothing;
        };
        let payload = usize::try_from(header.payload_len)
            .ok()
            .and_then(|len| body.get(..len));
        match payload {
            Some(payload) if crc32c::crc32c(payload) == header.payload_crc => {
                Parsed::Record { header, payload }
            }
            _ => Parsed::DamagedPayload(header),
        }
    }

    /// The valid header at `offset`, and the bytes after it.
    pub(crate) fn parse_header(self, segment: &[u8], offset: u64) -> Option<(Header, &[u8])> {
        let rest = segment.get(usize::try_from(offset).ok()?..)?;
        let (bytes, body) = rest.split_first_chunk::<HEADER>()?;
        // The cheap tests come first: the search for later records calls this at every eighth byte.
        let kind = Kind::from_byte(bytes[24])?;
        if bytes[26..32] != [0; 6] || u32_at(bytes, 0) != self.checksum(offset, bytes) {
            return None;
        }
        let header = Header {
            batch: BatchId {
                number: u64_at(bytes, 16),
                start: u32_at(bytes, 12),
            },
            payload_len: u32_at(bytes, 8),
            payload_crc: u32_at(bytes, 4),
            fields: Fields {
                kind,
                detail: bytes[25],
                group: u64_at(bytes, 32),
                index: u64_at(bytes, 40),
                round: u64_at(bytes, 48),
                node: u64_at(bytes, 56),
                origin: u64_at(bytes, 64),
                number: u64_at(bytes, 72),
            },
        };
        Some((header, body))
    }

    fn checksum(self, offset: u64, header: &[u8; HEADER]) -> u32 {
        let mut input = [0; HEADER + 4];
        input[..8].copy_from_slice(&offset.to_le_bytes());
        input[8..].copy_from_slice(&header[4..]);
        crc32c::crc32c_append(self.seed, &input)
    }
}

/// A decoded record.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Record {
    Put(GroupId, Entry),
    Truncate(GroupId, Index),
    Reset(GroupId, SnapshotMeta),
    HardState(GroupId, HardState),
    Release(GroupId, SnapshotMeta),
    Forget(GroupId),
    Horizon(u64),
    Seal,
    Mark,
}

impl Record {
    /// Decodes a record from valid `fields` and `payload`, which is copied. The error says what is
    /// inconsistent.
    pub(crate) fn decode(fields: &Fields, payload: &[u8]) -> Result<Self, &'static str> {
        let group = GroupId::new(fields.group);
        let index = Index::new(fields.index);
        Ok(match fields.kind {
            Kind::Put => Self::Put(group, decode_entry(fields, payload)?),
            Kind::Truncate => Self::Truncate(group, index),
            Kind::Reset => Self::Reset(group, decode_start(fields, payload)?),
            Kind::Release => Self::Release(group, decode_start(fields, payload)?),
            Kind::HardState => Self::HardState(
                group,
                HardState {
                    ballot: fields.ballot(),
                    vote: (fields.detail != 0).then(|| NodeId::new(fields.origin)),
                    commit: index,
                },
            ),
            Kind::Forget => Self::Forget(group),
            Kind::Horizon => Self::Horizon(fields.index),
            Kind::Seal => Self::Seal,
            Kind::Mark => Self::Mark,
        })
    }
}

fn decode_entry(fields: &Fields, payload: &[u8]) -> Result<Entry, &'static str> {
    Ok(Entry::from(EntryFields {
        index: Index::new(fields.index),
        ballot: fields.ballot(),
        id: RequestId {
            node: NodeId::new(fields.origin),
            seq: fields.number,
        },
        kind: match fields.detail {
            0 => EntryKind::Noop,
            1 => EntryKind::Normal,
            2 => EntryKind::Config,
            _ => return Err("unknown entry kind"),
        },
        data: Bytes::copy_from_slice(payload),
    }))
}

fn decode_start(fields: &Fields, payload: &[u8]) -> Result<SnapshotMeta, &'static str> {
    let mut rest = Bytes::copy_from_slice(payload);
    let membership = Membership::decode(&mut rest).map_err(|_| "malformed membership")?;
    if !rest.is_empty() {
        return Err("trailing bytes after the membership");
    }
    Ok(SnapshotMeta {
        last: LogPosition {
            ballot: fields.ballot(),
            index: Index::new(fields.index),
        },
        membership,
    })
}

/// Encodes the payload of a reset or release.
pub(crate) fn encode_membership(membership: &Membership) -> Bytes {
    let mut out = BytesMut::new();
    membership.encode(&mut out);
    out.freeze()
}

fn put<const N: usize>(out: &mut [u8; HEADER], at: usize, bytes: &[u8; N]) {
    out[at..at + N].copy_from_slice(bytes);
}

fn u32_at(bytes: &[u8; HEADER], at: usize) -> u32 {
    let mut out = [0; 4];
    out.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(out)
}

fn u64_at(bytes: &[u8; HEADER], at: usize) -> u64 {
    let mut out = [0; 8];
    out.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: SegmentId = SegmentId {
        log: 0xfeed,
        sequence: 3,
    };
    const BATCH: BatchId = BatchId {
        number: 9,
        start: 4096,
    };

    fn entry(data: &'static [u8]) -> Entry {
        Entry::from(EntryFields {
            index: Index::new(5),
            ballot: Ballot { round: 2, node: 1 },
            id: RequestId {
                node: NodeId::new(7),
                seq: 8,
            },
            kind: EntryKind::Normal,
            data: Bytes::from_static(data),
        })
    }

    fn meta() -> SnapshotMeta {
        let mut membership = Membership::of([1, 2, 3].map(NodeId::new));
        membership.learners.insert(NodeId::new(4));
        SnapshotMeta {
            last: entry(b"").position(),
            membership,
        }
    }

    fn segment(segment: SegmentId, offset: u64, fields: &Fields, payload: &[u8]) -> Vec<u8> {
        let len = u32::try_from(payload.len()).unwrap();
        let header = RecordCodec::new(segment).header(offset, BATCH, fields, payload, len);
        let mut out = vec![0; usize::try_from(offset).unwrap()];
        out.extend_from_slice(&header);
        out.extend_from_slice(payload);
        out
    }

    #[test]
    fn every_kind_survives_the_round_trip() {
        let group = GroupId::new(6);
        let hard_state = HardState {
            ballot: Ballot::term(4),
            vote: Some(NodeId::new(2)),
            commit: Index::new(3),
        };
        let start = encode_membership(&meta().membership);
        let data = entry(b"value");
        let none = HardState {
            vote: None,
            ..hard_state
        };
        let cases = [
            (
                Fields::put(group, &data),
                &data.data,
                Record::Put(group, data.clone()),
            ),
            (
                Fields::truncate(group, Index::new(2)),
                &Bytes::new(),
                Record::Truncate(group, Index::new(2)),
            ),
            (
                Fields::start(Kind::Reset, group, &meta()),
                &start,
                Record::Reset(group, meta()),
            ),
            (
                Fields::start(Kind::Release, group, &meta()),
                &start,
                Record::Release(group, meta()),
            ),
            (
                Fields::hard_state(group, &hard_state),
                &Bytes::new(),
                Record::HardState(group, hard_state),
            ),
            (
                Fields::hard_state(group, &none),
                &Bytes::new(),
                Record::HardState(group, none),
            ),
            (Fields::forget(group), &Bytes::new(), Record::Forget(group)),
            (Fields::horizon(5), &Bytes::new(), Record::Horizon(5)),
            (Fields::seal(), &Bytes::new(), Record::Seal),
            (Fields::mark(), &Bytes::new(), Record::Mark),
        ];
        for (fields, payload, expected) in cases {
            let bytes = segment(SEGMENT, 16, &fields, payload);
            let Parsed::Record { header, payload } = RecordCodec::new(SEGMENT).parse(&bytes, 16)
            else {
                panic!("{expected:?} not found");
            };
            assert_eq!(header.fields, fields);
            assert_eq!(header.batch, BATCH);
            assert_eq!(Record::decode(&header.fields, payload), Ok(expected));
        }
    }

    #[test]
    fn the_bytes_of_a_record_are_fixed() {
        let bytes = segment(
            SEGMENT,
            8,
            &Fields::put(GroupId::new(6), &entry(b"v")),
            b"v",
        );
        let expected = "b7c3822cb4e04405010000000010000009000000000000000101000000000000\
                        0600000000000000050000000000000002000000000000000100000000000000\
                        0700000000000000080000000000000076";
        let hex: String = bytes[8..]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(hex, expected);
    }

    #[test]
    fn a_record_is_valid_only_in_its_segment_and_at_its_offset() {
        let fields = Fields::put(GroupId::new(6), &entry(b"value"));
        let bytes = segment(SEGMENT, 16, &fields, b"value");
        for sequence in 4..2000 {
            let other = RecordCodec::new(SegmentId {
                sequence,
                ..SEGMENT
            });
            assert!(other.parse_header(&bytes, 16).is_none(), "{sequence}");
        }
        let moved = segment(SEGMENT, 24, &fields, b"value");
        assert!(
            RecordCodec::new(SEGMENT)
                .parse_header(&moved[8..], 16)
                .is_none()
        );
    }

    #[test]
    fn a_flipped_bit_is_detected_in_header_or_payload() {
        let fields = Fields::put(GroupId::new(6), &entry(b"value"));
        let bytes = segment(SEGMENT, 0, &fields, b"value");
        let codec = RecordCodec::new(SEGMENT);
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            match codec.parse(&bytes, 0) {
                Parsed::Nothing => assert!(bit < HEADER * 8, "bit {bit}"),
                Parsed::DamagedPayload(header) => {
                    assert!(bit >= HEADER * 8, "bit {bit}");
                    assert_eq!(header.fields, fields);
                }
                Parsed::Record { .. } => panic!("bit {bit} unnoticed"),
            }
        }
        assert!(matches!(
            codec.parse(&bytes[..84], 0),
            Parsed::DamagedPayload(_)
        ));
        assert!(matches!(codec.parse(&bytes[..79], 0), Parsed::Nothing));
    }

    #[test]
    fn invalid_records_with_valid_checksums_are_refused() {
        let mut fields = Fields::put(GroupId::new(6), &entry(b""));
        fields.detail = 3;
        assert_eq!(Record::decode(&fields, b""), Err("unknown entry kind"));
        let fields = Fields::start(Kind::Reset, GroupId::new(6), &meta());
        assert_eq!(Record::decode(&fields, b"x"), Err("malformed membership"));
        let mut long = encode_membership(&meta().membership).to_vec();
        long.push(0);
        assert_eq!(
            Record::decode(&fields, &long),
            Err("trailing bytes after the membership")
        );
    }
}
