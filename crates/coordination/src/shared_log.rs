//! The pod's side of the shared log: starts what follows it and what appends to it.

use std::sync::Arc;
use std::time::Duration;

use synod_coordination_core::{OutboxLimits, SequencerLimits};
use synod_rpc::ChannelConfig;
use synod_runtime::shutdown::Shutdown;
use synod_runtime::task::{self, JoinHandle};
use synod_runtime::{clock, random};
use tokio::sync::watch;

use crate::applying::Applier;
use crate::checkpoint::CheckpointLimits;
use crate::contact::Contact;
use crate::endpoint::{Endpoint, EndpointError, Servers};
use crate::following::Follower;
use crate::forwarding::Forwarder;
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

/// The time between two checkpoints, at least: a pod must be able to load one before the next but
/// one replaces it.
const CHECKPOINT_PAUSE: Duration = Duration::from_secs(10);

/// The pause after a read of the log's end that failed, at most; half of it at least.
const RETRY_AFTER: Duration = Duration::from_millis(400);

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
                pause: CHECKPOINT_PAUSE,
                request_bytes,
            },
        }
    }
}

/// The pod's side of the shared log.
#[derive(Debug)]
pub(crate) struct SharedLog {
    entrance: Entrance,
    #[cfg(test)]
    leader: watch::Receiver<Option<Leader>>,
    /// Whether a task has ended: before the stop, it has panicked.
    has_ended: watch::Receiver<bool>,
    tasks: Vec<JoinHandle<()>>,
}

/// What [`SharedLog::start`] needs.
pub(crate) struct Parts {
    pub(crate) endpoint: Endpoint,
    pub(crate) hub: Arc<Hub>,
    /// This pod, as a leading one.
    pub(crate) own: Leader,
    pub(crate) limits: LogLimits,
    /// How other pods are reached.
    pub(crate) channels: ChannelConfig,
}

/// Repeats a call that changes nothing until the endpoint answers it.
async fn until_answered<T>(
    mut call: impl AsyncFnMut() -> Result<T, EndpointError>,
) -> Result<T, EndpointError> {
    loop {
        match call().await {
            Err(error @ EndpointError::Unknown { .. }) => {
                tracing::warn!(%error, "will try again");
                clock::sleep(random::jitter(RETRY_AFTER)).await;
            }
            answer => return answer,
        }
    }
}

impl SharedLog {
    /// A client of the endpoint. If a user is to log in, waits until the endpoint answers.
    ///
    /// # Errors
    /// The endpoint refuses the user, or can't be one.
    pub(crate) async fn connect(servers: &Servers, root: &str) -> Result<Endpoint, EndpointError> {
        until_answered(async || Endpoint::connect(servers, root).await).await
    }

    /// Asks the endpoint for its limits, until it answers. A hub needs them before the log is
    /// started.
    ///
    /// # Errors
    /// The endpoint refuses what the log needs.
    pub(crate) async fn limits(endpoint: &Endpoint) -> Result<LogLimits, EndpointError> {
        let request_bytes = until_answered(async || endpoint.request_bytes().await).await?;
        tracing::info!(
            request_bytes,
            "the etcd endpoint takes requests of this size"
        );
        Ok(LogLimits::of(request_bytes))
    }

    /// Follows the log, and leads whenever no other pod does, until `stop` is triggered.
    pub(crate) fn start(parts: Parts, stop: &Shutdown) -> Self {
        let Parts {
            endpoint,
            hub,
            own,
            limits,
            channels,
        } = parts;
        let applier = Arc::new(Applier::new(Arc::clone(&hub)));
        let contact = Contact::new(Arc::clone(&hub));
        let candidate = Candidate::new(endpoint.clone(), own.clone());
        let leader = candidate.leader();
        let entrance = Entrance::default();
        let follower = Follower::new(endpoint.clone(), Arc::clone(&applier));
        let sequencing = Sequencing {
            endpoint: endpoint.clone(),
            applier: Arc::clone(&applier),
            candidate,
            entrance: entrance.clone(),
            contact: contact.clone(),
            sequencer: limits.sequencer,
            checkpoints: limits.checkpoints,
        };
        let forwarder = Forwarder {
            endpoint: endpoint.clone(),
            hub: Arc::clone(&hub),
            contact: contact.clone(),
            leader: leader.clone(),
            own,
            channels,
        };
        let (ended, has_ended) = watch::channel(false);
        let following = stop.clone();
        let tasks = vec![
            spawn("follow-log", &ended, async move {
                follower.run(following).await;
            }),
            spawn("sequence", &ended, sequencing.run(stop.clone())),
            spawn("forward", &ended, forwarder.run(stop.clone())),
            spawn("contact", &ended, contact.watch(stop.clone())),
            spawn("sync", &ended, answer_syncs(endpoint, hub, stop.clone())),
        ];
        Self {
            entrance,
            #[cfg(test)]
            leader,
            has_ended,
            tasks,
        }
    }

    /// Where other pods' commands enter while this pod leads.
    pub(crate) fn entrance(&self) -> &Entrance {
        &self.entrance
    }

    /// The leading pod, as far as this pod knows.
    #[cfg(test)]
    pub(crate) fn leader(&self) -> watch::Receiver<Option<Leader>> {
        self.leader.clone()
    }

    /// Resolves when one of the tasks has ended. Before the stop, that is because it panicked.
    ///
    /// # Cancel safety
    /// Safe to drop.
    pub(crate) async fn ended(&self) {
        // The sender goes with the last task.
        let mut has_ended = self.has_ended.clone();
        let _gone = has_ended.wait_for(|ended| *ended).await;
    }

    /// Waits until the tasks have ended, after `stop` was triggered.
    pub(crate) async fn stopped(self) {
        for task in self.tasks {
            // A panic was logged when it happened.
            drop(task.await);
        }
    }
}

fn spawn(
    name: &'static str,
    ended: &watch::Sender<bool>,
    work: impl Future<Output = ()> + Send + 'static,
) -> JoinHandle<()> {
    let ended = Ended(ended.clone());
    task::spawn(name, async move {
        let _ended = ended;
        work.await;
    })
}

/// Reads the log's end for all who wait for it, until the pod stops.
async fn answer_syncs(endpoint: Endpoint, hub: Arc<Hub>, stop: Shutdown) {
    loop {
        tokio::select! {
            biased; // nobody waits any longer
            () = stop.triggered() => return,
            () = hub.syncs_waiting() => {}
        }
        tokio::select! {
            biased; // a pod that stops does not wait for the endpoint
            () = stop.triggered() => return,
            () = read_log_ends(&endpoint, &hub) => {}
        }
    }
}

/// Reads the log's end until nobody waits for it.
async fn read_log_ends(endpoint: &Endpoint, hub: &Hub) {
    while let Some(read) = hub.begin_sync() {
        match endpoint.log_end(hub.applied()).await {
            Ok(end) => hub.end_sync(read, end),
            Err(error) => {
                tracing::warn!(%error, "will read the log's end again, for clients that wait for it");
                hub.fail_sync();
                clock::sleep(random::jitter(RETRY_AFTER)).await;
            }
        }
    }
}

/// Says that a task has ended, when it is dropped.
struct Ended(watch::Sender<bool>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}

#[cfg(test)]
mod tests;
