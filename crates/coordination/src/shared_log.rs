//! The pod's side of the shared log: starts what follows it and what appends to it.

use std::sync::Arc;

use synod_coordination_core::{OutboxLimits, SequencerLimits};
use synod_runtime::shutdown::Shutdown;
use synod_runtime::task::{self, JoinHandle};
use tokio::sync::watch;

use crate::applying::Applier;
use crate::checkpoint::CheckpointLimits;
use crate::endpoint::{Endpoint, EndpointError, LogEnd, LogLost};
use crate::following::Follower;
use crate::hub::Hub;
use crate::leadership::{Candidate, Leader};
use crate::sequencing::{Entrance, Sequencing};

/// Commands in a batch.
const BATCH_COMMANDS: usize = 4096;

/// What a batch has besides its commands, in bytes.
const BATCH_OVERHEAD_BYTES: usize = 32 << 10;

/// Commands that wait for a batch.
const WAITING_COMMANDS: usize = 64 << 10;

/// Bytes of commands that wait for a batch.
const WAITING_BYTES: usize = 32 << 20;

/// A pod's commands that are not executed.
const OUTBOX_COMMANDS: usize = 64 << 10;

/// Bytes of a pod's commands that are not executed.
const OUTBOX_BYTES: usize = 32 << 20;

/// A checkpoint is due after so many batches.
const CHECKPOINT_BATCHES: u64 = 10_000;

/// A checkpoint is due after so many bytes of batches.
const CHECKPOINT_BYTES: u64 = 64 << 20;

/// How many batches are kept behind a checkpoint.
const TAIL_BATCHES: u64 = 1_000;

/// The bounds of what is kept in memory and in the endpoint.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogLimits {
    pub(crate) outbox: OutboxLimits,
    pub(crate) sequencer: SequencerLimits,
    pub(crate) checkpoints: CheckpointLimits,
}

impl LogLimits {
    /// The bounds for an endpoint that takes this many bytes of values at once.
    pub(crate) fn of(request_bytes: usize) -> Self {
        let batch_bytes = request_bytes - BATCH_OVERHEAD_BYTES;
        Self {
            outbox: OutboxLimits {
                commands: OUTBOX_COMMANDS,
                bytes: OUTBOX_BYTES,
                command_bytes: batch_bytes,
            },
            sequencer: SequencerLimits {
                batch_commands: BATCH_COMMANDS,
                batch_bytes,
                waiting_commands: WAITING_COMMANDS,
                waiting_bytes: WAITING_BYTES,
            },
            checkpoints: CheckpointLimits {
                batches: CHECKPOINT_BATCHES,
                bytes: CHECKPOINT_BYTES,
                tail_batches: TAIL_BATCHES,
                request_bytes,
            },
        }
    }
}

/// The pod's side of the shared log.
#[derive(Debug)]
pub(crate) struct SharedLog {
    applier: Arc<Applier>,
    end: LogEnd,
    entrance: Entrance,
    leader: watch::Receiver<Option<Leader>>,
    tasks: [JoinHandle<()>; 2],
}

impl SharedLog {
    /// Asks the endpoint for its limits. A hub needs them before the log is started.
    pub(crate) async fn limits(endpoint: &Endpoint) -> Result<LogLimits, EndpointError> {
        let request_bytes = endpoint.request_bytes().await?;
        tracing::info!(
            request_bytes,
            "the etcd endpoint takes requests of this size"
        );
        Ok(LogLimits::of(request_bytes))
    }

    /// Follows the log, and leads whenever no other pod does, until `stop` is triggered.
    pub(crate) fn start(
        endpoint: Endpoint,
        hub: Arc<Hub>,
        own: Leader,
        limits: LogLimits,
        stop: &Shutdown,
    ) -> Self {
        let applier = Arc::new(Applier::new(Arc::clone(&hub)));
        let candidate = Candidate::new(endpoint.clone(), own);
        let leader = candidate.leader();
        let entrance = Entrance::default();
        let follower = Follower::new(endpoint.clone(), Arc::clone(&applier));
        let sequencing = Sequencing {
            endpoint: endpoint.clone(),
            applier: Arc::clone(&applier),
            candidate,
            entrance: entrance.clone(),
            sequencer: limits.sequencer,
            checkpoints: limits.checkpoints,
        };
        let stop_following = stop.clone();
        let stop_leading = stop.clone();
        let tasks = [
            task::spawn(
                "follow-log",
                async move { follower.run(stop_following).await },
            ),
            task::spawn("sequence", sequencing.run(stop_leading)),
        ];
        Self {
            applier,
            end: LogEnd::start(endpoint, hub),
            entrance,
            leader,
            tasks,
        }
    }

    /// Waits until this pod has applied every batch that was in the log when this was called.
    ///
    /// # Cancel safety
    /// The future may be dropped.
    #[cfg_attr(
        not(test),
        expect(
            dead_code,
            reason = "for the ZooKeeper connections, which are not there yet"
        )
    )]
    pub(crate) async fn sync(&self) -> Result<(), LogLost> {
        let end = self.end.read().await?;
        let mut applied = self.applier.applied();
        // The applier, which lives as long as `self`, holds the sender.
        let _ = applied.wait_for(|applied| *applied >= end).await;
        Ok(())
    }

    /// Where other pods' commands enter while this pod leads.
    #[cfg_attr(
        not(test),
        expect(
            dead_code,
            reason = "for the stream between pods, which is not there yet"
        )
    )]
    pub(crate) fn entrance(&self) -> &Entrance {
        &self.entrance
    }

    /// The leading pod, as far as this pod knows.
    #[cfg_attr(
        not(test),
        expect(
            dead_code,
            reason = "for the stream between pods, which is not there yet"
        )
    )]
    pub(crate) fn leader(&self) -> watch::Receiver<Option<Leader>> {
        self.leader.clone()
    }

    /// Waits until the tasks have ended, after `stop` was triggered.
    pub(crate) async fn stopped(self) {
        for task in self.tasks {
            // A panic was logged when it happened.
            drop(task.await);
        }
    }
}

#[cfg(test)]
mod tests;
