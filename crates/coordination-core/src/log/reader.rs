//! Reads the log in order.

use std::fmt;

/// A batch's place in the log. The first batch has number 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogNumber(u64);

impl LogNumber {
    /// Wraps a number. Zero is the place before the first batch.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number after this one.
    ///
    /// # Panics
    /// After 2^64 batches.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("batches are not exhausted"))
    }
}

impl fmt::Display for LogNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a pod is in the log.
#[derive(Debug)]
pub struct LogReader {
    applied: LogNumber,
}

/// Batches before an offered one are missing. Read them from the log; if they are deleted already,
/// load the latest checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("batch {offered} came while {expected} is the next one")]
pub struct Missing {
    /// The first missing batch.
    pub expected: LogNumber,
    /// The batch that came.
    pub offered: LogNumber,
}

impl LogReader {
    /// A reader that has applied all batches up to this one.
    #[must_use]
    pub const fn new(applied: LogNumber) -> Self {
        Self { applied }
    }

    /// The last batch that was taken.
    #[must_use]
    pub const fn applied(&self) -> LogNumber {
        self.applied
    }

    /// Takes a batch. Returns whether it is to be applied now: one that came before, from the watch
    /// or from this pod's own append, is not.
    ///
    /// # Errors
    /// [`Missing`]: batches before it are missing. Nothing was taken.
    pub fn take(&mut self, number: LogNumber) -> Result<bool, Missing> {
        let expected = self.applied.next();
        if number > expected {
            return Err(Missing {
                expected,
                offered: number,
            });
        }
        let is_next = number == expected;
        if is_next {
            self.applied = number;
        }
        Ok(is_next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_taken_once_and_in_order() {
        let mut reader = LogReader::new(LogNumber::new(4));
        let take = |reader: &mut LogReader, number| reader.take(LogNumber::new(number));
        assert_eq!(take(&mut reader, 4), Ok(false));
        assert_eq!(take(&mut reader, 5), Ok(true));
        assert_eq!(take(&mut reader, 5), Ok(false));
        let missing = Missing {
            expected: LogNumber::new(6),
            offered: LogNumber::new(7),
        };
        assert_eq!(take(&mut reader, 7), Err(missing));
        assert_eq!(take(&mut reader, 6), Ok(true));
        assert_eq!(take(&mut reader, 7), Ok(true));
        assert_eq!(reader.applied(), LogNumber::new(7));
    }
}
