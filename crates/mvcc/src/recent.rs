//! A cache of recently written records. An overwrite needs the record that it displaces, and
//! looking it up in the engine is most of the cost.

use std::collections::HashMap;

use bytes::Bytes;

/// Estimated memory per record beyond its bytes.
const RECORD_OVERHEAD: usize = 128;

/// Committed records by key, in two generations. When the young one reaches half of the bytes, it
/// becomes the old one, and the previous old one is dropped. A record in the young generation hides
/// an older one.
pub(crate) struct RecentRecords {
    young: HashMap<Bytes, Bytes>,
    old: HashMap<Bytes, Bytes>,
    young_bytes: usize,
    max_bytes: usize,
}

fn price(record: &Bytes) -> usize {
    record.len() + RECORD_OVERHEAD
}

impl RecentRecords {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            young_bytes: 0,
            max_bytes,
        }
    }

    /// The newest committed record of a key. `None` if it isn't cached.
    pub(crate) fn get(&self, key: &[u8]) -> Option<&Bytes> {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    /// Records what was committed for a key: a record, or `None` for a deletion. The key may share
    /// the record's buffer, but neither should be a slice of a larger one.
    pub(crate) fn set(&mut self, key: &Bytes, record: Option<&Bytes>) {
        let Some(record) = record else {
            self.old.remove(key);
            if let Some(before) = self.young.remove(key) {
                self.young_bytes -= price(&before);
            }
            return;
        };
        // The earlier entry's key shares the buffer of that record, so remove the key as well.
        if let Some(before) = self.young.remove(key) {
            self.young_bytes -= price(&before);
        }
        self.young_bytes += price(record);
        self.young.insert(key.clone(), record.clone());
        if self.young_bytes > self.max_bytes / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::new(self.max_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[test]
    fn returns_the_newest_record() {
        let mut recent = RecentRecords::new(4 * (RECORD_OVERHEAD + 2));
        recent.set(&bytes("a"), Some(&bytes("a1")));
        recent.set(&bytes("b"), Some(&bytes("b1")));
        recent.set(&bytes("c"), Some(&bytes("c1")));
        // Now all entries are in the old generation.
        assert!(recent.young.is_empty());
        recent.set(&bytes("a"), Some(&bytes("a2")));
        recent.set(&bytes("b"), None);
        assert_eq!(recent.get(b"a"), Some(&bytes("a2")));
        assert_eq!(recent.get(b"b"), None);
        assert_eq!(recent.get(b"c"), Some(&bytes("c1")));
        recent.set(&bytes("a"), None);
        assert_eq!(recent.get(b"a"), None);
        recent.clear();
        assert_eq!(recent.get(b"c"), None);
    }

    #[test]
    fn size_is_bounded_in_bytes() {
        let mut recent = RecentRecords::new(4 * (RECORD_OVERHEAD + 2));
        for _ in 0..100 {
            recent.set(&bytes("x"), Some(&bytes("xx")));
        }
        assert_eq!(recent.young_bytes, RECORD_OVERHEAD + 2);
        for key in ["a", "b", "c", "d", "e", "f", "g"] {
            recent.set(&bytes(key), Some(&bytes("rr")));
        }
        assert_eq!(recent.get(b"x"), None);
        assert!(recent.young.len() + recent.old.len() <= 5);
        assert_eq!(recent.get(b"g"), Some(&bytes("rr")));
    }
}
