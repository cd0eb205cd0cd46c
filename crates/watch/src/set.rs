//! Finds the watchers that an event affects.
//!
//! Watchers with equal interests form one group: each event is matched, filtered and gathered once
//! per group, regardless of its size. A hash map finds the groups on single keys, an
//! [`IntervalMap`] the groups on ranges.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use super::interest::{EventFlags, Interest, WatchRange};
use super::interval::IntervalMap;

/// A group's handle; valid while the group has members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct GroupSlot(usize);

/// Watchers with equal interests.
#[derive(Debug)]
pub(crate) struct Group<K, V> {
    /// The events that they see.
    pub flags: EventFlags,
    /// The watchers.
    pub members: BTreeMap<K, V>,
}

/// The groups on the same keys: at most one for each of the eight flag combinations.
type Variants = Vec<(EventFlags, GroupSlot)>;

/// A set of watchers, indexed by the keys that they watch.
#[derive(Debug)]
pub(crate) struct WatcherSet<K, V> {
    keys: HashMap<Bytes, Variants>,
    ranges: IntervalMap<Variants>,
    groups: Vec<Option<Group<K, V>>>,
    free: Vec<GroupSlot>,
    len: usize,
}

impl<K: Ord, V> WatcherSet<K, V> {
    /// An empty set.
    pub(crate) fn new() -> Self {
        Self {
            keys: HashMap::new(),
            ranges: IntervalMap::new(),
            groups: Vec::new(),
            free: Vec::new(),
            len: 0,
        }
    }

    /// The number of watchers.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Adds a watcher. Replaces one with the same id in the same group.
    pub(crate) fn insert(&mut self, interest: &Interest, id: K, value: V) {
        let group = match self.find(interest) {
            Some(group) => group,
            None => self.create(interest),
        };
        if let Some(group) = self.groups[group.0].as_mut()
            && group.members.insert(id, value).is_none()
        {
            self.len += 1;
        }
    }

    /// Removes a watcher, and its group if it was the last member.
    pub(crate) fn remove(&mut self, interest: &Interest, id: &K) -> Option<V> {
        let at = self.find(interest)?;
        let group = self.groups[at.0].as_mut()?;
        let value = group.members.remove(id)?;
        self.len -= 1;
        if group.members.is_empty() {
            self.groups[at.0] = None;
            self.free.push(at);
            self.forget(interest);
        }
        Some(value)
    }

    /// Calls `visit` with each group that watches `key`.
    pub(crate) fn stab(&self, key: &[u8], mut visit: impl FnMut(GroupSlot)) {
        let mut each = |variants: &Variants| {
            for (_, group) in variants {
                visit(*group);
            }
        };
        if let Some(variants) = self.keys.get(key) {
            each(variants);
        }
        self.ranges.stab(key, &mut each);
    }

    /// The group with this handle.
    pub(crate) fn group(&self, id: GroupSlot) -> Option<&Group<K, V>> {
        self.groups.get(id.0).and_then(Option::as_ref)
    }

    /// The upper bound of all group handles: a vector of this length can be indexed by
    /// [`GroupSlot::index`].
    pub(crate) const fn group_bound(&self) -> usize {
        self.groups.len()
    }

