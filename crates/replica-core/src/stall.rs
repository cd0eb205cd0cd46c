//! Detects that the log makes no progress, and that a node is too far behind to accept entries. A
//! hanging disk reports no error.

use std::ops::{Add, Sub};

use synod_types::WriteSeq;

/// Decides when a leader hands over leadership because its log's disk hangs. `T` is an instant of
/// the shell's clock, `D` a duration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StallWatch<T, D> {
    timeout: D,
    longest_turn: D,
    written: WriteSeq,
    /// When the log last made progress, or got its first write after it was idle; `None` while it
    /// is idle.
    since: Option<T>,
    looked_at: Option<T>,
    /// No other hand-over before this time.
    leaving_until: Option<T>,
}

/// The work that waits behind a node's driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// Committed entries that wait for the apply thread.
    pub entries: usize,
    /// Their size in bytes.
    pub bytes: usize,
    /// Whether there are writes that the log had no room for.
    pub has_unwritten: bool,
    /// Whether the log would accept a write now.
    pub log_has_room: bool,
}

impl<T, D> StallWatch<T, D>
where
    T: Copy + Ord + Add<D, Output = T> + Sub<T, Output = D>,
    D: Copy + Ord,
{
    /// The log counts as stalled if it makes no progress for `timeout`. The driver should check at
    /// least once in `longest_turn`; see [`turn`](Self::turn) for what happens otherwise.
    #[must_use]
    pub fn new(timeout: D, longest_turn: D) -> Self {
        Self {
            timeout,
            longest_turn,
            written: WriteSeq::default(),
            since: None,
            looked_at: None,
            leaving_until: None,
        }
    }

    /// Starts a turn. If the turn before started longer ago than `longest_turn`, the time since
    /// then doesn't count, because it says nothing about the disk: the process may have been
    /// stopped, its machine may have slept, or the driver was busy with one long turn and noted no
    /// completed write.
    pub fn turn(&mut self, now: T) {
        if let (Some(looked_at), Some(since)) = (self.looked_at, self.since)
            && now > looked_at
            && now - looked_at > self.longest_turn
        {
            self.since = Some(since + (now - looked_at));
        }
        self.looked_at = Some(now);
    }

    /// The core requested this write. It counts even if the log has no room for it yet.
    pub fn written(&mut self, seq: WriteSeq, now: T) {
        self.written = seq;
        self.since.get_or_insert(now);
    }

    /// The log has persisted everything up to `seq`.
    pub fn persisted(&mut self, seq: WriteSeq, now: T) {
        self.since = (seq < self.written).then_some(now);
    }

    /// Whether there are writes and none was persisted within the timeout.
    #[must_use]
    pub fn is_stalled(&self, now: T) -> bool {
        self.since.is_some_and(|since| since + self.timeout <= now)
    }

    /// Whether a leader should hand over now: its disk hangs, and it has not just tried to.
    #[must_use]
    pub fn should_leave(&self, now: T) -> bool {
        self.is_stalled(now) && self.leaving_until.is_none_or(|until| until <= now)
    }

    /// The leader tries to hand over.
    pub fn leaves(&mut self, now: T) {
        self.leaving_until = Some(now + self.timeout);
    }
}

