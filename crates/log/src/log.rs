//! The log's own thread around a [`LogCore`].

use std::{fmt, path::PathBuf, sync::Arc, thread::JoinHandle};

use crossbeam_channel::{Sender, bounded};
use parking_lot::{Condvar, Mutex};
use synod_consensus_core::{SnapshotMeta, Write};
use synod_runtime::{random, task};
use synod_types::{GroupId, WriteSeq};

use crate::{
    core::{LogCore, LogCoreConfig, MAX_ENTRY_BYTES, SyncMode},
    disk::{Disk, FileDisk},
    error::{LogError, LogFailure, OpenError},
    metrics::{Metrics, MetricsSnapshot},
    record::RECORD_HEADER_BYTES,
    replay::Recovered,
    restart::first_writes,
};

mod spares;
mod worker;

use spares::SpareMaker;
use worker::Worker;

/// Where and how a log is kept.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// The directory, which no other process may use; created if it is missing.
    pub dir: PathBuf,
    /// Size of a segment in bytes, a multiple of 4096. Default 64 MiB.
    pub segment_bytes: u64,
    /// How many segments that nobody needs are kept for later use. Default 2.
    pub max_recycled_segments: usize,
    /// How many bytes may wait for the disk before appends are refused; one append may go over it.
    /// Default 64 MiB.
    pub max_pending_bytes: u64,
    /// Whether to wait for the disk.
    pub sync: SyncMode,
}

impl LogConfig {
    /// The defaults for this directory.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            segment_bytes: 64 << 20,
            max_recycled_segments: 2,
            max_pending_bytes: 64 << 20,
            sync: SyncMode::Data,
        }
    }
}

/// Who learns what became of the appends. Called on the log's thread: must be quick, and must not
/// close or drop the log.
pub trait CompletionSink: Send + Sync {
    /// The append is durable, and so are all earlier ones of the group. In the order of the
    /// appends.
    fn persisted(&self, group: GroupId, seq: WriteSeq);

    /// The log is dead: nothing that was not reported before will ever be. Called at most once.
    fn failed(&self, error: LogFailure);
}

/// A running log. Clones are handles of the same log; it closes when it is told to, or with the
/// last handle.
#[derive(Clone)]
pub struct Log {
    owner: Arc<Owner>,
}

/// Closes the log when the last handle goes.
struct Owner {
    shared: Arc<LogQueue>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct LogQueue {
    state: Mutex<State>,
    work: Condvar,
    metrics: Arc<Metrics>,
    max_pending_bytes: u64,
}

#[derive(Default)]
struct State {
    /// Bounded by `pending_bytes`, which also counts what the thread is working on.
    queue: Vec<Job>,
    pending_bytes: u64,
    closing: bool,
    failure: Option<LogFailure>,
    pinned_by: Option<GroupId>,
}

enum Job {
    Append {
        group: GroupId,
        seq: WriteSeq,
        writes: Vec<Write>,
    },
    Release {
        group: GroupId,
        start: SnapshotMeta,
    },
    Forget {
        group: GroupId,
    },
    Bootstrap {
        group: GroupId,
        writes: Vec<Write>,
        done: Sender<Result<(), LogError>>,
    },
}

impl Log {
    /// Opens the log of `config.dir`, or creates it, and starts its thread.
    ///
    /// # Errors
    /// [`OpenError`] says what was found and what to do.
    pub fn open(
        config: LogConfig,
        sink: Arc<dyn CompletionSink>,
    ) -> Result<(Self, Recovered), OpenError> {
        let metrics = Arc::new(Metrics::default());
        let disk = FileDisk::open(&config.dir, Arc::clone(&metrics))?;
        Self::open_on(Arc::new(disk), &config, metrics, sink)
    }

    /// The same over any disk; `config.dir` is not used.
    ///
    /// # Errors
    /// As [`Log::open`].
    pub fn open_on(
        disk: Arc<dyn Disk>,
        config: &LogConfig,
        metrics: Arc<Metrics>,
        sink: Arc<dyn CompletionSink>,
    ) -> Result<(Self, Recovered), OpenError> {
        let core_config = LogCoreConfig {
            segment_bytes: config.segment_bytes,
            max_recycled_segments: config.max_recycled_segments,
            sync: config.sync,
        };
        let id = random::u64();
        let (core, recovered) =
            LogCore::open(Arc::clone(&disk), core_config, id, Arc::clone(&metrics))?;
        let shared = Arc::new(LogQueue {
            state: Mutex::default(),
            work: Condvar::new(),
            metrics,
            max_pending_bytes: config.max_pending_bytes,
        });
        let no_thread = |source| OpenError::io("start a thread for", disk.describe(), source);
        let spares = SpareMaker::start(Arc::clone(&disk)).map_err(no_thread)?;
        let worker = Worker {
            shared: Arc::clone(&shared),
            core,
            sink,
            spares,
        };
        let thread = task::spawn_thread("synod-log", move || worker.run()).map_err(no_thread)?;
        let owner = Owner {
            shared,
            thread: Mutex::new(Some(thread)),
        };
        Ok((
            Self {
                owner: Arc::new(owner),
            },
            recovered,
        ))
    }

