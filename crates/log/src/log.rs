//! The log's thread around a [`LogCore`].

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

/// The configuration of a log.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// The directory, which no other process may use. Created if it is missing.
    pub dir: PathBuf,
    /// Size of a segment in bytes, a multiple of 4096. Default: 64 MiB.
    pub segment_bytes: u64,
    /// The number of unneeded segments to keep for reuse. Default: 2.
    pub max_recycled_segments: usize,
    /// Bytes that may wait for the disk before appends are refused. One append may exceed it.
    /// Default: 64 MiB.
    pub max_pending_bytes: u64,
    /// Whether commits wait for the disk.
    pub sync: SyncMode,
}

impl LogConfig {
    /// The default configuration for this directory.
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

/// Receives the results of appends. It is called on the log's thread: it must be quick, and must
/// not close or drop the log.
pub trait CompletionSink: Send + Sync {
    /// The append and all earlier ones of the group are durable. Called in append order.
    fn persisted(&self, group: GroupId, seq: WriteSeq);

    /// The log has stopped: appends that were not reported before never will be. Called at most
    /// once.
    fn failed(&self, error: LogFailure);
}

/// A handle to a running log. Clones share the log. It closes on [`Log::close`] or when the last
/// handle is dropped.
#[derive(Clone)]
pub struct Log {
    owner: Arc<Owner>,
}

/// Closes the log when the last handle is dropped.
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
    /// Bounded by `pending_bytes`, which includes what the thread is writing.
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
    /// Opens or creates the log in `config.dir` and starts its thread.
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

    /// Like [`Log::open`] on any disk; ignores `config.dir`.
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

    /// Queues writes of a group; the sink is told when they are durable. Never blocks. An append
    /// without writes completes in order like any other.
    ///
    /// # Errors
    /// Nothing was queued. [`LogError::Full`] returns the writes: append them again after the next
    /// completion, before any other writes of the group.
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

    /// Whether an append would be accepted now.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let shared = &self.owner.shared;
        shared.state.lock().pending_bytes < shared.max_pending_bytes
    }

    /// Releases the group's entries up to `start.last`, which the state machine has stored durably.
    /// A restart begins after them. Segments that no group needs are released.
    ///
    /// # Errors
    /// [`LogError::Closed`], [`LogError::Failed`].
    pub fn release(&self, group: GroupId, start: SnapshotMeta) -> Result<(), LogError> {
        self.request(Job::Release { group, start })
    }

    /// Removes the group for good. The log no longer keeps anything of it.
    ///
    /// # Errors
    /// [`LogError::Closed`], [`LogError::Failed`].
    pub fn forget(&self, group: GroupId) -> Result<(), LogError> {
        self.request(Job::Forget { group })
    }

    /// Records a new group's initial state, [`first_writes`], and waits until it is durable.
    ///
    /// # Errors
    /// [`LogError::GroupExists`] if the log already holds something of the group;
    /// [`LogError::Failed`], after which the outcome is unknown.
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

    /// Writes what is queued and ends the thread. The directory is unlocked when the last handle is
    /// dropped. The sink must not call this.
    ///
    /// # Errors
    /// The log failed, now or earlier.
    pub fn close(&self) -> Result<(), LogError> {
        self.owner.stop();
        match &self.owner.shared.state.lock().failure {
            Some(failure) => Err(failure.clone().into()),
            None => Ok(()),
        }
    }

    /// The current counters.
    #[must_use]
    pub fn metrics(&self) -> MetricsSnapshot {
        self.owner.shared.metrics.snapshot()
    }

    /// The group that needs the oldest segment, as of the last release. If the log takes too much
    /// space, release more entries of this group.
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
        // If other jobs are queued, the thread has already been woken.
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

/// The approximate size of a write, in the queue and in the log.
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
