//! Numbers that are free, as ranges: their memory depends on how many gaps there are, not on how
//! large the numbers are.

use std::collections::BTreeMap;

/// A set of numbers.
#[derive(Debug)]
pub(super) struct FreeNumbers {
    /// The first number of each range, and the last. No two ranges touch.
    ranges: BTreeMap<u32, u32>,
}

impl FreeNumbers {
    /// All numbers.
    pub(super) fn all() -> Self {
        Self {
            ranges: BTreeMap::from([(0, u32::MAX)]),
        }
    }

    pub(super) fn first(&self) -> Option<u32> {
        self.ranges.first_key_value().map(|(&first, _)| first)
    }

    /// Adds a number, unless it is there.
    pub(super) fn insert(&mut self, number: u32) {
        let before = self.range_at(number);
        if before.is_some_and(|(_, last)| last >= number) {
            return;
        }
        let (mut first, mut last) = (number, number);
        if let Some((start, end)) = before
            && end.checked_add(1) == Some(number)
        {
            first = start;
        }
        if let Some(next) = number.checked_add(1)
            && let Some(end) = self.ranges.remove(&next)
        {
            last = end;
        }
        self.ranges.insert(first, last);
    }

    /// Removes a number, if it is there.
    pub(super) fn remove(&mut self, number: u32) {
        let Some((first, last)) = self.range_at(number).filter(|&(_, last)| last >= number) else {
            return;
        };
        self.ranges.remove(&first);
        if first < number {
            self.ranges.insert(first, number - 1);
        }
        if number < last {
            self.ranges.insert(number + 1, last);
        }
    }

    /// The range that has the number, or else the one before it.
    fn range_at(&self, number: u32) -> Option<(u32, u32)> {
        let range = self.ranges.range(..=number).next_back();
        range.map(|(&first, &last)| (first, last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(numbers: &FreeNumbers) -> Vec<(u32, u32)> {
        let ranges = numbers.ranges.iter();
        ranges.map(|(&first, &last)| (first, last)).collect()
    }

    #[test]
    fn ranges_split_and_join() {
        const MAX: u32 = u32::MAX;
        let mut numbers = FreeNumbers::all();
        for number in [0, 5, 7, MAX, 5] {
            numbers.remove(number);
        }
        assert_eq!(ranges(&numbers), [(1, 4), (6, 6), (8, MAX - 1)]);
        numbers.remove(6);
        numbers.remove(1);
        assert_eq!(ranges(&numbers), [(2, 4), (8, MAX - 1)]);
        assert_eq!(numbers.first(), Some(2));
        numbers.insert(6);
        numbers.insert(6);
        assert_eq!(ranges(&numbers), [(2, 4), (6, 6), (8, MAX - 1)]);
        for number in [7, 5, MAX, 0, 1] {
            numbers.insert(number);
        }
        assert_eq!(ranges(&numbers), [(0, MAX)]);
        numbers.insert(3);
        assert_eq!(ranges(&numbers), [(0, MAX)]);
    }
}