    /// Queues writes of a group; the sink learns when they are durable. Never blocks. An append
    /// without writes completes in its turn like any other.
    ///
    /// # Errors
    /// Nothing was queued. [`LogError::Full`] hands the writes back: append them again, before any
    /// others of the group, after the next completion.
    pub fn append(
        &self,
        group: GroupId,
        seq: WriteSeq,
        writes: Vec<Write>,
    ) -> Result<(), LogError> {
        check_sizes(&writes)?;
        let bytes = writes.iter().map(write_bytes).sum();
        let shared = &self.owner.shared;
        let state = shared.state.lock();
        state.check_open()?;
        if state.pending_bytes >= shared.max_pending_bytes {
            return Err(LogError::Full {
                pending_bytes: state.pending_bytes,
                max_pending_bytes: shared.max_pending_bytes,
                writes,
            });
        }
        let job = Job::Append { group, seq, writes };
        shared.enqueue(state, job, bytes);
        Ok(())
    }

    /// Whether an append would find room now.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let shared = &self.owner.shared;
        shared.state.lock().pending_bytes < shared.max_pending_bytes
    }

    /// Entries of the group up to `start.last` are not needed any more, since the state machine has
    /// them durably; a restart begins after them. Segments that no group needs are given back.
    ///
    /// # Errors
    /// The log is closed or dead.
    pub fn release(&self, group: GroupId, start: SnapshotMeta) -> Result<(), LogError> {
        self.request(Job::Release { group, start })
    }

    /// The group is gone for good: nothing of it is needed any more.
    ///
    /// # Errors
    /// The log is closed or dead.
    pub fn forget(&self, group: GroupId) -> Result<(), LogError> {
        self.request(Job::Forget { group })
    }

    /// Records the initial state of a new group, [`first_writes`], and waits until it is durable.
    ///
    /// # Errors
    /// [`LogError::GroupExists`] where there is something of the group already;
    /// [`LogError::Failed`], where the outcome is unknown.
    pub fn bootstrap(&self, group: GroupId, start: SnapshotMeta) -> Result<(), LogError> {
        let (done, outcome) = bounded(1);
        let writes = first_writes(start).to_vec();
        self.request(Job::Bootstrap {
            group,
            writes,
            done,
        })?;
        // A thread that ends drops the sender.
        outcome
            .recv()
            .unwrap_or(Err(LogError::Failed(LogFailure::ThreadDied)))
    }

    /// Writes what is queued, ends the thread, and unlocks the directory with the last handle. Must
    /// not be called by the sink.
    ///
    /// # Errors
    /// The log died, now or before.
    pub fn close(&self) -> Result<(), LogError> {
        self.owner.stop();
        match &self.owner.shared.state.lock().failure {
            Some(failure) => Err(failure.clone().into()),
            None => Ok(()),
        }
    }

    /// The counters now.
    #[must_use]
    pub fn metrics(&self) -> MetricsSnapshot {
        self.owner.shared.metrics.snapshot()
    }

    /// The group that keeps the oldest segment from being given back, as of the last release: the
    /// one to release more of where the log takes too much room.
    #[must_use]
    pub fn pinned_by(&self) -> Option<GroupId> {
        self.owner.shared.state.lock().pinned_by
    }

    fn request(&self, job: Job) -> Result<(), LogError> {
        let shared = &self.owner.shared;
        let state = shared.state.lock();
        state.check_open()?;
        let bytes = job_bytes(&job);
        shared.enqueue(state, job, bytes);
        Ok(())
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").finish_non_exhaustive()
    }
}

impl Owner {
    fn stop(&self) {
        self.shared.state.lock().closing = true;
        self.shared.work.notify_one();
        let thread = self.thread.lock().take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the log thread panicked");
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.stop();
    }
}

impl State {
    fn check_open(&self) -> Result<(), LogError> {
        match &self.failure {
            Some(failure) => Err(failure.clone().into()),
            None if self.closing => Err(LogError::Closed),
            None => Ok(()),
        }
    }
}

impl LogQueue {
    fn enqueue(&self, mut state: parking_lot::MutexGuard<'_, State>, job: Job, bytes: u64) {
        let idle = state.queue.is_empty();
        state.queue.push(job);
        state.pending_bytes += bytes;
        self.metrics.set_pending(state.pending_bytes);
        drop(state);
        // With other jobs in the queue the thread was woken already.
        if idle {
            self.work.notify_one();
        }
    }
}

fn check_sizes(writes: &[Write]) -> Result<(), LogError> {
    for write in writes {
        if let Write::Put(entry) = write {
            let bytes = u64::try_from(entry.data.len()).unwrap_or(u64::MAX);
            if bytes > MAX_ENTRY_BYTES {
                return Err(LogError::TooLarge {
                    bytes,
                    max_bytes: MAX_ENTRY_BYTES,
                });
            }
        }
    }
    Ok(())
}

fn job_bytes(job: &Job) -> u64 {
    match job {
        Job::Append { writes, .. } | Job::Bootstrap { writes, .. } => {
            writes.iter().map(write_bytes).sum()
        }
        Job::Release { .. } | Job::Forget { .. } => RECORD_HEADER_BYTES,
    }
}

/// About what a write takes, in the queue and in the log.
fn write_bytes(write: &Write) -> u64 {
    match write {
        Write::Put(entry) => {
            RECORD_HEADER_BYTES + u64::try_from(entry.data.len()).unwrap_or(u64::MAX)
        }
        Write::TruncateFrom(_) | Write::Reset(_) | Write::Advance(_) | Write::HardState(_) => {
            RECORD_HEADER_BYTES
        }
    }
}
