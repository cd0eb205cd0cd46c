//! Sets of keys as merged intervals: what a user's roles allow, all in all.

use bytes::Bytes;

/// The end of a range that has none: every key from its start on.
pub(crate) const OPEN_END: &[u8] = b"\0";

/// The keys from `start` on, up to but without `end`; no end: all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Interval {
    start: Bytes,
    end: Option<Bytes>,
}

/// A set of keys. The intervals are sorted, and neither overlap nor touch, so that a range is
/// contained in the set exactly if one interval contains it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Intervals(Vec<Interval>);

impl Intervals {
    /// The union of ranges as etcd's requests write them.
    pub(crate) fn new<'a>(ranges: impl IntoIterator<Item = (&'a Bytes, &'a Bytes)>) -> Self {
        let mut all: Vec<Interval> = ranges
            .into_iter()
            .map(|(key, range_end)| Interval {
                start: key.clone(),
                end: end_of(key, range_end),
            })
            .collect();
        all.sort_by(|one, other| one.start.cmp(&other.start));
        let mut merged: Vec<Interval> = Vec::with_capacity(all.len());
        for next in all {
            match merged.last_mut() {
                Some(last) if reaches(last.end.as_ref(), &next.start) => {
                    if is_before(last.end.as_ref(), next.end.as_ref()) {
                        last.end = next.end;
                    }
                }
                _ => merged.push(next),
            }
        }
        Self(merged)
    }

    /// Whether every key of the range is in the set. A range without keys counts as its first key.
    pub(crate) fn contain(&self, key: &[u8], range_end: &[u8]) -> bool {
        let Some(interval) = self.interval_of(key) else {
            return false;
        };
        let Some(end) = &interval.end else {
            return true;
        };
        range_end != OPEN_END && **end >= *range_end
    }

    /// The first of some keys that is not in the set. `key_from` returns the first of these keys at
    /// or after a given one; it is called at most once for each interval plus once.
    ///
    /// # Errors
    /// Of `key_from`.
    pub(crate) fn first_outside<E>(
        &self,
        key_from: impl Fn(&[u8]) -> Result<Option<Bytes>, E>,
    ) -> Result<Option<Bytes>, E> {
        let mut start = Bytes::new();
        while let Some(key) = key_from(&start)? {
            let Some(interval) = self.interval_of(&key) else {
                return Ok(Some(key));
            };
            match &interval.end {
                Some(end) => start = end.clone(),
                None => break,
            }
        }
        Ok(None)
    }

    /// The interval that contains a key.
    fn interval_of(&self, key: &[u8]) -> Option<&Interval> {
        let after = self.0.partition_point(|interval| *interval.start <= *key);
        let interval = &self.0[after.checked_sub(1)?];
        let is_in = interval.end.as_ref().is_none_or(|end| **end > *key);
        is_in.then_some(interval)
    }
}

/// Where a range ends.
fn end_of(key: &[u8], range_end: &Bytes) -> Option<Bytes> {
    match &range_end[..] {
        OPEN_END => None,
        // The first key after this one.
        [] => Some([key, &[0]].concat().into()),
        _ => Some(range_end.clone()),
    }
}

/// Whether an interval that ends at `end` leaves no gap before `start`.
fn reaches(end: Option<&Bytes>, start: &Bytes) -> bool {
    end.is_none_or(|end| end >= start)
}

