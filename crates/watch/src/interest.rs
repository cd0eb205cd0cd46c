//! A watcher's interest: keys, event kinds, and whether it wants previous values.

use std::cmp::Ordering;

use bytes::Bytes;

/// The end of a range. Ordered, so that intervals can be sorted by it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Upper {
    /// Just before this key (exclusive).
    Before(Bytes),
    /// At the end of the keyspace.
    Unbounded,
}

impl Upper {
    /// Whether `key` lies below the end.
    pub fn is_above(&self, key: &[u8]) -> bool {
        match self {
            Self::Before(end) => key < &end[..],
            Self::Unbounded => true,
        }
    }
}

/// The watched keys.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WatchRange {
    /// One key.
    Key(Bytes),
    /// All keys from the first up to but excluding the second.
    Span(Bytes, Upper),
}

/// The request's `key` and `range_end` describe an empty range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("mvcc: watcher range is empty")]
pub struct EmptyRange;

impl WatchRange {
    /// Decodes etcd's pair of fields. An empty `key` means the smallest key `\0`. An empty
    /// `range_end` means one key, and `\0` means the end of the keyspace.
    ///
    /// # Errors
    /// [`EmptyRange`] if no key lies in the range.
    pub fn decode(key: Bytes, range_end: Bytes) -> Result<Self, EmptyRange> {
        let key = if key.is_empty() {
            Bytes::from_static(&[0])
        } else {
            key
        };
        if range_end.is_empty() {
            return Ok(Self::Key(key));
        }
        if range_end[..] == [0] {
            return Ok(Self::Span(key, Upper::Unbounded));
        }
        match key.cmp(&range_end) {
            Ordering::Less => Ok(Self::Span(key, Upper::Before(range_end))),
            Ordering::Equal | Ordering::Greater => Err(EmptyRange),
        }
    }

    /// Whether the range contains `key`.
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            Self::Key(only) => &only[..] == key,
            Self::Span(start, end) => &start[..] <= key && end.is_above(key),
        }
    }
}

/// The events that a watcher sees, and how much of them: a set of three flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventFlags(u8);

impl EventFlags {
    /// Excludes puts.
    pub const NO_PUT: Self = Self(1);
    /// Excludes deletes.
    pub const NO_DELETE: Self = Self(2);
    /// Includes the key-value pair before the event.
    pub const PREV_KV: Self = Self(4);

    /// The union of both sets.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// This set without the flags of `other`.
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether all flags of `other` are set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// A watcher's interest. Watchers with equal interests share all work on their events.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Interest {
    /// The watched keys.
    pub range: WatchRange,
    /// The watched events.
    pub flags: EventFlags,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(key: &'static [u8], end: &'static [u8]) -> Result<WatchRange, EmptyRange> {
        WatchRange::decode(Bytes::from_static(key), Bytes::from_static(end))
    }

    #[test]
    fn ranges_decode_as_in_etcd() {
        assert_eq!(
            decode(b"", b""),
            Ok(WatchRange::Key(Bytes::from_static(b"\0")))
        );
        assert_eq!(decode(b"b", b"a"), Err(EmptyRange));
        assert_eq!(decode(b"b", b"b"), Err(EmptyRange));
        let all = decode(b"", b"\0").unwrap();
        assert!(all.contains(b"\xff\xff") && all.contains(b"\0"));
        let span = decode(b"a", b"c").unwrap();
        assert!(span.contains(b"a") && span.contains(b"bzz"));
        assert!(!span.contains(b"c") && !span.contains(b"A"));
        assert!(decode(b"k", b"").unwrap().contains(b"k"));
        assert!(!decode(b"k", b"").unwrap().contains(b"k\0"));
    }

    #[test]
    fn flags_are_sets() {
        let flags = EventFlags::NO_PUT.and(EventFlags::PREV_KV);
        assert!(
            flags.has(EventFlags::NO_PUT)
                && flags.has(EventFlags::PREV_KV)
                && !flags.has(EventFlags::NO_DELETE)
        );
    }
}
