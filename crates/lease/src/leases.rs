//! The two parts of leasing under one lock: the table, which entries change, and the leader's
//! clocks.

use std::collections::HashSet;
use std::time::Instant;

use parking_lot::Mutex;
use synod_mvcc::{LeaseId, LeaseRecord};
use synod_proto::consensus::v1::{LeaseCheckpoint, LeaseClaim, LeaseRevoke};
use synod_runtime::clock;
use tokio::sync::{Notify, watch};

use crate::error::GrantError;
use crate::lessor::{Lessor, Renewal};
use crate::policy::{LeasePolicy, millis};
use crate::table::{Keeper, LeaseTable};

/// The remaining time of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Remaining {
    /// The remaining whole seconds; zero while the lease is being revoked.
    pub(crate) left_s: i64,
    /// The granted TTL in seconds.
    pub(crate) granted_s: i64,
}

/// This node does not lead in the requested term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotLeading;

#[derive(Debug)]
struct State {
    table: LeaseTable,
    lessor: Option<Lessor>,
    /// When the keeper wakes up next.
    keeper_wakes_ms: u64,
}

/// A node's leases. The apply thread changes the table; services and the keeper read and renew.
#[derive(Debug)]
pub struct Leases {
    policy: LeasePolicy,
    epoch: Instant,
    state: Mutex<State>,
    /// Notified when something is due earlier than the keeper expects.
    sooner: Notify,
    /// Notified when a lease was revoked, or this node stopped leading.
    revoked: Notify,
    /// The term in which this node runs the clocks; zero if it doesn't.
    keeping: watch::Sender<u64>,
}

impl Leases {
    /// Creates the leases from stored rows.
    pub fn new(
        policy: LeasePolicy,
        leases: impl IntoIterator<Item = (LeaseId, LeaseRecord)>,
        keeper: Keeper,
    ) -> Self {
        Self {
            policy,
            epoch: clock::now(),
            state: Mutex::new(State {
                table: LeaseTable::new(leases, keeper),
                lessor: None,
                keeper_wakes_ms: u64::MAX,
            }),
            sooner: Notify::new(),
            revoked: Notify::new(),
            keeping: watch::Sender::new(0),
        }
    }

    /// Replaces all leases after a peer's snapshot was installed.
    pub fn reload(&self, leases: impl IntoIterator<Item = (LeaseId, LeaseRecord)>, keeper: Keeper) {
        let table = LeaseTable::new(leases, keeper);
        let mut state = self.state.lock();
        state.table = table;
        // A leader never installs a snapshot.
        state.lessor = None;
        drop(state);
        self.revoked.notify_waiters();
    }

    // Applying entries. This is deterministic: the clocks follow the table and decide nothing.

    /// Applies a grant. Returns the lease to store.
    ///
    /// # Errors
    /// [`GrantError`] with the reason.
    pub fn apply_grant(&self, id: i64, ttl_s: i64) -> Result<LeaseRecord, GrantError> {
        let now_ms = self.now_ms();
        let mut state = self.state.lock();
        let lease = state.table.grant(id, ttl_s)?;
        let wakes_ms = state.keeper_wakes_ms;
        if let Some(lessor) = &mut state.lessor {
            lessor.granted(now_ms, id, lease);
            if lessor.next_ms().is_some_and(|next| next < wakes_ms) {
                self.sooner.notify_one();
            }
        }
        Ok(lease)
    }

    /// Applies a claim. Returns the keeper to store, or `None` if a later claim is in force.
    pub fn apply_claim(&self, command: LeaseClaim) -> Option<Keeper> {
        let LeaseClaim { term, member } = command;
        let keeper = Keeper { term, member };
        self.state.lock().table.claim(keeper).then_some(keeper)
    }

    /// The existing leases that a revocation removes, in the order of the command. `appended` is
    /// the entry's term; it is only used for entries without a claim.
    pub fn revocable(&self, appended: u64, command: &LeaseRevoke) -> Vec<i64> {
        let found_by = Keeper {
            term: command.expired_in_term,
            member: command.expired_by,
        };
        let state = self.state.lock();
        if found_by.term != 0 && !state.counts(found_by, appended) {
            return Vec::new();
        }
        let mut named = HashSet::with_capacity(command.ids.len());
        let ids = command.ids.iter().copied();
        ids.filter(|id| state.table.get(*id).is_some() && named.insert(*id))
            .collect()
    }

    /// Removes leases whose keys have been deleted.
    pub fn apply_revoke(&self, ids: &[i64]) {
        let mut state = self.state.lock();
        for id in ids {
            state.table.revoke(*id);
            if let Some(lessor) = &mut state.lessor {
                lessor.revoked(*id);
            }
        }
        drop(state);
        self.revoked.notify_waiters();
    }

