//! The leader's clocks: when each lease expires, and what to record or revoke.
//!
//! Time is a parameter, in milliseconds of a monotonic clock. A finding of this type takes effect
//! only when an entry for it is applied. Until then an expired lease stays here and can't be
//! renewed.

use std::collections::{BTreeSet, HashMap};

use synod_mvcc::LeaseRecord;

use crate::policy::{LeasePolicy, millis};
use crate::wheel::{TimerId, TimingWheel};

#[derive(Debug)]
struct Held {
    ttl_ms: u64,
    deadline_ms: u64,
    /// When to record the remaining time next.
    checkpoint_ms: u64,
    /// The remaining seconds in the table; zero without a record.
    recorded_s: i64,
    /// Whether a record is on its way into the table.
    recording: bool,
    timer: TimerId,
}

/// The result of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Renewal {
    /// The lease has its full TTL again, in seconds.
    Renewed(i64),
    /// The lease doesn't exist.
    Missing,
    /// The lease has expired and is being revoked.
    RanOut,
    /// Its remaining time was recorded. The record must be deleted before the lease can be renewed.
    Recorded,
}

/// Leases with their deadlines, for one term of leadership.
#[derive(Debug)]
pub(crate) struct Lessor {
    term: u64,
    policy: LeasePolicy,
    held: HashMap<i64, Held>,
    wheel: TimingWheel<i64>,
    /// Expired, not yet revoked.
    ran_out: BTreeSet<i64>,
    /// Leases to record.
    to_record: BTreeSet<i64>,
}

impl Lessor {
    /// Starts the clocks of all leases with their recorded remaining time, or else their full TTL.
    pub(crate) fn new(
        now_ms: u64,
        term: u64,
        policy: LeasePolicy,
        leases: impl Iterator<Item = (i64, LeaseRecord)>,
    ) -> Self {
        let mut lessor = Self {
            term,
            held: HashMap::new(),
            wheel: TimingWheel::new(now_ms),
            ran_out: BTreeSet::new(),
            to_record: BTreeSet::new(),
            policy,
        };
        let extension = millis(lessor.policy.extension);
        for (id, lease) in leases {
            let left_s = match lease.remaining_s {
                0 => lease.ttl_s,
                recorded => recorded,
            };
            lessor.hold(now_ms, id, lease, seconds_to_ms(left_s) + extension);
        }
        lessor
    }

    /// The term of this leadership.
    pub(crate) const fn term(&self) -> u64 {
        self.term
    }

    /// Adds a granted lease.
    pub(crate) fn granted(&mut self, now_ms: u64, id: i64, lease: LeaseRecord) {
        self.hold(now_ms, id, lease, seconds_to_ms(lease.ttl_s));
    }

    /// Removes a revoked lease.
    pub(crate) fn revoked(&mut self, id: i64) {
        if let Some(held) = self.held.remove(&id) {
            self.wheel.remove(held.timer);
        }
        self.ran_out.remove(&id);
        self.to_record.remove(&id);
    }

    /// An applied entry recorded this remaining time; zero deleted the record. The entries of one
    /// leader are applied in the order in which it proposed them. So any record that was on its way
    /// before this one is now in the table, or never will be.
    pub(crate) fn recorded(&mut self, id: i64, remaining_s: i64) {
        if let Some(held) = self.held.get_mut(&id) {
            held.recorded_s = remaining_s;
            held.recording = false;
        }
    }

    /// Gives a lease its full time again.
    pub(crate) fn renew(&mut self, now_ms: u64, id: i64) -> Renewal {
        let Some(held) = self.held.get_mut(&id) else {
            return Renewal::Missing;
        };
        if held.deadline_ms <= now_ms || self.ran_out.contains(&id) {
            return Renewal::RanOut;
        }
        // A record that is still on its way must be deleted too: a new leader would use it.
        if held.recorded_s != 0 || held.recording {
            return Renewal::Recorded;
        }
        held.deadline_ms = end_ms(now_ms, held.ttl_ms);
        held.checkpoint_ms = now_ms.saturating_add(self.policy.first_checkpoint_ms(held.ttl_ms));
        self.wheel.reschedule(held.timer, held.next_ms());
        self.to_record.remove(&id);
        Renewal::Renewed(ms_to_seconds(held.ttl_ms))
    }

