//! The hub's threads, and the handles by which the rest of the node reaches it.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::task::{Context, Poll};
use std::thread::JoinHandle;

use futures::Stream;
use parking_lot::{Condvar, Mutex};
use synod_runtime::shutdown::Shutdown;
use synod_runtime::task;
use tokio::sync::Semaphore;

use super::hub::Hub;
use super::limits::WatchLimits;
use super::message::{Command, Feed, Job, JobResult, StreamId, Work};
use super::queue::{End, Outgoing, StreamQueue};
use super::source::{EventBatch, History};
use super::stats::WatchStats;

/// What waits for the hub. Bounded: the feed and the commands by [`WatchLimits`], the rest by the
/// number of streams.
#[derive(Debug, Default)]
struct Waiting {
    /// The store got here while nobody watched.
    skipped_to: Option<i64>,
    feed: VecDeque<Feed>,
    commands: Vec<Command>,
    drained: BTreeSet<StreamId>,
    closed: Vec<StreamId>,
    result: Option<JobResult>,
    /// Whether new revisions matter to anybody.
    watched: bool,
    stop: Option<End>,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.skipped_to.is_none()
            && self.feed.is_empty()
            && self.commands.is_empty()
            && self.drained.is_empty()
            && self.closed.is_empty()
            && self.result.is_none()
            && self.stop.is_none()
    }
}

#[derive(Debug)]
struct Inbox {
    waiting: Mutex<Waiting>,
    wake: Condvar,
    /// One permit a waiting command.
    room: Semaphore,
    next_stream: AtomicU64,
    limits: WatchLimits,
    stats: Arc<WatchStats>,
}

impl Inbox {
    fn add(&self, change: impl FnOnce(&mut Waiting)) {
        let mut waiting = self.waiting.lock();
        change(&mut waiting);
        drop(waiting);
        self.wake.notify_one();
    }

    /// Takes all that waits; with nothing to do it waits for something.
    fn take(&self, idle: bool, hub_watched: bool) -> Waiting {
        let mut waiting = self.waiting.lock();
        while idle && waiting.is_empty() {
            waiting.watched = hub_watched;
            self.wake.wait(&mut waiting);
        }
        let watched = waiting.watched;
        let stop = waiting.stop;
        let taken = std::mem::take(&mut *waiting);
        waiting.watched = watched;
        waiting.stop = stop;
        taken
    }
}

/// The hub of a node, and its threads.
#[derive(Debug)]
pub struct WatchHub {
    inbox: Arc<Inbox>,
    threads: Vec<JoinHandle<()>>,
}

impl WatchHub {
    /// Starts the threads `synod-watch` and `synod-watch-read`.
    ///
    /// # Errors
    /// The operating system's, when it refuses a thread.
    pub fn start(history: Arc<dyn History>, limits: WatchLimits) -> io::Result<Self> {
        let stats: Arc<WatchStats> = Arc::default();
        let inbox = Arc::new(Inbox {
            waiting: Mutex::default(),
            wake: Condvar::new(),
            room: Semaphore::new(limits.commands),
            next_stream: AtomicU64::new(0),
            limits: limits.clone(),
            stats: Arc::clone(&stats),
        });
        // One job at a time, and one that waits while the previous result is on its way.
        let (jobs, todo) = sync_channel(1);
        let reader = {
            let (inbox, history) = (Arc::clone(&inbox), Arc::clone(&history));
            task::spawn_thread("synod-watch-rd", move || {
                read_jobs(&todo, &*history, &inbox);
            })?
        };
        let hub = Hub::new(history, stats, limits);
        let runner = {
            let inbox = Arc::clone(&inbox);
            task::spawn_thread("synod-watch", move || run(hub, &inbox, &jobs))?
        };
        Ok(Self {
            inbox,
            threads: vec![runner, reader],
        })
    }

    /// A handle for the apply thread and the services.
    pub fn handle(&self) -> WatchHandle {
        WatchHandle {
            inbox: Arc::clone(&self.inbox),
        }
    }
}

/// Ends all streams and the threads. Waits for the threads, since they hold the history open.
impl Drop for WatchHub {
    fn drop(&mut self) {
        self.inbox.add(|waiting| waiting.stop = Some(End::Stopped));
        for thread in self.threads.drain(..) {
            // A panic was logged by the thread itself.
            let _ = thread.join();
        }
    }
}

fn run(mut hub: Hub, inbox: &Inbox, jobs: &SyncSender<Job>) {
    let mut idle = false;
    loop {
        let waiting = inbox.take(idle, hub.has_watchers());
        if let Some(end) = waiting.stop {
            hub.shut_down(end);
            return;
        }
        if let Some(revision) = waiting.skipped_to {
            hub.skip_to(revision);
        }
        hub.feed(waiting.feed);
        if let Some(result) = waiting.result {
            hub.complete(result);
        }
        for stream in waiting.drained {
            hub.drained(stream);
        }
        inbox.room.add_permits(permits(&waiting.commands));
        for command in waiting.commands {
            hub.handle(command);
        }
        // After the commands: a stream is opened by a command.
        for stream in waiting.closed {
            hub.closed(stream);
        }
        idle = match hub.work() {
            Work::Idle => true,
            Work::Stepped => false,
            Work::Run(job) => {
                if jobs.send(job).is_err() {
                    // The reader is gone, with an error in the log: nobody can catch up any more.
                    hub.shut_down(End::Broken);
                    return;
                }
                false
            }
        };
    }
}

