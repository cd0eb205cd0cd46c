//! Decides which watcher gets which events, and when. This is all of watching except its threads,
//! so it is deterministic.
//!
//! A watcher is in one of three states. **Synced**: it has everything up to `processed`, is in the
//! [`WatcherSet`], and each new revision is pushed to it. **Catching up**: it needs older revisions
//! first. They are read from the ring of recent batches, or from history by a [`Job`] on another
//! thread. **Parked**: its stream's queue was full; it catches up once the stream has drained. A
//! watcher's `next` is the first revision that it has not received. It joins the synced set at
//! exactly that revision (`min_revision`), so there is no gap and no duplicate.
//!
//! A large revision is not pushed. The synced watchers that it affects catch up with it.
//!
//! Watchers that catch up with equal interests from the same revision form a cohort, which shares
//! its reads. Cohorts take turns, one bounded read each.

mod catch_up;
mod large;
mod progress;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use super::interest::Interest;
use super::limits::WatchLimits;
use super::message::{Command, Create, Feed, StreamId};
use super::queue::{End, Notice, Part, Push, StreamQueue, Target, WatchId};
use super::ring::Ring;
use super::set::{GroupSlot, WatcherSet};
use super::source::{self, EventBatch, History};
use super::stats::WatchStats;
use catch_up::{CohortKey, InFlight};
use large::Marking;
use progress::Question;

/// Identifies a watcher within the hub; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct WatcherKey(u64);

#[derive(Debug)]
enum State {
    Synced,
    CatchingUp,
    Parked,
}

#[derive(Debug)]
struct Watcher {
    stream: StreamId,
    target: Target,
    queue: Arc<StreamQueue>,
    interest: Interest,
    /// No progress may be reported before the store has reached this revision.
    reached_at: i64,
    state: State,
    /// The first revision that it has not received. While synced, the revision at which it joined.
    next: i64,
}

/// The data of a synced watcher that fan-out needs, so that fan-out does no look-up.
#[derive(Debug)]
struct Member {
    min_revision: i64,
    target: Target,
    queue: Arc<StreamQueue>,
}

#[derive(Debug)]
struct Stream {
    queue: Arc<StreamQueue>,
    watchers: BTreeMap<WatchId, WatcherKey>,
    next_id: i64,
    parked: Vec<WatcherKey>,
}

/// The state of all watchers of a node.
pub(crate) struct Hub {
    history: Arc<dyn History>,
    stats: Arc<WatchStats>,
    limits: WatchLimits,
    /// Everything up to this revision has been pushed to the synced watchers.
    processed: i64,
    feed: VecDeque<Feed>,
    ring: Ring,
    synced: WatcherSet<WatcherKey, Member>,
    watchers: HashMap<WatcherKey, Watcher>,
    streams: HashMap<StreamId, Stream>,
    /// Cohorts to serve from the ring, unless it has dropped what they need.
    memory_turns: VecDeque<CohortKey>,
    /// Cohorts to serve from history.
    history_turns: VecDeque<CohortKey>,
    cohorts: HashMap<CohortKey, Vec<WatcherKey>>,
    in_flight: InFlight,
    marking: Option<Marking>,
    questions: BTreeSet<(i64, Question)>,
    last_key: u64,
    matches: Matches,
}

/// Scratch space for one revision's fan-out: the indexes of the matching events, by group.
#[derive(Debug, Default)]
struct Matches {
    by_group: Vec<Vec<usize>>,
    touched: Vec<GroupSlot>,
}

impl Hub {
    /// Creates a hub without watchers, at the store's current revision.
    pub(crate) fn new(
        history: Arc<dyn History>,
        stats: Arc<WatchStats>,
        limits: WatchLimits,
    ) -> Self {
        let processed = history.revisions().current;
        Self {
            history,
            stats,
            processed,
            feed: VecDeque::new(),
            ring: Ring::new(&limits),
            limits,
            synced: WatcherSet::new(),
            watchers: HashMap::new(),
            streams: HashMap::new(),
            memory_turns: VecDeque::new(),
            history_turns: VecDeque::new(),
            cohorts: HashMap::new(),
            in_flight: InFlight::Nothing,
            marking: None,
            questions: BTreeSet::new(),
            last_key: 0,
            matches: Matches::default(),
        }
    }

