//! What a watcher asked for: keys, event kinds, predecessors.

use std::cmp::Ordering;

use bytes::Bytes;

/// Where a range ends. Ordered, so that intervals can be sorted by it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Upper {
    /// Before this key.
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

/// The keys that a watcher sees.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WatchRange {
    /// One key.
    Key(Bytes),
    /// All keys from the first to before the second.
    Span(Bytes, Upper),
}

/// The request's `key` and `range_end` describe no key at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("mvcc: watcher range is empty")]
pub struct EmptyRange;

impl WatchRange {
    /// Decodes etcd's pair: an empty `key` is the smallest key `\0`, an empty `range_end` means one
    /// key, `\0` as `range_end` means the end of the keyspace.
    ///
    /// # Errors
    /// No key lies in the range.
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

    /// Whether `key` is among them.
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            Self::Key(only) => &only[..] == key,
            Self::Span(start, end) => &start[..] <= key && end.is_above(key),
        }
    }
}

/// Which events of its keys a watcher sees, and how much of them: a set of three flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventFlags(u8);

impl EventFlags {
    /// No puts.
    pub const NO_PUT: Self = Self(1);
    /// No deletes.
    pub const NO_DELETE: Self = Self(2);
    /// With the key-value pair as it was before the event.
    pub const PREV_KV: Self = Self(4);

    /// Both sets of flags.
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

/// A watcher's interest. Watchers with equal interests share all the work that their events need.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Interest {
    /// The keys.
    pub range: WatchRange,
    /// The events.
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
    fn views_are_sets() {
        let flags = EventFlags::NO_PUT.and(EventFlags::PREV_KV);
        assert!(
            flags.has(EventFlags::NO_PUT)
                && flags.has(EventFlags::PREV_KV)
                && !flags.has(EventFlags::NO_DELETE)
        );
    }
}
