//! Encoding of the keys of `History` and `LeaseKeys` rows.
//!
//! A history key is the user key with each 0 byte followed by 255, then the terminator 0 1, then
//! the inverted revision. So keys keep their order, none is a prefix of another, and a key's
//! versions are sorted newest first.

use std::ops::Bound;

use bytes::{BufMut, Bytes, BytesMut};
use synod_engine::KeyBounds;

use crate::types::from_bound;
use crate::{KeyRange, LeaseId, Revision};

const ESCAPED_ZERO: [u8; 2] = [0, 0xff];
const TERMINATOR: [u8; 2] = [0, 1];
const REVISION_BYTES: usize = 8;

fn escape_into(buffer: &mut BytesMut, key: &[u8]) {
    let mut rest = key;
    while let Some(zero) = rest.iter().position(|byte| *byte == 0) {
        buffer.put_slice(&rest[..zero]);
        buffer.put_slice(&ESCAPED_ZERO);
        rest = &rest[zero + 1..];
    }
    buffer.put_slice(rest);
}

fn escaped(key: &[u8]) -> Bytes {
    let mut buffer = BytesMut::with_capacity(key.len() + 4);
    escape_into(&mut buffer, key);
    buffer.freeze()
}

/// The row for `key` as written at `revision`.
pub(crate) fn history_key(key: &[u8], revision: Revision) -> Bytes {
    let mut buffer = BytesMut::with_capacity(key.len() + TERMINATOR.len() + REVISION_BYTES);
    escape_into(&mut buffer, key);
    buffer.put_slice(&TERMINATOR);
    buffer.put_i64(!revision.get());
    buffer.freeze()
}

/// The rows of `key` at `revision` and earlier.
pub(crate) fn versions_up_to(key: &[u8], revision: Revision) -> KeyBounds {
    (
        Bound::Included(history_key(key, revision)),
        Bound::Included(history_key(key, Revision::ZERO)),
    )
}

/// The rows of all keys within a range.
pub(crate) fn history_bounds(range: &KeyRange) -> KeyBounds {
    match range {
        KeyRange::One(key) => versions_up_to(key, Revision::new(i64::MAX)),
        KeyRange::Span { start, end } => (
            from_bound(escaped(start)),
            end.as_ref()
                .map_or(Bound::Unbounded, |end| Bound::Excluded(escaped(end))),
        ),
    }
}

/// Splits a history key into the escaped user key and the revision.
pub(crate) fn split_history_key(row: &Bytes) -> Option<(Bytes, Revision)> {
    let at = row.len().checked_sub(REVISION_BYTES)?;
    let revision = i64::from_be_bytes(<[u8; REVISION_BYTES]>::try_from(&row[at..]).ok()?);
    let escaped = row[..at].strip_suffix(&TERMINATOR)?;
    Some((row.slice_ref(escaped), Revision::new(!revision)))
}

/// Decodes an escaped user key. Shares the buffer if nothing was escaped.
pub(crate) fn unescape(escaped: &Bytes) -> Bytes {
    if !escaped.contains(&0) {
        return escaped.clone();
    }
    let mut key = BytesMut::with_capacity(escaped.len());
    let mut after_zero = false;
    for byte in escaped.iter().copied() {
        if !after_zero {
            key.put_u8(byte);
        }
        after_zero = byte == 0 && !after_zero;
    }
    key.freeze()
}

/// The row that attaches `key` to a lease.
pub(crate) fn lease_key(lease: LeaseId, key: &[u8]) -> Bytes {
    let mut buffer = BytesMut::with_capacity(REVISION_BYTES + key.len());
    buffer.put_i64(lease.get());
    buffer.put_slice(key);
    buffer.freeze()
}

/// The rows of all keys of a lease.
pub(crate) fn lease_bounds(lease: LeaseId) -> KeyBounds {
    match KeyRange::prefix(lease_key(lease, &[])) {
        KeyRange::One(key) => (Bound::Included(key.clone()), Bound::Included(key)),
        span @ KeyRange::Span { .. } => span.bounds(),
    }
}

/// The user key of a row made by [`lease_key`].
pub(crate) fn leased_key(row: &Bytes) -> Bytes {
    row.slice(REVISION_BYTES.min(row.len())..)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [&[u8]; 9] = [
        b"", b"\0", b"\0\0", b"\0\x01", b"\0\xff", b"a", b"a\0", b"a\0\xff", b"ab",
    ];

    #[test]
    fn rows_are_ordered_by_key_then_newest_first() {
        let mut expected = Vec::new();
        for key in KEYS {
            for revision in [i64::MAX, 300, 2, 1, 0] {
                expected.push(history_key(key, Revision::new(revision)));
            }
        }
        let mut sorted = expected.clone();
        sorted.sort();
        assert_eq!(sorted, expected);
    }

    #[test]
    fn keys_round_trip() {
        for key in KEYS {
            let row = history_key(key, Revision::new(77));
            let (escaped, revision) = split_history_key(&row).unwrap();
            assert_eq!((&unescape(&escaped)[..], revision.get()), (key, 77));
        }
    }

    #[test]
    fn bounds_match_the_range_exactly() {
        for start in KEYS {
            for end in KEYS {
                let range = KeyRange::Span {
                    start: Bytes::from_static(start),
                    end: Some(Bytes::from_static(end)),
                };
                let (low, Bound::Excluded(high)) = history_bounds(&range) else {
                    panic!("bounds of another kind");
                };
                let low = match low {
                    Bound::Included(low) => low,
                    Bound::Excluded(_) | Bound::Unbounded => Bytes::new(),
                };
                for key in KEYS {
                    let row = history_key(key, Revision::new(5));
                    assert_eq!(
                        row >= low && row < high,
                        range.contains(key),
                        "{start:?} {end:?} {key:?}"
                    );
                }
            }
        }
    }
}