    /// Whether any watcher needs new revisions.
    pub(crate) fn has_watchers(&self) -> bool {
        !self.watchers.is_empty()
    }

    /// Receives changes of the store, in revision order.
    pub(crate) fn feed(&mut self, items: impl IntoIterator<Item = Feed>) {
        self.feed.extend(items);
        self.pump();
        // Batches that wait behind a gap can be read from history as well.
        if self.feed.len() > self.limits.feed_batches
            && let Some(last) = self.feed.back()
        {
            let jump = Feed::Jump(last.revision());
            self.feed.clear();
            self.feed.push_back(jump);
        }
    }

    /// Skips the revisions up to this one: they happened while there were no watchers.
    pub(crate) fn skip_to(&mut self, revision: i64) {
        debug_assert!(self.watchers.is_empty(), "there are watchers");
        if revision > self.processed {
            self.processed = revision;
            self.marking = None;
            self.ring.clear();
            self.answer_questions();
        }
    }

    /// Executes a stream's command. The commands of a stream take effect, and are answered, in
    /// order.
    pub(crate) fn handle(&mut self, command: Command) {
        match command {
            Command::Open(id, queue) => {
                self.streams.insert(
                    id,
                    Stream {
                        queue,
                        watchers: BTreeMap::new(),
                        next_id: 0,
                        parked: Vec::new(),
                    },
                );
            }
            Command::Create(stream, create) => self.create(stream, create),
            Command::Refuse(stream, reason) => self.refuse(stream, reason),
            Command::Cancel(stream, watch_id) => self.cancel(stream, watch_id),
            Command::Progress(stream) => self.ask(Question::Asked(stream)),
            Command::Tick(stream) => self.ask(Question::Periodic(stream)),
        }
        self.publish_stats();
    }

    /// The stream has room again, so its parked watchers catch up.
    pub(crate) fn drained(&mut self, stream: StreamId) {
        let Some(stream) = self.streams.get_mut(&stream) else {
            return;
        };
        for key in std::mem::take(&mut stream.parked) {
            self.catch_up(key);
        }
        self.publish_stats();
    }

    /// The stream has closed. Removes its watchers.
    pub(crate) fn closed(&mut self, stream: StreamId) {
        let Some(stream) = self.streams.remove(&stream) else {
            return;
        };
        for key in stream.watchers.into_values() {
            self.forget(key);
        }
        self.publish_stats();
    }

    /// Ends all streams.
    pub(crate) fn shut_down(&mut self, end: End) {
        for stream in self.streams.values() {
            stream.queue.close(end);
        }
    }

    fn store_revision(&self) -> i64 {
        self.history.revisions().current.max(self.processed)
    }

    fn refuse(&self, id: StreamId, reason: String) {
        if let Some(stream) = self.streams.get(&id) {
            let revision = self.store_revision();
            stream.queue.notify(Notice::Refused { reason, revision });
        }
    }

    fn create(&mut self, id: StreamId, create: Create) {
        let revisions = self.history.revisions();
        let revision = revisions.current.max(self.processed);
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let refuse = |reason: String| stream.queue.notify(Notice::Refused { reason, revision });
        let start = create.start_revision;
        // As in etcd: refused at once, not created and then cancelled as compacted.
        if start < 0 {
            return refuse("etcdserver: mvcc: required revision has been compacted".to_owned());
        }
        let range = match create.range {
            Ok(range) => range,
            Err(empty) => return refuse(empty.to_string()),
        };
        let watch_id = WatchId(create.watch_id);
        if create.watch_id != 0 && stream.watchers.contains_key(&watch_id) {
            return refuse("mvcc: duplicate watch ID provided on the WatchStream".to_owned());
        }
        let watch_id = if create.watch_id == 0 {
            stream.free_id()
        } else {
            watch_id
        };
        stream.queue.notify(Notice::Created { watch_id, revision });
        if start != 0 && start < revisions.compacted {
            stream.queue.notify(Notice::Compacted {
                watch_id,
                compact_revision: revisions.compacted,
            });
            return;
        }
        self.last_key += 1;
        let key = WatcherKey(self.last_key);
        stream.watchers.insert(watch_id, key);
        let watcher = Watcher {
            stream: id,
            target: Target {
                watch_id,
                splitting: create.splitting,
                progress: create.progress,
            },
            queue: Arc::clone(&stream.queue),
            interest: Interest {
                range,
                flags: create.flags,
            },
            reached_at: start,
            state: State::CatchingUp,
            next: if start == 0 {
                revision + 1
            } else {
                start.max(1)
            },
        };
        self.watchers.insert(key, watcher);
        self.catch_up(key);
    }

