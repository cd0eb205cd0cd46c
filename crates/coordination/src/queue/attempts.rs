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
    /// Calls in progress.
    calls: usize,
    /// Those of them that have not given up.
    interested: usize,
    /// A call was answered that the attempt holds.
    is_held: bool,
    /// A call gave up that had taken the place, or waited in it: the last one to give up leaves.
    /// Otherwise the place may be that of an earlier call, whose client was told that it holds.
    is_abandoned: bool,
    /// Taken while nodes are created or deleted.
    change: Arc<tokio::sync::Mutex<()>>,
}

/// A call in progress.
pub(super) struct Call {
    attempts: Arc<Attempts>,
    key: (String, Attempt),
    is_interested: bool,
    /// Taken while nodes of the attempt are created or deleted.
    pub(super) change: Arc<tokio::sync::Mutex<()>>,
}

/// Whose place a call gives up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// The call has taken it, or waited in it.
    Own,
    /// It may be that of an earlier call, which was answered.
    Earlier,
}

impl Attempts {
    /// A call about an attempt begins.
    pub(super) fn enter(self: &Arc<Self>, queue: &str, attempt: &Attempt) -> Call {
        let key = (queue.to_owned(), attempt.clone());
        let mut entries = self.entries.lock();
        let entry = entries.entry(key.clone()).or_default();
        entry.calls += 1;
        entry.interested += 1;
        Call {
            change: Arc::clone(&entry.change),
            attempts: Arc::clone(self),
            key,
            is_interested: true,
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

    /// The call gives up. Returns whether the attempt has to leave the queue: nobody else has an
    /// interest in its place. Of calls that give up at the same time, the last one is told so.
    pub(super) fn give_up(&mut self, whose: Whose) -> bool {
        let mut entries = self.attempts.entries.lock();
        let Some(entry) = entries.get_mut(&self.key) else {
            return false;
        };
        if std::mem::take(&mut self.is_interested) {
            entry.interested -= 1;
        }
        entry.is_abandoned |= whose == Whose::Own;
        entry.interested == 0 && entry.is_abandoned && !entry.is_held
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let mut entries = self.attempts.entries.lock();
        if let Some(entry) = entries.get_mut(&self.key) {
            entry.calls -= 1;
            entry.interested -= usize::from(self.is_interested);
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
    fn the_last_call_leaves_unless_another_was_told_that_it_holds() {
        let attempts = Arc::new(Attempts::default());
        let attempt = Attempt::new(SessionId::new(1), "r").unwrap();
        let mut first = attempts.enter("/q", &attempt);
        let mut second = attempts.enter("/q", &attempt);
        assert!(Arc::ptr_eq(&first.change, &second.change));
        // Another queue.
        assert!(attempts.enter("/p", &attempt).give_up(Whose::Own));
        // Neither has ended yet when both give up.
        assert!(!first.give_up(Whose::Own));
        assert!(second.give_up(Whose::Own));
        assert!(second.give_up(Whose::Own), "it is asked again");
        // One that comes while the last one leaves.
        let third = attempts.enter("/q", &attempt);
        assert!(!second.give_up(Whose::Own));
        third.is_held();
        drop(third);
        assert!(
            !second.give_up(Whose::Own),
            "the client knows that it holds"
        );
        drop((first, second));
        assert!(attempts.entries.lock().is_empty());
        let mut later = attempts.enter("/q", &attempt);
        assert!(later.give_up(Whose::Own));
    }

    #[test]
    fn a_call_leaves_no_place_of_an_earlier_one_unless_that_gave_up() {
        let attempts = Arc::new(Attempts::default());
        let attempt = Attempt::new(SessionId::new(1), "r").unwrap();
        let mut late = attempts.enter("/q", &attempt);
        assert!(!late.give_up(Whose::Earlier), "its client may hold");
        drop(late);
        let mut first = attempts.enter("/q", &attempt);
        let mut second = attempts.enter("/q", &attempt);
        assert!(!first.give_up(Whose::Own));
        drop(first);
        assert!(second.give_up(Whose::Earlier), "nobody else is left to");
    }
}