    /// The remaining whole seconds, without a new leader's extension; zero while the lease is being
    /// revoked.
    pub(crate) fn remaining_s(&self, now_ms: u64, id: i64) -> Option<i64> {
        let held = self.held.get(&id)?;
        let left_ms = held.deadline_ms.saturating_sub(now_ms);
        Some(ms_to_seconds(left_ms.min(held.ttl_ms)))
    }

    /// When a lease ends.
    #[cfg(test)]
    pub(crate) fn deadline_ms(&self, id: i64) -> Option<u64> {
        self.held.get(&id).map(|held| held.deadline_ms)
    }

    /// Advances the time. Finds leases that expired or are due to be recorded.
    pub(crate) fn advance(&mut self, now_ms: u64) {
        let mut due = Vec::new();
        self.wheel.advance(now_ms, |id| due.push(id));
        for id in due {
            let Some(held) = self.held.get_mut(&id) else {
                continue;
            };
            if held.deadline_ms <= now_ms {
                self.to_record.remove(&id);
                self.ran_out.insert(id);
                continue;
            }
            self.to_record.insert(id);
            held.checkpoint_ms = now_ms.saturating_add(self.policy.next_checkpoint_ms(held.ttl_ms));
            held.timer = self.wheel.insert(held.next_ms(), id);
        }
    }

    /// The earliest time at which [`Self::advance`] has work to do.
    pub(crate) fn next_ms(&self) -> Option<u64> {
        self.wheel.next_deadline()
    }

    /// Expired leases, as many as one entry may revoke. They stay here until [`Self::revoked`].
    pub(crate) fn to_revoke(&self) -> Vec<i64> {
        self.ran_out
            .iter()
            .copied()
            .take(self.policy.revoke_batch)
            .collect()
    }

    /// Takes the records to write, as many as one entry may hold, with the remaining seconds. If a
    /// record is lost, the next one replaces it.
    pub(crate) fn take_records(&mut self, now_ms: u64) -> Vec<(i64, i64)> {
        let mut records = Vec::new();
        while records.len() < self.policy.checkpoint_batch
            && let Some(id) = self.to_record.pop_first()
        {
            if let Some(held) = self.held.get_mut(&id)
                && held.deadline_ms > now_ms
            {
                held.recording = true;
                records.push((id, held.left_s(now_ms)));
            }
        }
        records
    }

    /// Schedules a record of every lease that has used up a second or more. Called before
    /// leadership is handed over.
    pub(crate) fn record_all(&mut self, now_ms: u64) {
        for (id, held) in &self.held {
            let known_s = match held.recorded_s {
                0 => ms_to_seconds(held.ttl_ms),
                recorded => recorded,
            };
            if held.deadline_ms > now_ms && held.left_s(now_ms) < known_s {
                self.to_record.insert(*id);
            }
        }
    }

    fn hold(&mut self, now_ms: u64, id: i64, lease: LeaseRecord, left_ms: u64) {
        let ttl_ms = seconds_to_ms(lease.ttl_s);
        let deadline_ms = end_ms(now_ms, left_ms);
        let checkpoint_ms = now_ms.saturating_add(self.policy.first_checkpoint_ms(ttl_ms));
        let timer = self.wheel.insert(deadline_ms.min(checkpoint_ms), id);
        let held = Held {
            ttl_ms,
            deadline_ms,
            checkpoint_ms,
            recorded_s: lease.remaining_s,
            recording: false,
            timer,
        };
        if let Some(before) = self.held.insert(id, held) {
            self.wheel.remove(before.timer);
        }
    }
}

impl Held {
    fn next_ms(&self) -> u64 {
        self.deadline_ms.min(self.checkpoint_ms)
    }

    /// The remaining seconds, rounded up and at most the full TTL, so that a new leader's extension
    /// doesn't show. The extra millisecond of [`end_ms`] is subtracted first; otherwise it would be
    /// rounded up to a second.
    fn left_s(&self, now_ms: u64) -> i64 {
        let left_ms = self.deadline_ms.saturating_sub(now_ms).saturating_sub(1);
        ms_to_seconds(left_ms.min(self.ttl_ms).saturating_add(999))
    }
}