    fn cancel(&mut self, id: StreamId, watch_id: WatchId) {
        let revision = self.store_revision();
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let Some(key) = stream.watchers.remove(&watch_id) else {
            return;
        };
        stream.queue.notify(Notice::Canceled { watch_id, revision });
        self.forget(key);
    }

    /// Removes a watcher from everything except its stream. Cohorts skip keys that no longer exist.
    fn forget(&mut self, key: WatcherKey) {
        if let Some(watcher) = self.watchers.remove(&key)
            && matches!(watcher.state, State::Synced)
        {
            self.synced.remove(&watcher.interest, &key);
        }
    }

    fn pump(&mut self) {
        let before = self.processed;
        while let Some(next) = self.feed.front() {
            let revision = next.revision();
            if revision > self.processed {
                match next {
                    Feed::Batch(batch) if revision == self.processed + 1 => {
                        let batch = Arc::clone(batch);
                        self.process(batch);
                    }
                    // A gap, which a `Work::Run(Job::Fill)` closes.
                    Feed::Batch(_) | Feed::Jump(_) => break,
                }
            }
            self.feed.pop_front();
        }
        if self.processed > before {
            self.answer_questions();
            self.publish_stats();
        }
    }

    /// Pushes one revision to the synced watchers.
    fn process(&mut self, batch: Arc<EventBatch>) {
        let revision = source::revision(&batch);
        self.find_matches(&batch);
        let mut refused = Vec::new();
        let mut touched = std::mem::take(&mut self.matches.touched);
        for id in touched.drain(..) {
            let matches = &mut self.matches.by_group[id.index()];
            let Some(group) = self.synced.group(id) else {
                matches.clear();
                continue;
            };
            let events = matches
                .drain(..)
                .map(|at| source::encoded(&batch, at, group.flags))
                .collect();
            let part = [Arc::new(Part::new(events))];
            for (key, member) in &group.members {
                if member.min_revision > revision {
                    continue;
                }
                match member.queue.push(&member.target, revision, &part) {
                    // If the stream has closed, a command about it is on its way.
                    Push::Accepted | Push::Closed => {}
                    Push::Full => refused.push(*key),
                }
            }
        }
        self.matches.touched = touched;
        self.processed = revision;
        self.ring.push(batch);
        for key in refused {
            self.park(key, revision);
        }
    }

    fn find_matches(&mut self, batch: &EventBatch) {
        let Matches { by_group, touched } = &mut self.matches;
        let synced = &self.synced;
        by_group.resize_with(by_group.len().max(synced.group_bound()), Vec::new);
        source::for_each_event(batch, |at, key, kind| {
            synced.stab(key, |id| {
                if synced
                    .group(id)
                    .is_some_and(|group| source::admits(group.flags, kind))
                {
                    let matches = &mut by_group[id.index()];
                    if matches.is_empty() {
                        touched.push(id);
                    }
                    matches.push(at);
                }
            });
        });
    }

    fn publish_stats(&self) {
        self.stats
            .set(self.streams.len(), self.watchers.len(), self.synced.len());
    }
}

impl Stream {
    /// The next free id. Ids count up from zero and skip those that clients chose.
    fn free_id(&mut self) -> WatchId {
        while self.watchers.contains_key(&WatchId(self.next_id)) {
            self.next_id += 1;
        }
        self.next_id += 1;
        WatchId(self.next_id - 1)
    }
}

#[cfg(test)]
mod tests;
