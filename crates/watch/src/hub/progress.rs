//! Progress notifications. They go through the same queue as the events that they cover.

use super::super::message::StreamId;
use super::super::queue::{Notice, Progress, WatchId};
use super::{Hub, State, Watcher, WatcherKey};

/// Progress requests that wait until the feed has reached the store's revision at the time of the
/// request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Question {
    /// Requested by the client.
    Asked(StreamId),
    /// Due by the periodic timer.
    Periodic(StreamId),
}

impl Hub {
    /// Queues a progress request. Progress covers everything that the store had when it was
    /// requested, so the request waits for the feed.
    pub(super) fn ask(&mut self, question: Question) {
        let revision = self.history.revisions().current;
        if revision <= self.processed || !self.has_watchers() {
            self.answer(question);
        } else if self.questions.len() < self.limits.questions {
            self.questions.insert((revision, question));
        }
    }

    pub(super) fn answer_questions(&mut self) {
        while let Some((revision, question)) = self.questions.first().copied() {
            if revision > self.processed {
                break;
            }
            self.questions.pop_first();
            self.answer(question);
        }
    }

    fn answer(&self, question: Question) {
        match question {
            Question::Asked(id) => self.answer_stream(id),
            Question::Periodic(id) => self.answer_watchers(id),
        }
    }

    /// Answers for the whole stream. As in etcd, there is no answer if any of the stream's watchers
    /// is behind or it has none.
    fn answer_stream(&self, id: StreamId) {
        let Some(stream) = self.streams.get(&id) else {
            return;
        };
        let synced = |key: &WatcherKey| self.watchers.get(key).is_some_and(|w| self.is_current(w));
        if !stream.watchers.is_empty() && stream.watchers.values().all(synced) {
            stream.queue.notify(Notice::Progress {
                watch_id: WatchId::NONE,
                revision: self.processed,
            });
        }
    }

    fn answer_watchers(&self, id: StreamId) {
        let Some(stream) = self.streams.get(&id) else {
            return;
        };
        for key in stream.watchers.values() {
            let Some(watcher) = self.watchers.get(key) else {
                continue;
            };
            let watch_id = watcher.target.watch_id;
            if watcher.target.progress == Progress::Periodic
                && !stream.queue.take_active(watch_id)
                && self.is_current(watcher)
            {
                stream.queue.notify(Notice::Progress {
                    watch_id,
                    revision: self.processed,
                });
            }
        }
    }

    fn is_current(&self, watcher: &Watcher) -> bool {
        matches!(watcher.state, State::Synced) && watcher.reached_at <= self.processed
    }
}
