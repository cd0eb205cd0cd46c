//! The log thread: takes everything that is queued and makes it durable in one commit of the real
//! log.

use synod_consensus_core::mutants::{Mutant, is_active};
use synod_consensus_core::{SnapshotMeta, Write};
use synod_log::{Action, LogCore, make_spare};
use synod_types::{GroupId, WriteSeq};

use super::turn::Turn;
use super::{Node, Process, ShellEvent};
use crate::choices::Stream;
use crate::env::Env;
use crate::event::Event;
use crate::invariants::{Check, LogAction};
use crate::time::MS;

/// The simulated group.
pub(crate) const GROUP: GroupId = GroupId::new(1);
/// After this time without work, the log records that everything is durable.
const IDLE: u64 = 200 * MS;

pub(crate) struct LogThread {
    pub(crate) core: LogCore,
    queue: Vec<Job>,
    /// The jobs that are being written.
    busy: Vec<Job>,
    /// The number of commits. An idle mark only applies to the last one.
    pub(crate) commits: u64,
}

enum Job {
    Append { seq: WriteSeq, writes: Vec<Write> },
    Release(SnapshotMeta),
}

impl LogThread {
    pub(super) fn new(core: LogCore) -> Self {
        Self {
            core,
            queue: Vec::new(),
            busy: Vec::new(),
            commits: 0,
        }
    }

    /// Whether no job waits and none is being written.
    pub(crate) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.busy.is_empty()
    }

    /// Starts a commit of all waiting jobs, unless one is in flight.
    fn start(&mut self, env: &mut Env, slot: usize, epoch: u64, factor: u64) {
        if self.queue.is_empty() || !self.busy.is_empty() {
            return;
        }
        self.busy = if is_active(Mutant::CompletionsOutOfOrder) {
            self.queue.split_off(self.queue.len() - 1)
        } else {
            std::mem::take(&mut self.queue)
        };
        let base = env.plan.sync_us;
        let took = env.choices.between(Stream::Disk, base, base * 3) * factor;
        env.after(took, Event::LogDone { slot, epoch });
    }

    /// Executes the commit on the real log. The jobs stay until their result is handled.
    fn commit(&mut self) -> bool {
        let actions = self.busy.iter().flat_map(|job| {
            let (writes, release) = match job {
                Job::Append { writes, .. } => (writes.as_slice(), None),
                Job::Release(meta) => ([].as_slice(), Some(Action::Release(meta))),
            };
            writes.iter().map(Action::Write).chain(release)
        });
        let done = self.core.commit(actions.map(|action| (GROUP, action)));
        self.commits += 1;
        done.is_ok()
    }

    /// The records whose durability a crash leaves unknown.
    fn under_way(&self) -> Vec<LogAction> {
        let actions = self.busy.iter().flat_map(|job| match job {
            Job::Append { writes, .. } => writes.iter().cloned().map(LogAction::Write).collect(),
            Job::Release(meta) => vec![LogAction::Release(meta.clone())],
        });
        actions.collect()
    }
}

impl Turn<'_> {
    pub(super) fn append(&mut self, env: &mut Env, seq: WriteSeq, writes: Vec<Write>) {
        self.process.log.queue.push(Job::Append { seq, writes });
        self.start_log(env);
    }

    pub(super) fn release(&mut self, env: &mut Env, meta: SnapshotMeta) {
        env.checks.on_release_asked(self.id, &meta);
        self.process.log.queue.push(Job::Release(meta));
        self.start_log(env);
    }

    fn start_log(&mut self, env: &mut Env) {
        let factor = env.disk_factor(self.slot);
        let (slot, epoch) = (self.slot, self.epoch);
        self.process.log.start(env, slot, epoch, factor);
    }
}

impl Node {
    /// The disk operation has completed.
    pub(crate) fn log_done(&mut self, env: &mut Env) -> Check {
        let (slot, epoch, id) = (self.slot, self.epoch, self.id);
        let Some(process) = self.process_mut() else {
            return Ok(());
        };
        let log = &mut process.log;
        if !log.commit() {
            if is_active(Mutant::FailedWriteIndexReused) {
                let failed = std::mem::take(&mut log.busy);
                if let Some(Job::Append { seq, .. }) = failed.last() {
                    process.inbox.events.push(ShellEvent::WriteFailed(*seq));
                }
                self.wake(env);
                return Ok(());
            }
            process.inbox.failed = true;
            self.wake(env);
            return Ok(());
        }
        for job in std::mem::take(&mut log.busy) {
            match job {
                Job::Append { seq, writes } => {
                    env.checks.on_durable(id, &writes)?;
                    process.inbox.persisted = process.inbox.persisted.max(Some(seq));
                }
                Job::Release(meta) => env.checks.on_release(id, &meta),
            }
        }
        let disk = self.disk.clone();
        let Some(process) = self.process_mut() else {
            return Ok(());
        };
        let log = &mut process.log;
        if env.choices.often(Stream::Disk, 200)
            && let Some(request) = log.core.wants_spare()
            && make_spare(&disk, &request, &|| false).is_ok()
        {
            log.core.add_spare(request);
        }
        let factor = env.disk_factor(slot);
        log.start(env, slot, epoch, factor);
        if log.is_idle() {
            let commits = log.commits;
            env.after(
                IDLE,
                Event::LogIdle {
                    slot,
                    epoch,
                    commits,
                },
            );
        }
        self.wake(env);
        Ok(())
    }

    /// Nothing was written for a while.
    pub(crate) fn log_idle(&mut self, commits: u64) {
        if let Some(process) = self.process_mut()
            && process.log.is_idle()
            && process.log.commits == commits
            && process.log.core.mark().is_err()
        {
            process.inbox.failed = true;
        }
    }
}

impl Process {
    /// Ends the process while its log may be writing. Some disk operations are done, the last one
    /// perhaps partially. Returns the records whose durability is unknown.
    pub(super) fn interrupt_log(
        &mut self,
        env: &mut Env,
        disk: &synod_log::SimDisk,
    ) -> Vec<LogAction> {
        let under_way = self.log.under_way();
        if !under_way.is_empty() && !self.inbox.failed {
            let done = env.choices.below(Stream::Disk, 4);
            let kept = env.choices.index(Stream::Disk, 3000);
            disk.stop_at(disk.operations() + done, kept);
            // It fails where it is stopped. It may also succeed without a report.
            let _interrupted = self.log.commit();
        }
        under_way
    }
}