impl Backlog {
    /// Whether the node accepts no more entries. The arguments limit how far the apply thread may
    /// lag.
    #[must_use]
    pub const fn is_overload(&self, max_entries: usize, max_bytes: usize) -> bool {
        self.entries > max_entries
            || self.bytes > max_bytes
            || self.has_unwritten
            || !self.log_has_room
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    const TIMEOUT_MS: u64 = 5_000;
    const LONGEST_TURN_MS: u64 = 500;
    /// The time between two turns of a driver.
    const TURN_MS: u64 = 100;
    /// Writes that the log accepts ahead of its disk.
    const ROOM: usize = 8;

    fn seq(seq: u64) -> WriteSeq {
        WriteSeq::new(seq)
    }

    fn watch() -> StallWatch<u64, u64> {
        StallWatch::new(TIMEOUT_MS, LONGEST_TURN_MS)
    }

    #[test]
    fn an_idle_log_is_never_stalled() {
        let mut watch = watch();
        assert!(!watch.is_stalled(100_000));
        watch.written(seq(1), 5);
        watch.persisted(seq(1), 6);
        assert!(!watch.is_stalled(100_000));
    }

    #[test]
    fn a_log_is_stalled_if_its_oldest_write_waits_too_long() {
        let mut watch = watch();
        watch.written(seq(1), 5);
        watch.written(seq(2), 9);
        assert!(!watch.is_stalled(5_004));
        assert!(
            watch.is_stalled(5_005),
            "later writes don't count as progress"
        );
        watch.persisted(seq(1), 5_010);
        assert!(!watch.is_stalled(10_009), "one write was persisted");
        assert!(watch.is_stalled(10_010), "and the next one waits");
    }

    #[test]
    fn each_part_of_a_backlog_can_be_an_overload() {
        let none = Backlog {
            entries: 10,
            bytes: 1_000,
            has_unwritten: false,
            log_has_room: true,
        };
        assert!(!none.is_overload(10, 1_000));
        assert!(none.is_overload(9, 1_000));
        assert!(none.is_overload(10, 999));
        let has_unwritten = true;
        assert!(
            Backlog {
                has_unwritten,
                ..none
            }
            .is_overload(10, 1_000)
        );
        let log_has_room = false;
        assert!(
            Backlog {
                log_has_room,
                ..none
            }
            .is_overload(10, 1_000)
        );
    }

    /// A leader with its log and the disk below it, in simulated time. One entry arrives per turn.
    struct Leader {
        now_ms: u64,
        watch: StallWatch<u64, u64>,
        disk_hangs: bool,
        log: VecDeque<u64>,
        next: u64,
        refuses: bool,
        told: Vec<String>,
    }

    impl Leader {
        fn new() -> Self {
            Self {
                now_ms: 0,
                watch: watch(),
                disk_hangs: false,
                log: VecDeque::new(),
                next: 1,
                refuses: false,
                told: Vec::new(),
            }
        }

        fn tell(&mut self, what: &str) {
            self.told.push(format!("{} {what}", self.now_ms));
        }

        /// In the driver's order.
        fn turn(&mut self) {
            self.watch.turn(self.now_ms);
            if !self.disk_hangs
                && let Some(done) = self.log.pop_back()
            {
                self.log.clear();
                self.watch.persisted(seq(done), self.now_ms);
            }
            let backlog = Backlog {
                entries: 0,
                bytes: 0,
                has_unwritten: false,
                log_has_room: self.log.len() < ROOM,
            };
            let refuses = backlog.is_overload(0, 0);
            if refuses != self.refuses {
                self.refuses = refuses;
                self.tell(["accepts entries", "refuses entries"][usize::from(refuses)]);
            }
            if self.watch.should_leave(self.now_ms) {
                self.watch.leaves(self.now_ms);
                self.tell("hands over");
            }
            if !refuses {
                self.log.push_back(self.next);
                self.watch.written(seq(self.next), self.now_ms);
                self.next += 1;
            }
        }

        fn run(&mut self, ms: u64) {
            let until_ms = self.now_ms + ms;
            while self.now_ms < until_ms {
                self.turn();
                self.now_ms += TURN_MS;
            }
        }

        /// The process does not run, but its clock advances.
        fn pause(&mut self, ms: u64) {
            self.now_ms += ms;
        }
    }

    #[test]
    fn a_leader_with_a_hanging_disk_refuses_entries_and_hands_over() {
        let mut leader = Leader::new();
        leader.run(10_000);
        leader.disk_hangs = true;
        leader.run(11_000);
        leader.disk_hangs = false;
        leader.run(10_000);
        let expected = [
            "10700 refuses entries",
            "14900 hands over",
            "19900 hands over",
            "21000 accepts entries",
        ];
        assert_eq!(leader.told, expected);
    }

    #[test]
    fn a_pause_of_the_process_does_not_count_as_a_stall() {
        let mut leader = Leader::new();
        leader.run(1_000);
        assert!(!leader.log.is_empty(), "a write is on its way");
        // The log's thread runs a few turns after the driver.
        leader.pause(60_000);
        leader.disk_hangs = true;
        leader.run(1_000);
        leader.disk_hangs = false;
        leader.run(1_000);
        assert_eq!(
            leader.told,
            ["61700 refuses entries", "62000 accepts entries"]
        );
    }

    #[test]
    fn a_long_turn_of_the_driver_is_no_stall() {
        let mut watch = watch();
        watch.turn(0);
        watch.written(seq(1), 0);
        // The turn takes as long as the timeout; what the log did meanwhile is not known yet.
        watch.turn(TIMEOUT_MS);
        assert!(!watch.is_stalled(TIMEOUT_MS));
        // A turn that is just short enough counts.
        watch.turn(TIMEOUT_MS + LONGEST_TURN_MS);
        assert!(!watch.is_stalled(2 * TIMEOUT_MS - 1));
        assert!(watch.is_stalled(2 * TIMEOUT_MS));
    }

    #[test]
    fn a_disk_that_hangs_across_pauses_is_still_detected() {
        let mut leader = Leader::new();
        leader.run(1_000);
        leader.disk_hangs = true;
        for _ in 0..6 {
            leader.run(1_000);
            leader.pause(2_000);
        }
        assert_eq!(leader.told, ["1700 refuses entries", "16400 hands over"]);
    }
}