    /// Applies a checkpoint. Returns the leases to store again. For `appended` see
    /// [`Self::revocable`].
    pub fn apply_checkpoint(
        &self,
        appended: u64,
        command: &LeaseCheckpoint,
    ) -> Vec<(i64, LeaseRecord)> {
        let found_by = Keeper {
            term: command.term,
            member: command.member,
        };
        let mut state = self.state.lock();
        if !state.counts(found_by, appended) {
            return Vec::new();
        }
        let mut changed = Vec::with_capacity(command.checkpoints.len());
        for checkpoint in &command.checkpoints {
            let (id, remaining_s) = (checkpoint.id, checkpoint.remaining_ttl);
            changed.extend(
                state
                    .table
                    .checkpoint(id, remaining_s)
                    .map(|lease| (id, lease)),
            );
            if let Some(lessor) = &mut state.lessor {
                lessor.recorded(id, remaining_s);
            }
        }
        changed
    }

    /// Whether this claim is the latest one.
    #[must_use]
    pub fn is_kept_by(&self, claim: LeaseClaim) -> bool {
        let LeaseClaim { term, member } = claim;
        self.state.lock().table.keeper() == Keeper { term, member }
    }

    /// Whether the lease exists.
    #[must_use]
    pub fn contains(&self, id: i64) -> bool {
        self.state.lock().table.get(id).is_some()
    }

    /// All ids in order.
    #[must_use]
    pub fn ids(&self) -> Vec<i64> {
        self.state.lock().table.iter().map(|(id, _)| id).collect()
    }

    // Leader operations.

    /// Starts the clocks for a term.
    pub(crate) fn lead(&self, term: u64) {
        let now_ms = self.now_ms();
        let mut state = self.state.lock();
        let lessor = Lessor::new(now_ms, term, self.policy.clone(), state.table.iter());
        state.lessor = Some(lessor);
        drop(state);
        self.keeping.send_replace(term);
    }

    /// Stops the clocks.
    pub(crate) fn follow(&self) {
        self.state.lock().lessor = None;
        self.keeping.send_replace(0);
        // Callers that wait for a revocation have to ask the next leader.
        self.revoked.notify_waiters();
    }

    /// The term in which this node runs the clocks, now and after each change; zero if it doesn't.
    pub(crate) fn keeping(&self) -> watch::Receiver<u64> {
        self.keeping.subscribe()
    }

    /// Renews leases, all at the same instant.
    ///
    /// # Errors
    /// [`NotLeading`] if this node does not lead in `term`.
    pub(crate) fn renew(&self, term: u64, ids: &[i64]) -> Result<Vec<Renewal>, NotLeading> {
        let now_ms = self.now_ms();
        let mut state = self.state.lock();
        let lessor = state.lessor(term)?;
        Ok(ids.iter().map(|id| lessor.renew(now_ms, *id)).collect())
    }

    /// Restarts a lease's time when this node answers its grant, if this node keeps the clocks: the
    /// owner's time begins then, not when the entry was applied. Otherwise nothing changes. The
    /// keeper counts from its own apply, so that a little of the TTL has passed when the owner gets
    /// the answer.
    pub fn granted_now(&self, id: i64) {
        let now_ms = self.now_ms();
        if let Some(lessor) = &mut self.state.lock().lessor {
            // A lease that was revoked or recorded meanwhile stays as it is.
            let _outcome = lessor.renew(now_ms, id);
        }
    }

    /// The remaining time of a lease; `None` if it doesn't exist.
    ///
    /// # Errors
    /// [`NotLeading`] if this node does not lead in `term`.
    pub(crate) fn remaining(&self, term: u64, id: i64) -> Result<Option<Remaining>, NotLeading> {
        let now_ms = self.now_ms();
        let mut state = self.state.lock();
        let left_s = state.lessor(term)?.remaining_s(now_ms, id);
        let lease = state.table.get(id);
        Ok(lease.zip(left_s).map(|(lease, left_s)| Remaining {
            left_s,
            granted_s: lease.ttl_s,
        }))
    }

    /// The work that is due: leases to revoke and records to write, each at most one entry's worth.
    ///
    /// # Errors
    /// [`NotLeading`] if this node does not lead in `term`.
    pub(crate) fn due(&self, term: u64) -> Result<Due, NotLeading> {
        let now_ms = self.now_ms();
        let mut state = self.state.lock();
        let lessor = state.lessor(term)?;
        lessor.advance(now_ms);
        let due = Due {
            revoke: lessor.to_revoke(),
            record: lessor.take_records(now_ms),
            next: lessor.next_ms().map(|next| self.at(next)),
        };
        state.keeper_wakes_ms = match due.next {
            Some(next) => millis(next.saturating_duration_since(self.epoch)),
            None => u64::MAX,
        };
        Ok(due)
    }