/// The end of a time span of `lasts_ms` that starts now. The clock is rounded down to whole
/// milliseconds, here and when the end is checked. Without the extra millisecond, the end could be
/// up to a millisecond early.
fn end_ms(now_ms: u64, lasts_ms: u64) -> u64 {
    now_ms.saturating_add(lasts_ms).saturating_add(1)
}

fn seconds_to_ms(seconds: i64) -> u64 {
    u64::try_from(seconds).unwrap_or(0).saturating_mul(1000)
}

fn ms_to_seconds(ms: u64) -> i64 {
    i64::try_from(ms / 1000).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const TERM: u64 = 4;

    fn policy() -> LeasePolicy {
        LeasePolicy {
            revoke_batch: 3,
            checkpoint_batch: 2,
            ..LeasePolicy::new(Duration::from_secs(1))
        }
    }

    fn lease(ttl_s: i64, remaining_s: i64) -> LeaseRecord {
        LeaseRecord { ttl_s, remaining_s }
    }

    fn lessor(leases: &[(i64, LeaseRecord)]) -> Lessor {
        Lessor::new(1000, TERM, policy(), leases.iter().copied())
    }

    #[test]
    fn a_new_leader_starts_from_the_record_plus_an_election_timeout() {
        let lessor = lessor(&[(1, lease(60, 0)), (2, lease(60, 12))]);
        assert_eq!(lessor.remaining_s(1000, 1), Some(60));
        assert_eq!(lessor.remaining_s(2000, 1), Some(60));
        assert_eq!(lessor.remaining_s(3000, 1), Some(59));
        assert_eq!(lessor.remaining_s(1000, 2), Some(13));
        assert_eq!(lessor.remaining_s(5000, 2), Some(9));
        assert_eq!(lessor.remaining_s(50_000, 2), Some(0));
        assert_eq!(lessor.remaining_s(1000, 3), None);
    }

    #[test]
    fn expired_leases_are_revoked_in_batches_and_cannot_be_renewed() {
        let mut lessor = lessor(&[]);
        for id in 1..=5 {
            lessor.granted(1000, id, lease(2, 0));
        }
        assert_eq!(lessor.next_ms().map(|at| at <= 3001), Some(true));
        lessor.advance(3000);
        assert!(lessor.to_revoke().is_empty());
        assert_eq!(lessor.renew(3000, 5), Renewal::Renewed(2));
        // Its time has run out whether or not `advance` has noticed.
        assert_eq!(lessor.renew(3001, 4), Renewal::RanOut);
        lessor.advance(3001);
        assert_eq!(lessor.to_revoke(), [1, 2, 3]);
        assert_eq!(
            lessor.to_revoke(),
            [1, 2, 3],
            "they stay until they are revoked"
        );
        for id in 1..=3 {
            lessor.revoked(id);
        }
        assert_eq!(lessor.to_revoke(), [4]);
        assert_eq!(lessor.renew(3001, 1), Renewal::Missing);
        lessor.advance(5001);
        assert_eq!(lessor.to_revoke(), [4, 5]);
    }

    /// The real clock is finer than the milliseconds passed here.
    #[test]
    fn no_lease_ends_before_its_whole_time_has_passed() {
        const TTL_US: u64 = 2_000_000;
        let ms = |us: u64| us / 1000;
        for fraction in (0..1000).step_by(37) {
            let granted_us = 1_000_000 + fraction;
            let mut lessor = lessor(&[]);
            lessor.granted(ms(granted_us), 1, lease(2, 0));
            lessor.granted(ms(granted_us), 2, lease(2, 0));
            let renewed_us = granted_us + 700_001;
            assert_eq!(lessor.renew(ms(renewed_us), 2), Renewal::Renewed(2));
            for (id, began_us) in [(1, granted_us), (2, renewed_us)] {
                let last_us = began_us + TTL_US - 1;
                lessor.advance(ms(last_us));
                assert!(!lessor.to_revoke().contains(&id), "{id} at {fraction}");
                lessor.advance(ms(last_us + 2001));
                assert!(lessor.to_revoke().contains(&id), "{id} at {fraction}");
            }
        }
    }

    #[test]
    fn only_leases_with_silent_owners_are_recorded() {
        let mut lessor = lessor(&[(1, lease(30, 0)), (2, lease(30, 0)), (3, lease(5, 0))]);
        let mut now = 1000;
        while now < 25_000 {
            now += 1000;
            lessor.advance(now);
            if now % 10_000 == 0 {
                assert_eq!(lessor.renew(now, 2), Renewal::Renewed(30));
            }
        }
        // Two fifths of 30 s have passed twice for the first lease and never for the second. The
        // third expired first.
        assert_eq!(lessor.take_records(now), [(1, 7)]);
        assert!(lessor.take_records(now).is_empty());
        assert_eq!(lessor.to_revoke(), [3]);
    }

    #[test]
    fn a_record_is_deleted_before_a_renewal() {
        let mut lessor = lessor(&[(1, lease(30, 20))]);
        assert_eq!(lessor.renew(2000, 1), Renewal::Recorded);
        assert_eq!(lessor.remaining_s(2000, 1), Some(20), "not renewed");
        lessor.recorded(1, 0);
        assert_eq!(lessor.renew(2000, 1), Renewal::Renewed(30));

        // A record that is proposed but not applied yet doesn't count either.
        lessor.record_all(9000);
        assert_eq!(lessor.take_records(9000), [(1, 23)]);
        assert_eq!(lessor.renew(9000, 1), Renewal::Recorded);
        lessor.recorded(1, 23);
        assert_eq!(lessor.renew(9000, 1), Renewal::Recorded);
        lessor.recorded(1, 0);
        assert_eq!(lessor.renew(9000, 1), Renewal::Renewed(30));
    }

    #[test]
    fn handing_over_records_the_time_used() {
        let mut lessor = lessor(&[]);
        for id in 1..=3 {
            lessor.granted(1000, id, lease(30, 0));
        }
        lessor.renew(9000, 2);
        lessor.record_all(9500);
        assert_eq!(lessor.take_records(9500), [(1, 22), (3, 22)]);
        // A new leader's extension is not handed over.
        let mut lessor = Lessor::new(1000, TERM, policy(), [(1, lease(30, 0))].into_iter());
        lessor.record_all(1500);
        assert!(lessor.take_records(1500).is_empty());
    }

    #[test]
    fn every_lease_expires_once_as_in_a_plain_list() {
        let mut lessor = lessor(&[]);
        let mut deadlines: HashMap<i64, u64> = HashMap::new();
        let (mut now, mut seed) = (1000_u64, 9_u64);
        let mut below = |bound: u64| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % bound
        };
        for step in 0..3000_i64 {
            now += below(400);
            match below(4) {
                0 => {
                    let ttl = 1 + below(40);
                    lessor.granted(now, step, lease(i64::try_from(ttl).unwrap(), 0));
                    deadlines.insert(step, end_ms(now, ttl * 1000));
                }
                1 => {
                    let Some(id) = deadlines.keys().min().copied() else {
                        continue;
                    };
                    let outcome = lessor.renew(now, id);
                    let lives = deadlines[&id] > now;
                    assert_eq!(matches!(outcome, Renewal::Renewed(_)), lives);
                    if let Renewal::Renewed(ttl) = outcome {
                        deadlines.insert(id, end_ms(now, u64::try_from(ttl).unwrap() * 1000));
                    }
                }
                _ => {
                    lessor.advance(now);
                    let mut over: Vec<i64> = deadlines
                        .iter()
                        .filter(|(_, deadline)| **deadline <= now)
                        .map(|(id, _)| *id)
                        .collect();
                    over.sort_unstable();
                    let mut revoked = Vec::new();
                    loop {
                        let batch = lessor.to_revoke();
                        if batch.is_empty() {
                            break;
                        }
                        for id in batch {
                            lessor.revoked(id);
                            deadlines.remove(&id);
                            revoked.push(id);
                        }
                    }
                    assert_eq!(revoked, over);
                }
            }
        }
    }
}
