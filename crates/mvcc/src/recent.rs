//! The newest records of keys that were written lately: an overwrite needs the record that it
//! displaces, and looking that up in the engine is the larger part of its cost.

use std::collections::HashMap;

use bytes::Bytes;

/// A record's price in memory beyond its bytes, roughly.
const RECORD_OVERHEAD: usize = 128;

/// Committed records by key, in two generations: when the young one has half of the bytes, the old
/// one goes. A record in the young generation hides one in the old.
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

    /// The newest committed record of a key; nothing if it isn't known here.
    pub(crate) fn get(&self, key: &[u8]) -> Option<&Bytes> {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    /// Notes what was committed for a key: a record, or that there is none any more. The key may
    /// share the record's buffer, but neither should be a slice of something larger.
    pub(crate) fn set(&mut self, key: &Bytes, record: Option<&Bytes>) {
        let Some(record) = record else {
            self.old.remove(key);
            if let Some(before) = self.young.remove(key) {
                self.young_bytes -= price(&before);
            }
            return;
        };
        // The key of an earlier entry shares that one's record, so it has to go as well.
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
    fn answers_the_newest_record() {
        let mut recent = RecentRecords::new(4 * (RECORD_OVERHEAD + 2));
        recent.set(&bytes("a"), Some(&bytes("a1")));
        recent.set(&bytes("b"), Some(&bytes("b1")));
        recent.set(&bytes("c"), Some(&bytes("c1")));
        // All are old now.
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
    fn is_bounded_by_bytes() {
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
