//! A hierarchical timing wheel. Adding, moving and removing a timer is O(1).
//!
//! Time is a parameter, in a unit that the owner chooses. Level `l` has 64 slots of `64^l` units. A
//! timer is on the level of the highest base-64 digit in which its deadline differs from now. So
//! the lowest occupied level, and on it the lowest occupied slot, come due first, and a timer moves
//! down at most once per level.

const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
/// Eleven digits of six bits cover any `u64`.
const LEVELS: usize = 11;
const NIL: u32 = u32::MAX;

/// Identifies a timer. The wheel detects ids of timers that fired or were removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimerId {
    index: u32,
    generation: u32,
}

#[derive(Debug)]
struct Timer<T> {
    deadline: u64,
    generation: u32,
    level: usize,
    slot: usize,
    previous: u32,
    next: u32,
    value: Option<T>,
}

/// A wheel of timers that carry values of type `T`.
#[derive(Debug)]
pub(crate) struct TimingWheel<T> {
    now: u64,
    occupied: [u64; LEVELS],
    heads: [[u32; SLOTS]; LEVELS],
    timers: Vec<Timer<T>>,
    free: Vec<u32>,
    len: usize,
}

impl<T> TimingWheel<T> {
    /// Creates an empty wheel at time `now`.
    pub(crate) fn new(now: u64) -> Self {
        Self {
            now,
            occupied: [0; LEVELS],
            heads: [[NIL; SLOTS]; LEVELS],
            timers: Vec::new(),
            free: Vec::new(),
            len: 0,
        }
    }

    /// The number of pending timers.
    #[cfg(test)]
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Adds a timer. If its deadline has passed, it fires at the next [`Self::advance`].
    pub(crate) fn insert(&mut self, deadline: u64, value: T) -> TimerId {
        let index = match self.free.pop() {
            Some(index) => index,
            None => self.grow(),
        };
        let timer = &mut self.timers[at(index)];
        timer.deadline = deadline;
        timer.value = Some(value);
        let generation = timer.generation;
        self.len += 1;
        self.link(index);
        TimerId { index, generation }
    }

    /// Moves a pending timer to another deadline; `false` if the timer is no longer pending.
    pub(crate) fn reschedule(&mut self, id: TimerId, deadline: u64) -> bool {
        if !self.is_pending(id) {
            return false;
        }
        self.unlink(id.index);
        self.timers[at(id.index)].deadline = deadline;
        self.link(id.index);
        true
    }

    /// Removes a pending timer and returns its value.
    pub(crate) fn remove(&mut self, id: TimerId) -> Option<T> {
        if !self.is_pending(id) {
            return None;
        }
        self.unlink(id.index);
        self.release(id.index)
    }

    /// Advances the time to `now`, never backwards. Calls `fire` with each timer that is due, in
    /// deadline order.
    pub(crate) fn advance(&mut self, now: u64, mut fire: impl FnMut(T)) {
        let now = now.max(self.now);
        while let Some((level, slot, start)) = self.next_slot() {
            if start > now {
                break;
            }
            self.now = self.now.max(start);
            let mut index = std::mem::replace(&mut self.heads[level][slot], NIL);
            self.occupied[level] &= !(1 << slot);
            while index != NIL {
                let next = self.timers[at(index)].next;
                if self.timers[at(index)].deadline <= self.now {
                    if let Some(value) = self.release(index) {
                        fire(value);
                    }
                } else {
                    self.link(index);
                }
                index = next;
            }
        }
        self.now = now;
    }

    /// A lower bound for the next deadline; `None` without timers. The first timer may be later by
    /// up to the width of its slot. Advancing to this time moves it down a level, which makes the
    /// next bound tighter.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        self.next_slot().map(|(_, _, start)| start)
    }

    fn next_slot(&self) -> Option<(usize, usize, u64)> {
        let level = self.occupied.iter().position(|slots| *slots != 0)?;
        let slot = self.occupied[level].trailing_zeros();
        let shift = shift_of(level);
        // The digits above this level are those of now; the digits below are zero.
        let above = shift + SLOT_BITS;
        let high = if above >= u64::BITS {
            0
        } else {
            (self.now >> above) << above
        };
        Some((level, slot as usize, high | (u64::from(slot) << shift)))
    }

    fn link(&mut self, index: u32) {
        // A deadline in the past goes into the current slot.
        let deadline = self.timers[at(index)].deadline.max(self.now);
        let differing = deadline ^ self.now;
        let level = (u64::BITS - 1).saturating_sub((differing | 1).leading_zeros()) / SLOT_BITS;
        let level = level as usize;
        let digit = (deadline >> shift_of(level)) & (SLOTS as u64 - 1);
        let slot = usize::try_from(digit).unwrap_or(0);
        let head = std::mem::replace(&mut self.heads[level][slot], index);
        self.occupied[level] |= 1 << slot;
        if head != NIL {
            self.timers[at(head)].previous = index;
        }
        let timer = &mut self.timers[at(index)];
        timer.level = level;
        timer.slot = slot;
        timer.previous = NIL;
        timer.next = head;
    }

    fn unlink(&mut self, index: u32) {
        let timer = &self.timers[at(index)];
        let (level, slot, previous, next) = (timer.level, timer.slot, timer.previous, timer.next);
        if next != NIL {
            self.timers[at(next)].previous = previous;
        }
        if previous != NIL {
            self.timers[at(previous)].next = next;
            return;
        }
        self.heads[level][slot] = next;
        if next == NIL {
            self.occupied[level] &= !(1 << slot);
        }
    }

    fn release(&mut self, index: u32) -> Option<T> {
        let timer = &mut self.timers[at(index)];
        timer.generation = timer.generation.wrapping_add(1);
        let value = timer.value.take();
        self.free.push(index);
        self.len -= 1;
        value
    }

    fn is_pending(&self, id: TimerId) -> bool {
        self.timers
            .get(at(id.index))
            .is_some_and(|timer| timer.generation == id.generation && timer.value.is_some())
    }

    fn grow(&mut self) -> u32 {
        let index = u32::try_from(self.timers.len()).unwrap_or(NIL);
        assert!(index != NIL, "more timers than indexes");
        self.timers.push(Timer {
            deadline: 0,
            generation: 0,
            level: 0,
            slot: 0,
            previous: NIL,
            next: NIL,
            value: None,
        });
        index
    }
}