    /// Schedules a record of every lease's remaining time.
    ///
    /// # Errors
    /// [`NotLeading`] if this node does not lead in `term`.
    pub(crate) fn record_all(&self, term: u64) -> Result<(), NotLeading> {
        let now_ms = self.now_ms();
        self.state.lock().lessor(term)?.record_all(now_ms);
        Ok(())
    }

    /// Resolves when something is due earlier than the last [`Due::next`].
    pub(crate) async fn sooner(&self) {
        self.sooner.notified().await;
    }

    /// Resolves once none of `ids` exists. Fails if this node no longer leads in `term`.
    pub(crate) async fn gone(&self, term: u64, ids: &[i64]) -> Result<(), NotLeading> {
        loop {
            let revoked = self.revoked.notified();
            {
                let mut state = self.state.lock();
                state.lessor(term)?;
                if ids.iter().all(|id| state.table.get(*id).is_none()) {
                    return Ok(());
                }
            }
            revoked.await;
        }
    }

    fn now_ms(&self) -> u64 {
        millis(clock::now().saturating_duration_since(self.epoch))
    }

    fn at(&self, ms: u64) -> Instant {
        // A year from now counts as never; the keeper then checks again.
        const FAR_MS: u64 = 365 * 24 * 3600 * 1000;
        let ms = ms.min(self.now_ms().saturating_add(FAR_MS));
        self.epoch + std::time::Duration::from_millis(ms)
    }
}

/// See [`Leases::due`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    /// Expired leases.
    pub(crate) revoke: Vec<i64>,
    /// Lease ids with their remaining seconds.
    pub(crate) record: Vec<(i64, i64)>,
    /// When to check again.
    pub(crate) next: Option<Instant>,
}

impl State {
    /// Whether a keeper's finding is still valid. It is valid until a later claim, in log order.
    /// Software releases without claims used the entry's term, which is the same on all members
    /// only with Raft.
    fn counts(&self, found_by: Keeper, appended: u64) -> bool {
        match found_by.member {
            0 => found_by.term == appended,
            _ => found_by == self.table.keeper(),
        }
    }

