//! Whether the log has stopped making progress: a disk that hangs reports no error.

use synod_types::WriteSeq;

/// What was handed to the log, and since when nothing came back. `T` is the shell's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogProgress<T> {
    written: WriteSeq,
    /// When the log last made progress, or got the first write after it had done all; nothing while
    /// it has nothing to do.
    since: Option<T>,
}

impl<T: Copy + Ord> Default for LogProgress<T> {
    fn default() -> Self {
        Self {
            written: WriteSeq::default(),
            since: None,
        }
    }
}

impl<T: Copy + Ord> LogProgress<T> {
    /// The core wants this written. It counts even if the log has no room for it yet.
    pub fn written(&mut self, seq: WriteSeq, now: T) {
        self.written = seq;
        self.since.get_or_insert(now);
    }

    /// The log has done everything up to `seq`.
    pub fn persisted(&mut self, seq: WriteSeq, now: T) {
        self.since = (seq < self.written).then_some(now);
    }

    /// Whether there is something to write and nothing was persisted since `limit`.
    #[must_use]
    pub fn is_stalled(&self, limit: T) -> bool {
        self.since.is_some_and(|since| since <= limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seq(seq: u64) -> WriteSeq {
        WriteSeq::new(seq)
    }

    #[test]
    fn a_log_with_nothing_to_do_is_never_stalled() {
        let mut progress = LogProgress::default();
        assert!(!progress.is_stalled(100));
        progress.written(seq(1), 5);
        progress.persisted(seq(1), 6);
        assert!(!progress.is_stalled(100));
    }

    #[test]
    fn a_log_is_stalled_when_the_oldest_write_waits_for_too_long() {
        let mut progress = LogProgress::default();
        progress.written(seq(1), 5);
        progress.written(seq(2), 9);
        assert!(!progress.is_stalled(4));
        assert!(progress.is_stalled(5), "later writes don't help");
        progress.persisted(seq(1), 10);
        assert!(!progress.is_stalled(9), "one write got through");
        assert!(progress.is_stalled(10), "and the next one waits");
    }
}