    /// Empties the set and returns the watchers' ids.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = K> + use<K, V> {
        std::mem::replace(self, Self::new())
            .groups
            .into_iter()
            .flatten()
            .flat_map(|group| group.members.into_keys())
    }

    fn variants_mut(&mut self, range: &WatchRange) -> Option<&mut Variants> {
        match range {
            WatchRange::Key(key) => self.keys.get_mut(key),
            WatchRange::Span(start, end) => self.ranges.get_mut(start, end),
        }
    }

    fn find(&mut self, interest: &Interest) -> Option<GroupSlot> {
        let variants = self.variants_mut(&interest.range)?;
        let found = variants
            .iter()
            .find(|(flags, _)| *flags == interest.flags)?;
        Some(found.1)
    }

    fn create(&mut self, interest: &Interest) -> GroupSlot {
        let group = Some(Group {
            flags: interest.flags,
            members: BTreeMap::new(),
        });
        let id = if let Some(id) = self.free.pop() {
            self.groups[id.0] = group;
            id
        } else {
            self.groups.push(group);
            GroupSlot(self.groups.len() - 1)
        };
        if let Some(variants) = self.variants_mut(&interest.range) {
            variants.push((interest.flags, id));
            return id;
        }
        let variants = vec![(interest.flags, id)];
        match interest.range.clone() {
            WatchRange::Key(key) => {
                self.keys.insert(key, variants);
            }
            WatchRange::Span(start, end) => self.ranges.insert(start, end, variants),
        }
        id
    }

    fn forget(&mut self, interest: &Interest) {
        let Some(variants) = self.variants_mut(&interest.range) else {
            return;
        };
        variants.retain(|(view, _)| *view != interest.flags);
        if !variants.is_empty() {
            return;
        }
        match &interest.range {
            WatchRange::Key(key) => {
                self.keys.remove(key);
            }
            WatchRange::Span(start, end) => {
                self.ranges.remove(start, end);
            }
        }
    }
}

impl GroupSlot {
    /// The handle as an index below [`WatcherSet::group_bound`].
    pub(crate) const fn index(self) -> usize {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::interest::Upper;
    use super::super::testing::Random;
    use super::*;

    impl Random {
        fn key(&mut self) -> Bytes {
            let len = self.below(3) + 1;
            (0..len)
                .map(|_| b"abcd"[self.index(4)])
                .collect::<Vec<_>>()
                .into()
        }

        fn interest(&mut self) -> Interest {
            let range = match self.below(3) {
                0 => WatchRange::Key(self.key()),
                1 => WatchRange::Span(self.key(), Upper::Unbounded),
                _ => {
                    let (a, b) = (self.key(), self.key());
                    match a.cmp(&b) {
                        std::cmp::Ordering::Less => WatchRange::Span(a, Upper::Before(b)),
                        std::cmp::Ordering::Equal => WatchRange::Key(a),
                        std::cmp::Ordering::Greater => WatchRange::Span(b, Upper::Before(a)),
                    }
                }
            };
            let flags = if self.below(2) == 0 {
                EventFlags::default()
            } else {
                EventFlags::PREV_KV
            };
            Interest { range, flags }
        }
    }

    fn stabbed(set: &WatcherSet<u64, u64>, key: &[u8]) -> Vec<u64> {
        let mut found = Vec::new();
        set.stab(key, |group| {
            found.extend(set.group(group).unwrap().members.keys().copied());
        });
        found.sort_unstable();
        found
    }

    #[test]
    fn stabs_agree_with_brute_force() {
        for seed in 0..40 {
            let mut random = Random::new(seed);
            let mut set = WatcherSet::new();
            let mut model: Vec<(u64, Interest)> = Vec::new();
            for id in 0..300 {
                if random.below(3) == 0 && !model.is_empty() {
                    let at = random.index(model.len());
                    let (id, interest) = model.swap_remove(at);
                    assert_eq!(set.remove(&interest, &id), Some(id));
                    assert_eq!(set.remove(&interest, &id), None);
                } else {
                    let interest = random.interest();
                    set.insert(&interest, id, id);
                    model.push((id, interest));
                }
                assert_eq!(set.len(), model.len());
                let key = random.key();
                let mut expected: Vec<u64> = model
                    .iter()
                    .filter(|(_, interest)| interest.range.contains(&key))
                    .map(|(id, _)| *id)
                    .collect();
                expected.sort_unstable();
                assert_eq!(stabbed(&set, &key), expected, "seed {seed} key {key:?}");
            }
            let groups: BTreeSet<&Interest> = model.iter().map(|(_, interest)| interest).collect();
            let live = set.groups.iter().flatten().count();
            assert_eq!(live, groups.len(), "equal interests share one group");
            let mut drained: Vec<u64> = set.drain().collect();
            drained.sort_unstable();
            let mut all: Vec<u64> = model.iter().map(|(id, _)| *id).collect();
            all.sort_unstable();
            assert_eq!(drained, all);
            assert_eq!(set.len(), 0);
            assert!(stabbed(&set, b"a").is_empty());
        }
    }
}
