//! etcd's `mvccpb.KeyValue` and `mvccpb.Event` in wire form. They are encoded once and then passed
//! on.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::decode_varint;

use crate::codec::{put_bytes, put_varint, varint_len};
use crate::{EventKind, LeaseId, MvccError, Revision};

// Tags of KeyValue: field number and wire type.
const KEY: u8 = 0x0a;
const CREATE_REVISION: u8 = 0x10;
const MOD_REVISION: u8 = 0x18;
const VERSION: u8 = 0x20;
const VALUE: u8 = 0x2a;
const LEASE: u8 = 0x30;

// Tags of Event.
const EVENT_TYPE: u8 = 0x08;
const EVENT_KV: u8 = 0x12;
const EVENT_PREV_KV: u8 = 0x1a;

/// The fields of a key's version.
pub(crate) struct KeyValueFields<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) create: Revision,
    pub(crate) modified: Revision,
    pub(crate) version: i64,
    pub(crate) value: &'a [u8],
    pub(crate) lease: LeaseId,
}

impl KeyValueFields<'_> {
    /// Encodes the wire form, with fields in ascending order, in a separate buffer.
    pub(crate) fn encode(&self) -> Bytes {
        let integers = [
            (CREATE_REVISION, self.create.get()),
            (MOD_REVISION, self.modified.get()),
            (VERSION, self.version),
        ];
        let mut length = 0;
        for (_, value) in integers {
            length += integer_len(value);
        }
        length += bytes_len(self.key) + bytes_len(self.value) + integer_len(self.lease.get());
        let mut buffer = BytesMut::with_capacity(length);
        put_field(&mut buffer, KEY, self.key);
        for (tag, value) in integers {
            put_integer(&mut buffer, tag, value);
        }
        put_field(&mut buffer, VALUE, self.value);
        put_integer(&mut buffer, LEASE, self.lease.get());
        buffer.freeze()
    }
}

/// The wire form for a deletion: key and revision.
pub(crate) fn tombstone(key: &[u8], modified: Revision) -> Bytes {
    KeyValueFields {
        key,
        create: Revision::ZERO,
        modified,
        version: 0,
        value: &[],
        lease: LeaseId::NONE,
    }
    .encode()
}

fn integer_len(value: i64) -> usize {
    if value == 0 {
        0
    } else {
        1 + varint_len(value.cast_unsigned())
    }
}

fn bytes_len(bytes: &[u8]) -> usize {
    if bytes.is_empty() {
        0
    } else {
        1 + varint_len(bytes.len() as u64) + bytes.len()
    }
}

fn put_integer(buffer: &mut BytesMut, tag: u8, value: i64) {
    if value != 0 {
        buffer.put_u8(tag);
        put_varint(buffer, value.cast_unsigned());
    }
}

fn put_field(buffer: &mut BytesMut, tag: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        buffer.put_u8(tag);
        put_bytes(buffer, bytes);
    }
}

/// The decoded fields of a stored `KeyValue`, and where its value starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValueView {
    /// Revision at which the key was created.
    pub create: Revision,
    /// Revision of the last change.
    pub modified: Revision,
    /// The number of changes since the creation; 1 for a new key.
    pub version: i64,
    /// The attached lease.
    pub lease: LeaseId,
    key: Range<usize>,
    value: Range<usize>,
    // The offset where the fields before the value end.
    head: usize,
}

impl KeyValueView {
    /// Parses a record that this crate encoded.
    ///
    /// # Errors
    /// [`MvccError::Corrupt`] for anything else.
    pub fn parse(record: &[u8]) -> Result<Self, MvccError> {
        Self::try_parse(record).ok_or_else(|| MvccError::corrupt("undecodable key-value record"))
    }

    fn try_parse(record: &[u8]) -> Option<Self> {
        let mut view = Self {
            create: Revision::ZERO,
            modified: Revision::ZERO,
            version: 0,
            lease: LeaseId::NONE,
            key: 0..0,
            value: 0..0,
            head: record.len(),
        };
        let mut rest = record;
        while let Some((tag, tail)) = rest.split_first() {
            let at = record.len() - rest.len();
            rest = tail;
            let number = decode_varint(&mut rest).ok()?;
            let start = record.len() - rest.len();
            match *tag {
                KEY | VALUE => {
                    let length = usize::try_from(number).ok()?;
                    rest = rest.get(length..)?;
                    if *tag == KEY {
                        view.key = start..start + length;
                    } else {
                        view.value = start..start + length;
                        view.head = at;
                    }
                }
                CREATE_REVISION => view.create = Revision::new(number.cast_signed()),
                MOD_REVISION => view.modified = Revision::new(number.cast_signed()),
                VERSION => view.version = number.cast_signed(),
                LEASE => {
                    view.lease = LeaseId::new(number.cast_signed());
                    view.head = view.head.min(at);
                }
                _ => return None,
            }
        }
        (view.modified > Revision::ZERO).then_some(view)
    }

