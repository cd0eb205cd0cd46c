//! Revisions, lease ids and key ranges.

use std::fmt;
use std::ops::Bound;

use bytes::Bytes;
use synod_engine::KeyBounds;

/// A main revision of the keyspace. Signed, as in etcd's API. A fresh store is at revision 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision(i64);

impl Revision {
    /// Before the first revision. On the wire it means "no revision" where one is optional.
    pub const ZERO: Self = Self(0);
    /// The revision of a fresh store.
    pub const FIRST: Self = Self(1);

    /// The revision with this number.
    #[must_use]
    pub const fn new(value: i64) -> Self {
        Self(value)
    }

    /// The number, as used on the wire.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The revision after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The revision before this one.
    #[must_use]
    pub const fn prev(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// The revision `n` after this one.
    #[must_use]
    pub fn plus(self, n: usize) -> Self {
        Self(self.0.saturating_add(i64::try_from(n).unwrap_or(i64::MAX)))
    }

    /// The number of revisions from `earlier` to this one; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> usize {
        usize::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0)
    }

    pub(crate) fn to_be_bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Revision({})", self.0)
    }
}

/// A lease id. Signed, as in etcd's API.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LeaseId(i64);

impl LeaseId {
    /// No lease.
    pub const NONE: Self = Self(0);

    /// The lease with this id.
    #[must_use]
    pub const fn new(value: i64) -> Self {
        Self(value)
    }

    /// The id, as used on the wire.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }

    /// Whether this is a lease and not [`LeaseId::NONE`].
    #[must_use]
    pub const fn is_some(self) -> bool {
        self.0 != 0
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LeaseId({:x})", self.0)
    }
}

/// One key, or the keys from `start` up to but excluding `end`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum KeyRange {
    /// A single key.
    One(Bytes),
    /// `start <= key < end`; without `end` all keys from `start` on.
    Span {
        /// The first key.
        start: Bytes,
        /// The first key after the range.
        end: Option<Bytes>,
    },
}

impl KeyRange {
    /// Converts etcd's pair of fields: an empty `range_end` means one key, `"\0"` all keys from
    /// `key` on.
    #[must_use]
    pub fn from_wire(key: Bytes, range_end: Bytes) -> Self {
        match &*range_end {
            [] => Self::One(key),
            [0] => Self::Span {
                start: key,
                end: None,
            },
            _ => Self::Span {
                start: key,
                end: Some(range_end),
            },
        }
    }

    /// All keys.
    #[must_use]
    pub const fn all() -> Self {
        Self::Span {
            start: Bytes::new(),
            end: None,
        }
    }

    /// All keys that start with `prefix`.
    #[must_use]
    pub fn prefix(prefix: Bytes) -> Self {
        let end = prefix
            .iter()
            .rposition(|byte| *byte != u8::MAX)
            .map(|last| {
                let mut end = prefix[..=last].to_vec();
                end[last] += 1;
                Bytes::from(end)
            });
        Self::Span { start: prefix, end }
    }

    /// Whether the range contains `key`.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            Self::One(one) => one == key,
            Self::Span { start, end } => {
                key >= &start[..] && end.as_ref().is_none_or(|end| key < &end[..])
            }
        }
    }

    /// Whether the range can't contain any key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::One(_) => false,
            Self::Span { start, end } => end.as_ref().is_some_and(|end| start >= end),
        }
    }

    pub(crate) fn bounds(&self) -> KeyBounds {
        match self {
            Self::One(key) => (Bound::Included(key.clone()), Bound::Included(key.clone())),
            Self::Span { start, end } => (
                from_bound(start.clone()),
                end.clone().map_or(Bound::Unbounded, Bound::Excluded),
            ),
        }
    }
}

/// The lower bound for `start`. Engines have no empty keys.
pub(crate) fn from_bound(start: Bytes) -> Bound<Bytes> {
    if start.is_empty() {
        Bound::Unbounded
    } else {
        Bound::Included(start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[test]
    fn wire_forms_of_a_range() {
        assert_eq!(
            KeyRange::from_wire(bytes("a"), Bytes::new()),
            KeyRange::One(bytes("a"))
        );
        assert_eq!(KeyRange::from_wire(bytes(""), bytes("\0")), KeyRange::all());
        let range = KeyRange::from_wire(bytes("a"), bytes("c"));
        assert!(range.contains(b"a") && range.contains(b"bzz") && !range.contains(b"c"));
        assert!(KeyRange::from_wire(bytes("c"), bytes("a")).is_empty());
    }

    #[test]
    fn prefix_end_carries_over_ff() {
        let range = KeyRange::prefix(Bytes::from_static(&[1, 0xff, 0xff]));
        assert!(range.contains(&[1, 0xff, 0xff, 7]) && !range.contains(&[2]));
        let open = KeyRange::prefix(Bytes::from_static(&[0xff]));
        assert!(open.contains(&[0xff, 0xff]) && !open.contains(&[0xfe]));
    }
}
