//! Large revisions. The hub first finds, in bounded steps, the synced watchers that a large
//! revision affects. These then catch up, each cohort by itself, while the others continue.

use std::collections::{BTreeSet, HashSet};

use super::super::message::Job;
use super::super::set::GroupSlot;
use super::super::source::{self, DeletedKeys, EventKind, HistoryError, LargeRevision};
use super::{Hub, WatcherKey};

/// The search for the watchers that a large revision affects.
#[derive(Debug)]
pub(super) struct Marking {
    large: LargeRevision,
    /// The last piece of the revision whose keys were checked.
    after: u32,
    groups: HashSet<GroupSlot>,
    found: BTreeSet<WatcherKey>,
}

impl Marking {
    pub(super) fn new(large: LargeRevision) -> Self {
        Self {
            large,
            after: 0,
            groups: HashSet::new(),
            found: BTreeSet::new(),
        }
    }

    /// Handles a watcher that joins the synced ones during the search. It was not checked against
    /// the earlier pieces, so it counts as affected.
    pub(super) fn joined(&mut self, key: WatcherKey, next: i64) {
        if next <= self.large.revision {
            self.found.insert(key);
        }
    }
}

impl Hub {
    /// The next read that a large revision needs.
    pub(super) fn next_deleted_keys(&self) -> Option<Job> {
        self.marking.as_ref().map(|marking| Job::DeletedKeys {
            large: marking.large.clone(),
            after: marking.after,
        })
    }

    /// Marks the watchers of these keys.
    pub(super) fn mark(&mut self, keys: Result<DeletedKeys, HistoryError>) {
        let Some(marking) = &mut self.marking else {
            // The search was abandoned.
            return;
        };
        let keys = match keys {
            Ok(keys) => keys,
            Err(error) => {
                self.cannot_read(&error);
                return self.answer_questions();
            }
        };
        let synced = &self.synced;
        for key in &keys.keys {
            synced.stab(key, |id| {
                if let Some(group) = synced.group(id)
                    && source::admits(group.flags, EventKind::Delete)
                    && marking.groups.insert(id)
                {
                    let members = group.members.iter();
                    let waits = members.filter(|(_, m)| m.min_revision <= marking.large.revision);
                    marking.found.extend(waits.map(|(key, _)| *key));
                }
            });
        }
        match keys.next {
            Some(next) => marking.after = next,
            None => self.end_marking(),
        }
    }

    fn end_marking(&mut self) {
        let Some(marking) = self.marking.take() else {
            return;
        };
        self.processed = self.processed.max(marking.large.revision);
        // The next batch is not contiguous with the last one: the large revision lies between them.
        self.ring.clear();
        for key in marking.found {
            let Some(watcher) = self.watchers.get_mut(&key) else {
                continue;
            };
            watcher.next = marking.large.revision;
            self.synced.remove(&watcher.interest, &key);
            self.catch_up(key);
        }
        self.answer_questions();
    }
}
