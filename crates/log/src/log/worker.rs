//! The thread that commits.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use synod_types::GroupId;

use super::{CompletionSink, Job, LogQueue, job_bytes, spares::SpareMaker};
use crate::{
    core::{Action, LogCore},
    error::{LogError, LogFailure},
};

/// After this time without work, the log writes a mark, see [`LogCore::mark`].
const IDLE: Duration = Duration::from_millis(500);

/// The state of the log's thread.
pub(super) struct Worker {
    pub(super) shared: Arc<LogQueue>,
    pub(super) core: LogCore,
    pub(super) sink: Arc<dyn CompletionSink>,
    pub(super) spares: SpareMaker,
}

/// The thread's next action.
enum Next {
    Work,
    Idle,
    Close,
}

impl Worker {
    pub(super) fn run(mut self) {
        let report = ReportDeath {
            shared: Arc::clone(&self.shared),
            sink: Arc::clone(&self.sink),
        };
        let outcome = self.serve();
        if let Err(failure) = outcome {
            report.fail(&failure);
        }
    }

    /// Repeatedly commits everything that was queued during the previous commit.
    fn serve(&mut self) -> Result<(), LogFailure> {
        let mut jobs = Vec::new();
        loop {
            match self.wait(&mut jobs) {
                Next::Work => self.commit(&mut jobs)?,
                Next::Idle => self.core.mark()?,
                Next::Close => return self.core.mark(),
            }
        }
    }

    /// Waits for jobs and takes all of them.
    fn wait(&self, jobs: &mut Vec<Job>) -> Next {
        let mut state = self.shared.state.lock();
        let mut rested = false;
        loop {
            if !state.queue.is_empty() {
                std::mem::swap(&mut state.queue, jobs);
                return Next::Work;
            }
            if state.closing {
                return Next::Close;
            }
            if self.core.is_marked() {
                self.shared.work.wait(&mut state);
            } else if rested {
                return Next::Idle;
            } else {
                rested = self.shared.work.wait_for(&mut state, IDLE).timed_out();
            }
        }
    }

    fn commit(&mut self, jobs: &mut Vec<Job>) -> Result<(), LogFailure> {
        self.refuse_known_groups(jobs);
        self.core.commit(jobs.iter().flat_map(actions))?;
        let bytes = jobs.iter().map(job_bytes).sum();
        {
            let mut state = self.shared.state.lock();
            state.pending_bytes = state.pending_bytes.saturating_sub(bytes);
            state.pinned_by = self.core.pinned_by();
            self.shared.metrics.set_pending(state.pending_bytes);
        }
        for job in jobs.drain(..) {
            match job {
                Job::Append { group, seq, .. } => self.sink.persisted(group, seq),
                // If this fails, the caller no longer waits.
                Job::Bootstrap { done, .. } => drop(done.try_send(Ok(()))),
                Job::Release { .. } | Job::Forget { .. } => {}
            }
        }
        self.spares.turn(&mut self.core);
        Ok(())
    }

    /// Answers bootstraps of groups that exist already, so that only valid ones remain.
    fn refuse_known_groups(&self, jobs: &mut Vec<Job>) {
        let mut refused = 0;
        let mut new = BTreeSet::new();
        jobs.retain(|job| match job {
            Job::Bootstrap { group, done, .. } => {
                let free = !self.core.contains(*group) && new.insert(*group);
                if !free {
                    refused += job_bytes(job);
                    drop(done.try_send(Err(LogError::GroupExists { group: *group })));
                }
                free
            }
            Job::Append { .. } | Job::Release { .. } | Job::Forget { .. } => true,
        });
        if refused > 0 {
            let mut state = self.shared.state.lock();
            state.pending_bytes = state.pending_bytes.saturating_sub(refused);
        }
    }
}

/// Tells the sink that the log has stopped, even if its thread panics.
struct ReportDeath {
    shared: Arc<LogQueue>,
    sink: Arc<dyn CompletionSink>,
}

impl ReportDeath {
    fn fail(&self, failure: &LogFailure) {
        let queued = {
            let mut state = self.shared.state.lock();
            state.failure = Some(failure.clone());
            std::mem::take(&mut state.queue)
        };
        tracing::error!(error = %failure, "the log failed; nothing more will be acknowledged");
        for job in queued {
            if let Job::Bootstrap { done, .. } = job {
                drop(done.try_send(Err(failure.clone().into())));
            }
        }
        self.sink.failed(failure.clone());
    }
}

impl Drop for ReportDeath {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.fail(&LogFailure::ThreadDied);
        }
    }
}

fn actions(job: &Job) -> impl Iterator<Item = (GroupId, Action<'_>)> {
    let (group, writes, other) = match job {
        Job::Append { group, writes, .. } | Job::Bootstrap { group, writes, .. } => {
            (*group, writes.as_slice(), None)
        }
        Job::Release { group, start } => (*group, [].as_slice(), Some(Action::Release(start))),
        Job::Forget { group } => (*group, [].as_slice(), Some(Action::Forget)),
    };
    let writes = writes.iter().map(Action::Write);
    writes.chain(other).map(move |action| (group, action))
}