fn is_before(end: Option<&Bytes>, other: Option<&Bytes>) -> bool {
    match (end, other) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(end), Some(other)) => end < other,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(ranges: &[(&str, &str)]) -> Intervals {
        let ranges: Vec<(Bytes, Bytes)> = ranges
            .iter()
            .map(|(key, end)| {
                (
                    Bytes::copy_from_slice(key.as_bytes()),
                    Bytes::copy_from_slice(end.as_bytes()),
                )
            })
            .collect();
        Intervals::new(ranges.iter().map(|(key, end)| (key, end)))
    }

    #[test]
    fn what_overlaps_or_touches_is_one_interval() {
        assert_eq!(set(&[("a", "c"), ("b", "d")]), set(&[("a", "d")]));
        assert_eq!(set(&[("c", "d"), ("a", "c")]), set(&[("a", "d")]));
        assert_eq!(set(&[("a", "z"), ("b", "c")]), set(&[("a", "z")]));
        assert_eq!(
            set(&[("b", "\0"), ("a", "c"), ("x", "")]),
            set(&[("a", "\0")])
        );
        assert_eq!(set(&[("a", ""), ("a\0", "b")]), set(&[("a", "b")]));
        assert_eq!(set(&[("a", ""), ("b", "")]).0.len(), 2);
        assert_eq!(set(&[("a", "b"), ("b\0", "c")]).0.len(), 2);
    }

    #[test]
    fn a_range_must_be_contained_as_a_whole() {
        let set = set(&[("a", "c"), ("c", "e"), ("m", ""), ("x", "\0")]);
        for (key, end, contained) in [
            ("a", "", true),
            ("a", "e", true),
            ("b", "d", true),
            ("a", "e\0", false),
            ("`", "b", false),
            ("e", "", false),
            ("d", "f", false),
            ("m", "", true),
            ("m", "m\0", true),
            ("m", "n", false),
            ("m", "\0", false),
            ("a", "\0", false),
            ("x", "\0", true),
            ("y", "\0", true),
            ("w", "\0", false),
            ("\0", "\0", false),
            ("", "", false),
            ("", "\0", false),
            // Ranges without keys.
            ("b", "a", true),
            ("b", "b", true),
            ("n", "a", false),
        ] {
            assert_eq!(
                set.contain(key.as_bytes(), end.as_bytes()),
                contained,
                "{key:?} {end:?}"
            );
        }
    }

    /// Keys of up to two letters out of three; the naive model knows them one by one.
    fn text() -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(0_u8..3, 1..=2).prop_map(Bytes::from)
    }

    fn ends() -> impl Strategy<Value = Bytes> {
        prop_oneof![
            Just(Bytes::new()),
            Just(Bytes::from_static(OPEN_END)),
            text()
        ]
    }

    /// Every key that the texts can tell apart: those of up to three letters.
    fn universe() -> Vec<Vec<u8>> {
        let letters = || 0_u8..4;
        let mut keys: Vec<Vec<u8>> = letters().map(|a| vec![a]).collect();
        keys.extend(letters().flat_map(|a| letters().map(move |b| vec![a, b])));
        let pairs: Vec<_> = keys.iter().filter(|key| key.len() == 2).cloned().collect();
        keys.extend(
            pairs
                .iter()
                .flat_map(|pair| letters().map(move |c| [&pair[..], &[c]].concat())),
        );
        keys
    }

    fn naive_has(key: &[u8], start: &[u8], end: &[u8]) -> bool {
        match end {
            [] => key == start,
            OPEN_END => key >= start,
            _ => key >= start && key < end,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn containment_is_that_of_the_keys_one_by_one(
            ranges in proptest::collection::vec((text(), ends()), 0..6),
            key in text(),
            end in ends(),
        ) {
            let set = Intervals::new(ranges.iter().map(|(key, end)| (key, end)));
            let asked: Vec<_> = universe().into_iter().filter(|k| naive_has(k, &key, &end)).collect();
            // A range without keys is another test's.
            prop_assume!(!asked.is_empty());
            let allowed = asked
                .iter()
                .all(|asked| ranges.iter().any(|(start, end)| naive_has(asked, start, end)));
            // A range that has no end goes on after the last key of the model.
            let endless = ranges.iter().any(|(_, end)| &end[..] == OPEN_END);
            prop_assert_eq!(set.contain(&key, &end), allowed && (&end[..] != OPEN_END || endless));
        }

        #[test]
        fn the_first_key_outside_is_found_as_by_a_scan_of_all_keys(
            ranges in proptest::collection::vec((text(), ends()), 0..6),
            keys in proptest::collection::btree_set(text(), 0..12),
        ) {
            let set = Intervals::new(ranges.iter().map(|(key, end)| (key, end)));
            let calls = std::cell::Cell::new(0);
            let key_from = |start: &[u8]| {
                calls.set(calls.get() + 1);
                let mut rest = keys.iter().filter(|key| ***key >= *start);
                Ok::<_, ()>(rest.next().cloned())
            };
            let walked = keys.iter().find(|key| !set.contain(key, &[])).cloned();
            prop_assert_eq!(set.first_outside(key_from), Ok(walked));
            prop_assert!(calls.get() <= set.0.len() + 1, "{} calls", calls.get());
        }
    }
}
