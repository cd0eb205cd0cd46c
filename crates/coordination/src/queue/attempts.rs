//! The calls of this pod that acquire. Several may be about one attempt: a client that lost its
//! call makes another one, and must not lose its place to the clean-up of the first.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Attempt;

/// The attempts of calls in progress. There are no more than calls.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    entries: Mutex<HashMap<(String, Attempt), Entry>>,
}

#[derive(Debug, Default)]
struct Entry {
    calls: usize,
    /// A call was answered that the attempt holds.
    is_held: bool,
    /// Taken while nodes are created or deleted.
    change: Arc<tokio::sync::Mutex<()>>,
}

/// A call in progress.
pub(super) struct Call {
    attempts: Arc<Attempts>,
    key: (String, Attempt),
    /// Taken while nodes of the attempt are created or deleted.
    pub(super) change: Arc<tokio::sync::Mutex<()>>,
}

impl Attempts {
    /// A call about an attempt begins.
    pub(super) fn enter(self: &Arc<Self>, queue: &str, attempt: &Attempt) -> Call {
        let key = (queue.to_owned(), attempt.clone());
        let mut entries = self.entries.lock();
        let entry = entries.entry(key.clone()).or_default();
        entry.calls += 1;
        Call {
            change: Arc::clone(&entry.change),
            attempts: Arc::clone(self),
            key,
        }
    }
}

impl Call {
    /// The client was told that it holds.
    pub(super) fn is_held(&self) {
        if let Some(entry) = self.attempts.entries.lock().get_mut(&self.key) {
            entry.is_held = true;
        }
    }

    /// Whether nobody else has an interest in the attempt's place.
    pub(super) fn may_leave(&self) -> bool {
        let entries = self.attempts.entries.lock();
        let entry = entries.get(&self.key);
        entry.is_none_or(|entry| entry.calls == 1 && !entry.is_held)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let mut entries = self.attempts.entries.lock();
        if let Some(entry) = entries.get_mut(&self.key) {
            entry.calls -= 1;
            if entry.calls == 0 {
                entries.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use synod_coordination_core::SessionId;

    use super::*;

    #[test]
    fn the_last_call_may_leave_unless_another_was_told_that_it_holds() {
        let attempts = Arc::new(Attempts::default());
        let attempt = Attempt::new(SessionId::new(1), "r").unwrap();
        let first = attempts.enter("/q", &attempt);
        assert!(first.may_leave());
        let second = attempts.enter("/q", &attempt);
        assert!(!first.may_leave() && !second.may_leave());
        assert!(Arc::ptr_eq(&first.change, &second.change));
        // Another queue.
        assert!(attempts.enter("/p", &attempt).may_leave());
        second.is_held();
        drop(second);
        assert!(!first.may_leave(), "the client knows that it holds");
        drop(first);
        assert!(attempts.entries.lock().is_empty());
        assert!(attempts.enter("/q", &attempt).may_leave(), "a later call");
    }
}
