//! Slows writers down before fjall would stop them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::OpenDatabase;

/// The longest delay of one write. A write may also wait for an earlier one that is delayed.
const MAX_DELAY: Duration = Duration::from_millis(25);
/// Writes are delayed above this number of level-0 runs. fjall blocks writes at 20 to 30.
const LEVEL0_SOFT: u64 = 10;
const LEVEL0_HARD: u64 = 18;
/// Writes are delayed above this number of unflushed memtables in a space. fjall stops writes at 4,
/// for 100 ms at a time.
const SEALED_SOFT: u64 = 2;
/// Background work is delayed from this number of level-0 runs. Compaction starts at 4.
const LEVEL0_BACKGROUND: u64 = 8;

pub(super) struct Pacing {
    write_buffer_bytes: u64,
    level0_runs: AtomicU64,
    sealed: AtomicU64,
    delayed_micros: AtomicU64,
    // Signalled when the compaction thread has reduced the backlog.
    turn: Mutex<()>,
    room: Condvar,
}

impl Pacing {
    pub(super) fn new(write_buffer_bytes: u64) -> Self {
        Self {
            write_buffer_bytes: write_buffer_bytes.max(1),
            level0_runs: AtomicU64::new(0),
            sealed: AtomicU64::new(0),
            delayed_micros: AtomicU64::new(0),
            turn: Mutex::new(()),
            room: Condvar::new(),
        }
    }

    pub(super) fn level0_runs(&self) -> u64 {
        self.level0_runs.load(Ordering::Relaxed)
    }

    pub(super) fn delayed_micros(&self) -> u64 {
        self.delayed_micros.load(Ordering::Relaxed)
    }

    /// Called by the compaction thread after each check of the tables.
    pub(super) fn publish_level0(&self, runs: u64) {
        if self.level0_runs.swap(runs, Ordering::Relaxed) > runs {
            self.room.notify_all();
        }
    }

    /// Called by the journal's thread with the largest number of unflushed memtables in any space.
    pub(super) fn publish_sealed(&self, sealed: usize) {
        self.sealed.store(sealed as u64, Ordering::Relaxed);
    }

    /// Delays the calling writer in proportion to the backlog: not at all below the soft limits,
    /// then up to [`MAX_DELAY`].
    pub(super) fn wait(&self, shared: &OpenDatabase) {
        let delay = self.delay(shared.database.write_buffer_size(), self.level0_runs());
        if delay.is_zero() {
            return;
        }
        let mut turn = self.turn.lock();
        self.room.wait_for(&mut turn, delay);
        let micros = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        self.delayed_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// Delays background work while there is a backlog, for at most [`MAX_DELAY`], since it has to
    /// make progress too. Returns whether there was room.
    pub(super) fn wait_for_room(&self, shared: &OpenDatabase) -> bool {
        let buffered = shared.database.write_buffer_size();
        // Counted again: on a slow disk the published number may be stale.
        let sealed = shared.most_sealed() as u64;
        let has_room = self.has_room(buffered, self.level0_runs()) && sealed < SEALED_SOFT;
        if !has_room {
            self.room.wait_for(&mut self.turn.lock(), MAX_DELAY);
        }
        has_room
    }

    fn has_room(&self, buffered: u64, level0: u64) -> bool {
        buffered < self.write_buffer_bytes / 4 * 3 && level0 < LEVEL0_BACKGROUND
    }

    fn delay(&self, buffered: u64, level0: u64) -> Duration {
        let over = buffered.saturating_sub(self.write_buffer_bytes);
        let by_buffer = over.saturating_mul(1000) / self.write_buffer_bytes;
        let by_level0 = level0.saturating_sub(LEVEL0_SOFT) * 1000 / (LEVEL0_HARD - LEVEL0_SOFT);
        let sealed = self.sealed.load(Ordering::Relaxed);
        let by_sealed = sealed.saturating_sub(SEALED_SOFT) * 1000;
        let most = by_buffer.max(by_level0).max(by_sealed).min(1000);
        let permille = u32::try_from(most).unwrap_or(1000);
        MAX_DELAY * permille / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delay_grows_from_the_soft_limit_to_the_maximum() {
        let pacing = Pacing::new(64 << 20);
        assert_eq!(pacing.delay(64 << 20, LEVEL0_SOFT), Duration::ZERO);
        assert_eq!(pacing.delay(96 << 20, 0), MAX_DELAY / 2);
        assert_eq!(pacing.delay(1 << 40, 0), MAX_DELAY);
        assert_eq!(pacing.delay(0, 14), MAX_DELAY / 2);
        assert_eq!(pacing.delay(0, 30), MAX_DELAY);
        pacing.publish_sealed(2);
        assert_eq!(pacing.delay(0, 0), Duration::ZERO);
        pacing.publish_sealed(3);
        assert_eq!(pacing.delay(0, 0), MAX_DELAY);
    }

    #[test]
    fn background_work_is_delayed_before_any_write() {
        let pacing = Pacing::new(64 << 20);
        assert!(pacing.has_room(47 << 20, LEVEL0_BACKGROUND - 1));
        assert!(!pacing.has_room(48 << 20, 0));
        assert!(!pacing.has_room(0, LEVEL0_BACKGROUND));
        assert_eq!(pacing.delay(48 << 20, LEVEL0_BACKGROUND), Duration::ZERO);
    }
}