    fn lessor(&mut self, term: u64) -> Result<&mut Lessor, NotLeading> {
        self.lessor
            .as_mut()
            .filter(|lessor| lessor.term() == term)
            .ok_or(NotLeading)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use synod_proto::etcd::etcdserverpb as pb;

    use super::*;

    const ME: u64 = 8;

    fn leases() -> Leases {
        Leases::new(
            LeasePolicy::new(Duration::from_secs(1)),
            [],
            Keeper::default(),
        )
    }

    fn revoke(ids: &[i64], expired_in_term: u64) -> LeaseRevoke {
        LeaseRevoke {
            ids: ids.to_vec(),
            expired_in_term,
            expired_by: ME,
        }
    }

    fn revoke_all(leases: &Leases, appended: u64, command: &LeaseRevoke) -> Vec<i64> {
        let ids = leases.revocable(appended, command);
        leases.apply_revoke(&ids);
        ids
    }

    fn checkpoint(id: i64, remaining_ttl: i64, term: u64) -> LeaseCheckpoint {
        LeaseCheckpoint {
            checkpoints: vec![pb::LeaseCheckpoint { id, remaining_ttl }],
            term,
            member: ME,
        }
    }

    fn claim(leases: &Leases, term: u64, member: u64) -> bool {
        leases.apply_claim(LeaseClaim { term, member }).is_some()
    }

    #[test]
    fn findings_of_an_earlier_leader_have_no_effect() {
        let leases = leases();
        leases.apply_grant(1, 60).unwrap();
        leases.apply_grant(2, 60).unwrap();
        assert!(claim(&leases, 3, ME) && claim(&leases, 4, ME));
        // Found in term 3 but decided after the claim of term 4, whose leader renewed the lease.
        // The entry's local ballot is irrelevant: members may have accepted it in different
        // ballots.
        for ballot in [3, 4, 5] {
            assert!(revoke_all(&leases, ballot, &revoke(&[1], 3)).is_empty());
            let late = leases.apply_checkpoint(ballot, &checkpoint(1, 5, 3));
            assert!(late.is_empty());
        }
        assert!(leases.contains(1));
        let changed = leases.apply_checkpoint(7, &checkpoint(1, 5, 4));
        assert_eq!(changed[0].1.remaining_s, 5);
        // Clients may revoke in any term. Unknown and repeated ids are skipped.
        assert_eq!(revoke_all(&leases, 4, &revoke(&[2, 9, 2], 0)), [2]);
        // Another leader of the same round.
        assert!(claim(&leases, 4, ME + 1));
        assert!(revoke_all(&leases, 4, &revoke(&[1], 4)).is_empty());
        assert!(!claim(&leases, 4, ME), "earlier than the claim in force");
        assert!(claim(&leases, 6, ME));
        assert_eq!(revoke_all(&leases, 5, &revoke(&[1], 6)), [1]);
        assert!(leases.ids().is_empty());
    }

    #[test]
    fn entries_without_claims_are_valid_in_their_own_term() {
        let leases = leases();
        leases.apply_grant(1, 60).unwrap();
        let old = LeaseRevoke {
            expired_by: 0,
            ..revoke(&[1], 3)
        };
        assert!(revoke_all(&leases, 4, &old).is_empty());
        assert_eq!(revoke_all(&leases, 3, &old), [1]);
    }

    #[test]
    fn the_clocks_run_for_one_term_only() {
        let leases = leases();
        leases.apply_grant(1, 60).unwrap();
        assert_eq!(leases.renew(5, &[1]), Err(NotLeading));
        claim(&leases, 5, ME);
        leases.lead(5);
        leases.apply_grant(2, 60).unwrap();
        assert_eq!(*leases.keeping().borrow(), 5);
        let renewed = [Renewal::Renewed(60), Renewal::Renewed(60), Renewal::Missing];
        assert_eq!(leases.renew(5, &[1, 2, 3]).unwrap(), renewed);
        assert_eq!(leases.renew(6, &[1]), Err(NotLeading));
        assert_eq!(leases.remaining(5, 3), Ok(None));
        let remaining = leases.remaining(5, 2).unwrap().unwrap();
        assert_eq!((remaining.granted_s, remaining.left_s >= 59), (60, true));
        leases.follow();
        assert_eq!(leases.due(5), Err(NotLeading));

        // The next term starts from the remaining time recorded meanwhile.
        claim(&leases, 6, ME);
        leases.apply_checkpoint(6, &checkpoint(1, 20, 6));
        claim(&leases, 7, ME);
        leases.lead(7);
        assert!(leases.remaining(7, 1).unwrap().unwrap().left_s <= 21);
        assert_eq!(leases.renew(7, &[1]).unwrap(), [Renewal::Recorded]);
        leases.apply_checkpoint(7, &checkpoint(1, 0, 7));
        assert_eq!(leases.renew(7, &[1]).unwrap(), [Renewal::Renewed(60)]);
    }

    #[tokio::test]
    async fn waiting_for_a_revocation_ends_with_it_or_with_the_term() {
        let leases = leases();
        leases.apply_grant(1, 60).unwrap();
        claim(&leases, 5, ME);
        leases.lead(5);
        assert_eq!(leases.gone(5, &[9]).await, Ok(()));
        let revoking = async { revoke_all(&leases, 5, &revoke(&[1], 5)) };
        let (gone, revoked) = tokio::join!(leases.gone(5, &[1]), revoking);
        assert_eq!((gone, revoked), (Ok(()), vec![1]));
        leases.apply_grant(2, 60).unwrap();
        let (gone, ()) = tokio::join!(leases.gone(5, &[2]), async { leases.follow() });
        assert_eq!(gone, Err(NotLeading));
    }

    #[test]
    fn a_granted_leases_time_starts_with_its_answer() {
        let leases = leases();
        claim(&leases, 5, ME);
        leases.lead(5);
        leases.apply_grant(1, 60).unwrap();
        let ends = |leases: &Leases| leases.state.lock().lessor(5).unwrap().deadline_ms(1);
        let applied = ends(&leases).unwrap();
        let before = leases.now_ms();
        while leases.now_ms() < before + 2 {
            std::thread::yield_now();
        }
        leases.granted_now(1);
        assert!(ends(&leases).unwrap() >= applied + 2);
        // Neither running clocks nor an existing lease.
        leases.granted_now(2);
        leases.follow();
        leases.granted_now(1);
    }

    #[tokio::test]
    async fn a_shorter_lease_wakes_the_keeper() {
        let leases = leases();
        leases.lead(5);
        assert_eq!(leases.due(5).unwrap().next, None);
        leases.apply_grant(1, 600).unwrap();
        leases.sooner().await;
        let first = leases.due(5).unwrap().next.unwrap();
        leases.apply_grant(2, 2).unwrap();
        leases.sooner().await;
        assert!(leases.due(5).unwrap().next.unwrap() < first);
    }
}