/// Opening a stream takes no permit: there are not more of these than streams.
fn permits(commands: &[Command]) -> usize {
    let opens = |command: &&Command| matches!(command, Command::Open(..));
    commands.len() - commands.iter().filter(opens).count()
}

fn read_jobs(jobs: &Receiver<Job>, history: &dyn History, inbox: &Inbox) {
    while let Ok(job) = jobs.recv() {
        let result = job.run(history);
        inbox.add(|waiting| waiting.result = Some(result));
    }
}

/// Cheap to clone: how the apply thread feeds the hub, and how streams are opened.
#[derive(Clone, Debug)]
pub struct WatchHandle {
    inbox: Arc<Inbox>,
}

impl WatchHandle {
    /// Hands over what the store did, in order of revisions. Never waits: a hub that lags too much
    /// reads it back from history. To be called after the store's readers see the revisions.
    pub fn publish(&self, batches: impl IntoIterator<Item = Arc<EventBatch>>) {
        self.feed(batches.into_iter().map(Feed::Batch));
    }

    /// The store is at this revision now, and its events are to be read there: a snapshot was
    /// installed, or the revision is a large deletion.
    pub fn jumped(&self, revision: i64) {
        self.feed([Feed::Jump(revision)]);
    }

    /// Opens a stream.
    pub fn open(&self) -> (Requests, Responses) {
        let id = StreamId(self.inbox.next_stream.fetch_add(1, Ordering::Relaxed));
        let queue = Arc::new(StreamQueue::new(self.inbox.limits.clone()));
        let closed = Shutdown::new();
        let opened = Command::Open(id, Arc::clone(&queue));
        self.inbox.add(|waiting| {
            waiting.commands.push(opened);
            if let Some(end) = waiting.stop {
                queue.close(end);
            }
        });
        let requests = Requests {
            id,
            inbox: Arc::clone(&self.inbox),
            queue: Arc::clone(&queue),
            closed: closed.clone(),
        };
        let responses = Responses {
            id,
            inbox: Arc::clone(&self.inbox),
            queue,
            closed,
            ended: false,
        };
        (requests, responses)
    }

    /// Figures for metrics.
    pub fn stats(&self) -> &WatchStats {
        &self.inbox.stats
    }

    fn feed(&self, items: impl IntoIterator<Item = Feed>) {
        let mut waiting = self.inbox.waiting.lock();
        for item in items {
            if !waiting.watched {
                waiting.skipped_to = Some(item.revision());
                continue;
            }
            if waiting.feed.len() >= self.inbox.limits.feed_batches {
                waiting.feed.clear();
                waiting.feed.push_back(Feed::Jump(item.revision()));
            } else {
                waiting.feed.push_back(item);
            }
        }
        let wake = !waiting.feed.is_empty();
        drop(waiting);
        if wake {
            self.inbox.wake.notify_one();
        }
    }
}

/// The request half of a stream.
#[derive(Debug)]
pub struct Requests {
    id: StreamId,
    inbox: Arc<Inbox>,
    queue: Arc<StreamQueue>,
    closed: Shutdown,
}

impl Requests {
    /// The stream's name within the hub.
    pub const fn id(&self) -> StreamId {
        self.id
    }

    /// Hands a command to the hub; waits while too many wait, or while the client doesn't read its
    /// responses.
    ///
    /// # Cancel safety
    /// The command is dropped if the future is.
    pub async fn send(&self, command: Command) {
        self.queue.has_room().await;
        let Ok(permit) = self.inbox.room.acquire().await else {
            return;
        };
        // The hub gives it back when it takes the command.
        permit.forget();
        self.inbox.add(|waiting| {
            waiting.watched = true;
            waiting.commands.push(command);
        });
    }

    /// Ends the stream.
    pub fn close(&self, end: End) {
        self.queue.close(end);
    }

    /// Resolves when the client has dropped its responses.
    pub async fn closed(&self) {
        self.closed.triggered().await;
    }
}

/// The response half of a stream. Dropping it ends the stream.
#[derive(Debug)]
pub struct Responses {
    id: StreamId,
    inbox: Arc<Inbox>,
    queue: Arc<StreamQueue>,
    closed: Shutdown,
    ended: bool,
}

impl Stream for Responses {
    type Item = Result<Outgoing, End>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let taken = match self.queue.take(cx) {
            Poll::Ready(taken) => taken,
            Poll::Pending => return Poll::Pending,
        };
        if taken.drained {
            let id = self.id;
            self.inbox.add(|waiting| {
                waiting.drained.insert(id);
            });
        }
        match taken.next {
            Ok(next) => Poll::Ready(Some(Ok(next))),
            Err(end) => {
                self.ended = true;
                Poll::Ready((end != End::Finished).then_some(Err(end)))
            }
        }
    }
}

impl Drop for Responses {
    fn drop(&mut self) {
        self.queue.close(End::Finished);
        self.closed.trigger();
        let id = self.id;
        self.inbox.add(|waiting| waiting.closed.push(id));
    }
}

#[cfg(test)]
mod tests;
