//! A bounded memory of what was found out lately.

use std::collections::HashMap;
use std::mem;

use parking_lot::Mutex;

/// What a digest stands for.
pub(crate) type Digest = [u8; 32];

/// Remembers values by a digest, the recently used ones longest. Two generations: once the younger
/// one is full, the older one goes. A value that is asked for moves to the younger one.
#[derive(Debug)]
pub(crate) struct Recent<V> {
    /// Each generation's bound.
    capacity: usize,
    generations: Mutex<Generations<V>>,
}

#[derive(Debug)]
struct Generations<V> {
    young: HashMap<Digest, V>,
    old: HashMap<Digest, V>,
}

impl<V: Clone> Recent<V> {
    /// Remembers at most `capacity` values, and at least the last half of them.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity / 2,
            generations: Mutex::new(Generations {
                young: HashMap::new(),
                old: HashMap::new(),
            }),
        }
    }

    pub(crate) fn get(&self, digest: &Digest) -> Option<V> {
        let mut generations = self.generations.lock();
        if let Some(value) = generations.young.get(digest) {
            return Some(value.clone());
        }
        let value = generations.old.remove(digest)?;
        self.put(&mut generations, *digest, value.clone());
        Some(value)
    }

    pub(crate) fn insert(&self, digest: Digest, value: V) {
        self.put(&mut self.generations.lock(), digest, value);
    }

    fn put(&self, generations: &mut Generations<V>, digest: Digest, value: V) {
        if generations.young.len() >= self.capacity {
            generations.old = mem::take(&mut generations.young);
        }
        generations.young.insert(digest, value);
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        let generations = self.generations.lock();
        generations.young.len() + generations.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(of: u8) -> Digest {
        [of; 32]
    }

    #[test]
    fn the_bound_holds_and_the_recently_used_stay() {
        let recent = Recent::new(8);
        for of in 0..100 {
            recent.insert(digest(of), of);
            assert!(recent.len() <= 8);
            assert_eq!(recent.get(&digest(0)), Some(0), "asked for all the time");
        }
        assert_eq!(recent.get(&digest(99)), Some(99));
        assert_eq!(recent.get(&digest(98)), Some(98));
        assert_eq!(recent.get(&digest(50)), None);
    }
}