const fn at(index: u32) -> usize {
    index as usize
}

fn shift_of(level: usize) -> u32 {
    // There are eleven levels.
    u32::try_from(level).unwrap_or(0) * SLOT_BITS
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use synod_types::SplitMix64;

    use super::*;

    struct Random(SplitMix64);

    impl Random {
        fn below(&mut self, bound: u64) -> u64 {
            self.0.below(bound)
        }

        /// Mostly short delays, sometimes years.
        fn delay(&mut self) -> u64 {
            let bits = self.below(44);
            self.below(1 << bits)
        }
    }

    #[test]
    fn fires_like_a_sorted_map() {
        for seed in 0..60 {
            let mut random = Random(SplitMix64::new(seed));
            let mut now = random.below(1 << 50);
            let mut wheel = TimingWheel::new(now);
            let mut model: BTreeMap<u64, (u64, TimerId)> = BTreeMap::new();
            let mut gone: Vec<TimerId> = Vec::new();
            for name in 0..800_u64 {
                match random.below(8) {
                    0..=3 => {
                        let deadline = (now + random.delay()).saturating_sub(random.below(3));
                        model.insert(name, (deadline, wheel.insert(deadline, name)));
                    }
                    4 => {
                        if let Some((&name, &(_, id))) = model.iter().nth(3) {
                            let deadline = now + random.delay();
                            assert!(wheel.reschedule(id, deadline));
                            model.insert(name, (deadline, id));
                        }
                    }
                    5 => {
                        if let Some((&name, &(_, id))) = model.iter().nth(1) {
                            assert_eq!(wheel.remove(id), Some(name));
                            assert_eq!(wheel.remove(id), None);
                            model.remove(&name);
                            gone.push(id);
                        }
                    }
                    _ => {
                        let before = now;
                        now += random.delay();
                        let mut fired = Vec::new();
                        wheel.advance(now, |name| fired.push(name));
                        assert!(
                            fired.is_sorted_by_key(|name| model[name].0.max(before)),
                            "seed {seed}"
                        );
                        fired.sort_unstable();
                        let due: Vec<u64> = model
                            .iter()
                            .filter(|(_, (deadline, _))| *deadline <= now)
                            .map(|(name, _)| *name)
                            .collect();
                        assert_eq!(fired, due, "seed {seed}");
                        for name in due {
                            gone.push(model.remove(&name).unwrap().1);
                        }
                    }
                }
                assert_eq!(wheel.len(), model.len());
                let earliest = model
                    .values()
                    .map(|(deadline, _)| (*deadline).max(now))
                    .min();
                match (wheel.next_deadline(), earliest) {
                    (Some(bound), Some(earliest)) => assert!(bound <= earliest, "seed {seed}"),
                    (bound, earliest) => assert_eq!(bound, earliest),
                }
            }
            for id in gone {
                assert!(!wheel.reschedule(id, now) || model.values().any(|(_, live)| *live == id));
            }
        }
    }

    #[test]
    fn fires_in_order_of_deadlines() {
        let mut wheel = TimingWheel::new(5);
        for deadline in [9_000, 70, 6, 64, 4_097, 4_096, 1 << 40, 63] {
            wheel.insert(deadline, deadline);
        }
        let mut fired = Vec::new();
        wheel.advance(1 << 41, |deadline| fired.push(deadline));
        assert_eq!(fired, [6, 63, 64, 70, 4_096, 4_097, 9_000, 1 << 40]);
        assert_eq!(wheel.next_deadline(), None);
    }

    #[test]
    fn advancing_to_each_bound_reaches_the_deadline_exactly() {
        let mut wheel = TimingWheel::new(0);
        wheel.insert(123_456_789, ());
        let (mut fired_at, mut steps) = (None, 0);
        while let Some(bound) = wheel.next_deadline() {
            wheel.advance(bound, |()| fired_at = Some(bound));
            steps += 1;
        }
        assert_eq!(fired_at, Some(123_456_789));
        assert!(steps <= LEVELS);
    }
}
