//! Catching up: cohorts, their turns, and the jobs that read for them.

use std::sync::Arc;

use super::super::interest::Interest;
use super::super::message::{Feed, Job, JobResult, Work};
use super::super::queue::{End, Notice, Push};
use super::super::source::{self, Fill, HistoryError, Piece, Revisions};
use super::large::Marking;
use super::{Hub, Member, State, WatcherKey};

/// Watchers with equal interests that need the same revision next.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct CohortKey {
    interest: Interest,
    next: i64,
}

/// The purpose of the running job.
#[derive(Debug)]
pub(super) enum InFlight {
    Nothing,
    Fill,
    DeletedKeys,
    Read(CohortKey, Vec<WatcherKey>),
}

impl Hub {
    /// Performs one bounded step of catching up.
    pub(crate) fn work(&mut self) -> Work {
        self.pump();
        if matches!(self.in_flight, InFlight::Nothing)
            && self
                .feed
                .front()
                .is_some_and(|f| f.revision() > self.processed)
        {
            if let Some(job) = self.next_deleted_keys() {
                self.in_flight = InFlight::DeletedKeys;
                return Work::Run(job);
            }
            self.in_flight = InFlight::Fill;
            return Work::Run(Job::Fill {
                from: self.processed + 1,
            });
        }
        while let Some(turn) = self.memory_turns.pop_front() {
            let store = self.history.revisions();
            // Compacted revisions are refused even if they are still in memory.
            if !self.ring.reaches(turn.next) || turn.next < store.compacted {
                self.history_turns.push_back(turn);
                continue;
            }
            if let Some(members) = self.cohorts.remove(&turn) {
                let store = Revisions {
                    current: self.store_revision(),
                    ..store
                };
                let piece = self.ring.read(&turn.interest, turn.next, store);
                self.deliver(&turn, &members, &piece);
                self.publish_stats();
                return Work::Stepped;
            }
        }
        if matches!(self.in_flight, InFlight::Nothing)
            && let Some(turn) = self.history_turns.pop_front()
        {
            let members = self.cohorts.remove(&turn).unwrap_or_default();
            let job = Job::Read {
                interest: turn.interest.clone(),
                from: turn.next,
            };
            self.in_flight = InFlight::Read(turn, members);
            return Work::Run(job);
        }
        Work::Idle
    }

    /// Receives the result of the running job.
    pub(crate) fn complete(&mut self, result: JobResult) {
        match (
            std::mem::replace(&mut self.in_flight, InFlight::Nothing),
            result,
        ) {
            (InFlight::Fill, JobResult::Filled(filled)) => self.filled(filled),
            (InFlight::DeletedKeys, JobResult::DeletedKeys(keys)) => self.mark(keys),
            (InFlight::Read(turn, members), JobResult::Read(Ok(piece))) => {
                self.deliver(&turn, &members, &piece);
            }
            (InFlight::Read(_, members), JobResult::Read(Err(error))) => {
                self.give_up(&members, &error);
            }
            (in_flight, _) => self.in_flight = in_flight,
        }
        self.publish_stats();
    }

    /// Moves a watcher to the state that its `next` revision calls for.
    pub(super) fn catch_up(&mut self, key: WatcherKey) {
        let Some(watcher) = self.watchers.get_mut(&key) else {
            return;
        };
        if watcher.next > self.processed {
            watcher.state = State::Synced;
            if let Some(marking) = &mut self.marking {
                marking.joined(key, watcher.next);
            }
            let member = Member {
                min_revision: watcher.next,
                target: watcher.target,
                queue: Arc::clone(&watcher.queue),
            };
            self.synced.insert(&watcher.interest, key, member);
            return;
        }
        watcher.state = State::CatchingUp;
        let turn = CohortKey {
            interest: watcher.interest.clone(),
            next: watcher.next,
        };
        if let Some(members) = self.cohorts.get_mut(&turn) {
            members.push(key);
            return;
        }
        self.cohorts.insert(turn.clone(), vec![key]);
        if self.ring.reaches(turn.next) {
            self.memory_turns.push_back(turn);
        } else {
            self.history_turns.push_back(turn);
        }
    }

    pub(super) fn park(&mut self, key: WatcherKey, next: i64) {
        let Some(watcher) = self.watchers.get_mut(&key) else {
            return;
        };
        if matches!(watcher.state, State::Synced) {
            self.synced.remove(&watcher.interest, &key);
        }
        watcher.state = State::Parked;
        watcher.next = next;
        if let Some(stream) = self.streams.get_mut(&watcher.stream) {
            stream.parked.push(key);
        }
    }

    fn filled(&mut self, filled: Result<Fill, HistoryError>) {
        match filled {
            Ok(fill) => {
                for batch in fill.batches {
                    // Revisions between two batches had no events.
                    if source::revision(&batch) > self.processed {
                        self.process(batch);
                    }
                }
                self.processed = self.processed.max(fill.through);
                self.marking = fill
                    .large
                    .filter(|large| large.revision > self.processed)
                    .map(Marking::new);
            }
            Err(error) => self.cannot_read(&error),
        }
        self.answer_questions();
    }

    /// Handles a failure to read revisions that all synced watchers need next.
    pub(super) fn cannot_read(&mut self, error: &HistoryError) {
        if let HistoryError::Failed(message) = error {
            tracing::error!(%message, "cannot read the watch history; each watch tries to: check the disk");
        }
        self.marking = None;
        self.demote_all();
    }

    /// Makes all synced watchers catch up: the revisions that they need next are compacted or
    /// unreadable, and each finds out for itself.
    fn demote_all(&mut self) {
        let next = self.processed + 1;
        let target = match self.feed.front() {
            Some(Feed::Batch(batch)) => source::revision(batch) - 1,
            Some(Feed::Jump(revision)) => *revision,
            None => self.processed,
        };
        self.processed = self.processed.max(target);
        self.ring.clear();
        let keys: Vec<WatcherKey> = self.synced.drain().collect();
        for key in keys {
            if let Some(watcher) = self.watchers.get_mut(&key) {
                watcher.next = watcher.next.max(next);
            }
            self.catch_up(key);
        }
    }

    fn deliver(&mut self, turn: &CohortKey, members: &[WatcherKey], piece: &Piece) {
        for key in members {
            let Some(watcher) = self.watchers.get_mut(key) else {
                continue;
            };
            match watcher
                .queue
                .push(&watcher.target, piece.store_revision, &piece.parts)
            {
                Push::Accepted => {
                    watcher.next = piece.through.max(turn.next - 1) + 1;
                    self.catch_up(*key);
                }
                Push::Full => self.park(*key, turn.next),
                Push::Closed => {}
            }
        }
    }

    fn give_up(&mut self, members: &[WatcherKey], error: &HistoryError) {
        for key in members {
            let Some(watcher) = self.watchers.remove(key) else {
                continue;
            };
            match error {
                HistoryError::Compacted(compact_revision) => {
                    watcher.queue.notify(Notice::Compacted {
                        watch_id: watcher.target.watch_id,
                        compact_revision: *compact_revision,
                    });
                }
                HistoryError::Failed(message) => {
                    tracing::error!(%message, "cannot read the watch history, so watches ended: check the disk");
                    watcher.queue.close(End::Broken);
                }
            }
            if let Some(stream) = self.streams.get_mut(&watcher.stream) {
                stream.watchers.remove(&watcher.target.watch_id);
            }
        }
    }
}
