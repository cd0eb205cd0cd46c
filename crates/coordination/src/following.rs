//! Follows the log: what every pod does, whether it leads or not.
//!
//! 1. If there is a checkpoint and the pod has applied nothing, or lacks batches that are deleted,
//!    it loads the checkpoint.
//! 2. It reads the batches after that, by linearizable reads.
//! 3. It watches the log from the revision of the last read on. When the watch ends, for whatever
//!    reason, it goes back to 2: batches stay readable when the history is compacted.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use synod_coordination_core::LogNumber;
use synod_runtime::shutdown::Shutdown;
use synod_runtime::{clock, random};

use crate::applying::Applier;
use crate::checkpoint::{self, CheckpointError};
use crate::endpoint::{BatchReader, Endpoint, LogLost};
use crate::hub::ApplyError;

/// The pause after a failure, at most; half of it at least.
const RETRY_AFTER: Duration = Duration::from_millis(400);

/// Why a pod does not follow the log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FollowError {
    /// The log can't be read.
    #[error(transparent)]
    Log(#[from] LogLost),
    /// A batch can't be applied.
    #[error("batch {number}: {error}")]
    Apply {
        /// The batch.
        number: LogNumber,
        /// Why.
        error: ApplyError,
    },
    /// The checkpoint can't be loaded.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Batches are missing, and there is no checkpoint behind which they were deleted.
    #[error("batches after {applied} are missing, and no checkpoint contains them")]
    Gap {
        /// The last batch that was applied.
        applied: LogNumber,
    },
}

/// Follows the log.
#[derive(Clone)]
pub(crate) struct Follower {
    endpoint: Endpoint,
    applier: Arc<Applier>,
}

impl Follower {
    pub(crate) fn new(endpoint: Endpoint, applier: Arc<Applier>) -> Self {
        Self { endpoint, applier }
    }

    /// Follows the log until the pod stops.
    pub(crate) async fn run(&self, stop: Shutdown) {
        loop {
            let error = tokio::select! {
                // A pod that stops follows no longer.
                biased;
                () = stop.triggered() => return,
                Err(error) = self.follow() => error,
            };
            tracing::warn!(%error, "will read the log again");
            clock::sleep(random::jitter(RETRY_AFTER)).await;
        }
    }

    /// Applies all batches that were in the log when this was called, and maybe later ones. Returns
    /// the revision from which a watch goes on.
    pub(crate) async fn catch_up(&self) -> Result<i64, FollowError> {
        if self.applied() == LogNumber::default() {
            self.load().await?;
        }
        let mut reader = BatchReader::new(&self.endpoint);
        loop {
            let read = reader.after(self.applied()).await?;
            match self.apply_all(read.batches) {
                Ok(()) if read.more => {}
                Ok(()) => {
                    self.applier.caught_up();
                    return Ok(read.revision + 1);
                }
                Err(FollowError::Apply {
                    error: ApplyError::Missing(_),
                    ..
                }) => {
                    if !self.load().await? {
                        let applied = self.applied();
                        return Err(FollowError::Gap { applied });
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn follow(&self) -> Result<Infallible, FollowError> {
        let revision = self.catch_up().await?;
        let mut events = self
            .endpoint
            .follow_log(revision)
            .await
            .map_err(LogLost::from)?;
        loop {
            let batches = events.next().await.map_err(LogLost::from)?;
            self.apply_all(batches)?;
        }
    }

    fn apply_all(&self, batches: Vec<(LogNumber, Vec<u8>)>) -> Result<(), FollowError> {
        for (number, batch) in batches {
            let applied = self.applier.apply(number, &batch);
            applied.map_err(|error| FollowError::Apply { number, error })?;
        }
        Ok(())
    }

    /// Loads the checkpoint if it is ahead of this pod. Returns whether it was.
    async fn load(&self) -> Result<bool, FollowError> {
        let Some(loaded) = checkpoint::load(&self.endpoint, self.applied()).await? else {
            return Ok(false);
        };
        let (machine, number) = loaded;
        let is_ahead = self.applier.replace(machine, number);
        tracing::info!(%number, is_ahead, "loaded a checkpoint");
        Ok(is_ahead)
    }

    fn applied(&self) -> LogNumber {
        self.applier.hub().applied()
    }
}