    /// The key; shares the record's buffer.
    #[must_use]
    pub fn key(&self, record: &Bytes) -> Bytes {
        record.slice(self.key.clone())
    }

    /// The value within the record.
    #[must_use]
    pub fn value<'a>(&self, record: &'a [u8]) -> &'a [u8] {
        record.get(self.value.clone()).unwrap_or_default()
    }

    /// The record without value and lease. Shares the record's buffer.
    #[must_use]
    pub fn keys_only(&self, record: &Bytes) -> Bytes {
        record.slice(..self.head)
    }

    /// The record without its value but with its lease.
    #[must_use]
    pub fn without_value(&self, record: &Bytes) -> Bytes {
        if !self.lease.is_some() {
            return self.keys_only(record);
        }
        let mut buffer = BytesMut::with_capacity(self.head + integer_len(self.lease.get()));
        buffer.put_slice(&record[..self.head]);
        put_integer(&mut buffer, LEASE, self.lease.get());
        buffer.freeze()
    }
}

/// Encodes an `mvccpb.Event`.
pub(crate) fn event(kind: EventKind, kv: &[u8], prev_kv: Option<&[u8]>) -> Bytes {
    let prev_kv = prev_kv.unwrap_or_default();
    let length = 2 + bytes_len(kv) + bytes_len(prev_kv);
    let mut buffer = BytesMut::with_capacity(length);
    match kind {
        EventKind::Put => {}
        EventKind::Delete => {
            buffer.put_u8(EVENT_TYPE);
            buffer.put_u8(1);
        }
    }
    put_field(&mut buffer, EVENT_KV, kv);
    put_field(&mut buffer, EVENT_PREV_KV, prev_kv);
    buffer.freeze()
}

/// A row's contribution to `live_bytes`; signed, so that it can be subtracted.
pub(crate) fn live_bytes(key: &[u8], value: &[u8]) -> i64 {
    i64::try_from(key.len() + value.len()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(value: &[u8], lease: i64) -> Bytes {
        KeyValueFields {
            key: b"key",
            create: Revision::new(7),
            modified: Revision::new(300),
            version: 2,
            value,
            lease: LeaseId::new(lease),
        }
        .encode()
    }

    #[test]
    fn golden_bytes() {
        assert_eq!(
            &record(b"v", 5)[..],
            b"\x0a\x03key\x10\x07\x18\xac\x02\x20\x02\x2a\x01v\x30\x05"
        );
        assert_eq!(&tombstone(b"k", Revision::new(3))[..], b"\x0a\x01k\x18\x03");
        assert_eq!(
            &event(EventKind::Delete, b"ab", Some(b"c"))[..],
            b"\x08\x01\x12\x02ab\x1a\x01c"
        );
        assert_eq!(&event(EventKind::Put, b"ab", None)[..], b"\x12\x02ab");
    }

    #[test]
    fn encoded_fields_are_parsed() {
        for (value, lease) in [(&b"v"[..], 5), (b"", 5), (b"v", 0), (b"", 0), (b"v", -9)] {
            let record = record(value, lease);
            let view = KeyValueView::parse(&record).unwrap();
            assert_eq!(view.key(&record), "key");
            assert_eq!(view.value(&record), value);
            assert_eq!(view.lease, LeaseId::new(lease));
            assert_eq!(
                (view.create.get(), view.modified.get(), view.version),
                (7, 300, 2)
            );
            let keys_only = view.keys_only(&record);
            assert_eq!(&keys_only[..], b"\x0a\x03key\x10\x07\x18\xac\x02\x20\x02");
            let with_lease = view.without_value(&record);
            let again = KeyValueView::parse(&with_lease).unwrap();
            assert_eq!(
                (again.lease, again.value(&with_lease)),
                (view.lease, &b""[..])
            );
        }
    }

    #[test]
    fn truncated_records_are_refused() {
        let record = record(b"value", 5);
        for length in [0, 1, 4, 14] {
            assert!(KeyValueView::parse(&record[..length]).is_err(), "{length}");
        }
    }
}
