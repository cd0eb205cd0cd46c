//! The leading pod: orders the commands of all pods, appends them, closes sessions that expired and
//! reaps nodes that are due.
//!
//! In order: win the leadership; read the whole log to its end, which nobody else can move any
//! more; start the sequencer and the sessions' timers; append, one batch at a time, while commands
//! gather for the next. A batch that is settled is applied at once, without waiting for the watch.
//! The loop ends when the leadership is lost; the commands stay in the outboxes of their pods.

mod leading;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use synod_coordination_core::{Command, PodId, SequencerLimits, SessionId, Stopped};
use synod_runtime::shutdown::Shutdown;
use synod_runtime::{clock, random};
use tokio::sync::{mpsc, oneshot};

use crate::applying::Applier;
use crate::checkpoint::{CheckpointLimits, Writer};
use crate::contact::Contact;
use crate::endpoint::{Endpoint, EndpointError};
use crate::following::{FollowError, Follower};
use crate::hub::ApplyError;
use crate::leadership::{Candidate, Leadership};
use leading::Leading;

/// How many messages of other pods wait for the leading pod.
const FORWARDED_MESSAGES: usize = 64;

/// The pause after a leadership that ended with an error, at most; half of it at least.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Commands of another pod, and which of its sessions are alive.
#[derive(Debug)]
pub(crate) struct Forwarded {
    /// The other pod.
    pub(crate) pod: PodId,
    /// The commands, in the order of their numbers.
    pub(crate) commands: Vec<Command>,
    /// Sessions whose clients showed life.
    pub(crate) touched: Vec<SessionId>,
    /// Gets the answer.
    pub(crate) answer: oneshot::Sender<Answer>,
}

/// The leading pod's answer to another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) taken: Taken,
    /// Sessions that have expired already: their signs of life came too late.
    pub(crate) late: Vec<SessionId>,
}

/// What the leading pod did with the commands of another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It took all of them. They are in the log once the pod reads them there.
    All,
    /// It took those before this number. Send the others again.
    Before(u64),
    /// It does not know the pod. The pod takes a new id and registers.
    Unregistered,
    /// This leadership is over. Send all commands to the next leading pod.
    NotLeading,
}

/// Where other pods' commands enter, while this pod leads. Clones share the entrance.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entrance(Arc<Mutex<Option<Passage>>>);

/// The way to one leadership of this pod.
#[derive(Clone, Debug)]
pub(crate) struct Passage(mpsc::Sender<Forwarded>);

impl Passage {
    /// Gives commands of another pod to the sequencer. After [`Taken::NotLeading`] the passage is
    /// useless: the other pod finds the next leading pod, and sends it all its commands again.
    ///
    /// # Cancel safety
    /// If the future is dropped, the commands may have been taken.
    pub(crate) async fn forward(
        &self,
        pod: PodId,
        commands: Vec<Command>,
        touched: Vec<SessionId>,
    ) -> Answer {
        let not_leading = Answer {
            taken: Taken::NotLeading,
            late: Vec::new(),
        };
        let (answer, answered) = oneshot::channel();
        let forwarded = Forwarded {
            pod,
            commands,
            touched,
            answer,
        };
        if self.0.send(forwarded).await.is_err() {
            return not_leading;
        }
        answered.await.unwrap_or(not_leading)
    }
}

impl Entrance {
    /// The way to the sequencer, if this pod leads.
    pub(crate) fn enter(&self) -> Option<Passage> {
        self.0.lock().clone()
    }

    fn open(&self) -> Open<'_> {
        let (sender, forwarded) = mpsc::channel(FORWARDED_MESSAGES);
        *self.0.lock() = Some(Passage(sender));
        Open {
            entrance: self,
            forwarded,
        }
    }
}

/// Open while this pod leads.
struct Open<'a> {
    entrance: &'a Entrance,
    forwarded: mpsc::Receiver<Forwarded>,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        *self.entrance.0.lock() = None;
    }
}

/// Why a leadership ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    /// The pod stops.
    #[error("the pod stops")]
    Stop,
    /// The lease was lost.
    #[error("the leadership's lease was lost")]
    LeaseLost,
    /// An append, or a checkpoint, found that the pod does not lead.
    #[error(transparent)]
    Sequencer(Stopped),
    /// The endpoint does not take batches.
    #[error(transparent)]
    Refused(EndpointError),
    /// The log could not be read to its end.
    #[error(transparent)]
    CatchUp(FollowError),
    /// A batch that was appended could not be applied.
    #[error("an appended batch can't be applied: {0}")]
    Apply(ApplyError),
}

/// What the leading pod needs.
pub(crate) struct Sequencing {
    pub(crate) endpoint: Endpoint,
    pub(crate) applier: Arc<Applier>,
    pub(crate) candidate: Candidate,
    pub(crate) entrance: Entrance,
    pub(crate) contact: Contact,
    pub(crate) sequencer: SequencerLimits,
    pub(crate) checkpoints: CheckpointLimits,
}

impl Sequencing {
    /// Leads whenever it can, until the pod stops.
    pub(crate) async fn run(self, stop: Shutdown) {
        loop {
            let leadership = tokio::select! {
                // A pod that stops does not become the leading one.
                biased;
                () = stop.triggered() => return,
                leadership = self.candidate.win() => leadership,
            };
            tracing::info!(epoch = leadership.epoch().0, "this pod leads");
            let ended = Box::pin(self.lead(&leadership, &stop)).await;
            leadership.resign().await;
            tracing::info!(reason = %ended, "this pod does not lead any more");
            match ended {
                Ended::Stop => return,
                Ended::LeaseLost | Ended::Sequencer(_) => {}
                // Another pod may succeed, so it gets the chance.
                Ended::Refused(_) | Ended::CatchUp(_) | Ended::Apply(_) => {
                    tracing::error!(error = %ended, "this pod could not lead");
                    clock::sleep(random::jitter(RETRY_AFTER)).await;
                }
            }
        }
    }

    async fn lead(&self, leadership: &Leadership, stop: &Shutdown) -> Ended {
        let is_complete = AtomicBool::new(false);
        let keep = leadership.keep(|renewed| {
            if is_complete.load(Ordering::Relaxed) {
                self.renewed(renewed);
            }
        });
        tokio::pin!(keep);
        let follower = Follower::new(self.endpoint.clone(), Arc::clone(&self.applier));
        tokio::select! {
            // The reasons to end come first.
            biased;
            () = stop.triggered() => return Ended::Stop,
            () = &mut keep => return Ended::LeaseLost,
            caught_up = follower.catch_up() => {
                if let Err(error) = caught_up {
                    return Ended::CatchUp(error);
                }
            }
        }
        is_complete.store(true, Ordering::Relaxed);
        self.renewed(leadership.began());
        let mut open = self.entrance.open();
        let writer = Writer::new(
            self.endpoint.clone(),
            Arc::clone(&self.applier),
            self.checkpoints,
            leadership.epoch(),
        );
        let mut leading = Leading::start(self, leadership.epoch());
        tokio::select! {
            // The reasons to end come first.
            biased;
            () = &mut keep => Ended::LeaseLost,
            () = writer.run() => Ended::Sequencer(Stopped::NotLeading),
            ended = leading.run(&mut open.forwarded, stop) => ended,
        }
    }
    /// The lease was valid at this time, so nobody else had extended the log. This pod has applied
    /// all of it.
    fn renewed(&self, at: Instant) {
        self.contact.heard(self.applier.hub().applied(), at);
    }
}
