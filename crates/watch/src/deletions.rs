//! Wakes tasks of the member that wait for the deletion of a key: waiters for a lock.
//!
//! There is no queue and no history: a woken task reads the keyspace. So it can't fall behind, and
//! a compaction does not affect it. The apply thread wakes the tasks directly, without the hub.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use synod_mvcc::{EventBatch, EventKind};
use tokio::sync::Notify;

/// The waiting tasks, by key and number. The caller bounds their number.
type Waiting = BTreeMap<(Bytes, u64), Arc<Notify>>;

/// The tasks that wait for the deletion of keys. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Deletions {
    waiting: Arc<Mutex<Waiting>>,
    last_number: Arc<AtomicU64>,
}

/// A task's interest in the deletion of some keys. Dropping it ends the interest.
#[derive(Debug)]
pub struct Interested {
    deletions: Deletions,
    keys: Vec<Bytes>,
    number: u64,
    notify: Arc<Notify>,
}

impl Deletions {
    /// Registers interest in the deletion of any of `keys`. If a read of the keyspace after this
    /// call does not show a deletion, that deletion wakes the task.
    #[must_use]
    pub fn of(&self, keys: Vec<Bytes>) -> Interested {
        let number = self.last_number.fetch_add(1, Ordering::Relaxed);
        let notify = Arc::new(Notify::new());
        let mut waiting = self.waiting.lock();
        for key in &keys {
            waiting.insert((key.clone(), number), Arc::clone(&notify));
        }
        drop(waiting);
        Interested {
            deletions: self.clone(),
            keys,
            number,
            notify,
        }
    }

    /// Wakes the tasks that wait for what these batches delete. Call it after the store's readers
    /// can see the deletions: a task that registered too late to be woken then sees them.
    pub fn publish(&self, batches: &[Arc<EventBatch>]) {
        let waiting = self.waiting.lock();
        if waiting.is_empty() {
            return;
        }
        let events = batches.iter().flat_map(|batch| &batch.events);
        for event in events.filter(|event| event.kind == EventKind::Delete) {
            let all = (event.key.clone(), u64::MIN)..=(event.key.clone(), u64::MAX);
            for (_, notify) in waiting.range(all) {
                notify.notify_one();
            }
        }
    }

    /// Wakes all tasks, because the events of a change are not in memory. As for [`Self::publish`],
    /// the store's readers must already see the change.
    pub fn jumped(&self) {
        for notify in self.waiting.lock().values() {
            notify.notify_one();
        }
    }
}

impl Interested {
    /// Resolves once for any number of deletions since the last call, or since the registration.
    ///
    /// # Cancel safety
    /// Safe to drop; a deletion that it has not reported is reported by the next call.
    pub async fn deleted(&self) {
        self.notify.notified().await;
    }

    /// Whether it waits for this key.
    #[must_use]
    pub fn concerns(&self, key: &Bytes) -> bool {
        self.keys.contains(key)
    }
}

impl Drop for Interested {
    fn drop(&mut self) {
        let mut waiting = self.deletions.waiting.lock();
        for key in self.keys.drain(..) {
            waiting.remove(&(key, self.number));
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::super::source::EventKind::{Delete, Put};
    use super::super::testing::Store;
    use super::*;

    fn key(name: &'static str) -> Bytes {
        Bytes::from_static(name.as_bytes())
    }

    fn is_woken(waiter: &Interested) -> bool {
        waiter.deleted().now_or_never().is_some()
    }

    #[test]
    fn a_deletion_wakes_those_who_wait_for_that_key_and_nobody_else() {
        let store = Store::new(1 << 20);
        let deletions = Deletions::default();
        store.write(&[("a", Put), ("b", Put)]);
        let first = deletions.of(vec![key("a"), key("own")]);
        let second = deletions.of(vec![key("a")]);
        let other = deletions.of(vec![key("b")]);
        deletions.publish(&[store.write(&[("a", Put), ("aa", Put)]).unwrap()]);
        assert!(!is_woken(&first), "a put is no deletion");
        deletions.publish(&[store.write(&[("aa", Delete), ("a", Delete)]).unwrap()]);
        assert!(is_woken(&first) && is_woken(&second));
        assert!(!is_woken(&other), "another key");
        assert!(!is_woken(&first), "each deletion wakes once");
    }

    #[test]
    fn a_waiter_waits_for_each_of_its_keys() {
        let store = Store::new(1 << 20);
        let deletions = Deletions::default();
        store.write(&[("before", Put), ("own", Put)]);
        let waiter = deletions.of(vec![key("before"), key("own")]);
        deletions.publish(&[store.write(&[("own", Delete)]).unwrap()]);
        assert!(is_woken(&waiter));
    }

    #[test]
    fn a_deletion_between_registration_and_wait_is_not_lost() {
        let store = Store::new(1 << 20);
        let deletions = Deletions::default();
        store.write(&[("a", Put)]);
        let waiter = deletions.of(vec![key("a")]);
        let waiting = waiter.deleted();
        // Dropped before it was polled.
        drop(waiting);
        deletions.publish(&[store.write(&[("a", Delete)]).unwrap()]);
        assert!(is_woken(&waiter));
    }

    #[test]
    fn a_jump_wakes_all() {
        let deletions = Deletions::default();
        let waiters = [deletions.of(vec![key("a")]), deletions.of(vec![key("b")])];
        deletions.jumped();
        assert!(waiters.iter().all(is_woken));
    }

    #[test]
    fn nothing_is_left_of_a_waiter_that_is_gone() {
        let deletions = Deletions::default();
        let waiter = deletions.of(vec![key("a"), key("b")]);
        let other = deletions.of(vec![key("a")]);
        let waiting = || deletions.waiting.lock().len();
        assert_eq!(waiting(), 3);
        drop(waiter);
        assert_eq!(waiting(), 1);
        drop(other);
        assert_eq!(waiting(), 0);
    }
}
