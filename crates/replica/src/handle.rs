//! The handle for callers: proposals, membership changes, reads and status. Cheap to clone and
//! usable from any thread.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use synod_consensus_core::{Change, ReadMode, Status};
use synod_runtime::clock;
use synod_types::{Index, NodeId};
use tokio::sync::{oneshot, watch};

use crate::error::{Fault, ProposeError, ReadError, TransferError};
use crate::inbox::{ChangeRequest, ProposalRequest, ReadReply, ReadRequest, TransferRequest};
use crate::published::Leadership;
use crate::shared::GroupRequests;

/// A handle to one group's replica in this process. `O` is the state machine's output.
pub struct ReplicaHandle<O> {
    shared: Arc<GroupRequests<O>>,
}

impl<O> Clone for ReplicaHandle<O> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<O> fmt::Debug for ReplicaHandle<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplicaHandle")
            .field("applied", &self.shared.published.applied())
            .finish_non_exhaustive()
    }
}

impl<O: Send + 'static> ReplicaHandle<O> {
    pub(crate) fn new(shared: Arc<GroupRequests<O>>) -> Self {
        Self { shared }
    }

    /// Replicates `data` and returns the output of applying it **on this node**. A follower
    /// forwards it to the leader. Without a leader it waits for one until `deadline`.
    ///
    /// # Errors
    /// [`ProposeError::is_certain`] distinguishes "certainly not applied" from "outcome unknown".
    ///
    /// # Cancel safety
    /// Dropping the future abandons the answer, not the proposal.
    pub async fn propose(&self, data: Bytes, deadline: Instant) -> Result<O, ProposeError> {
        let limit = self.shared.limits.max_proposal_bytes;
        if data.len() > limit {
            let bytes = data.len();
            return Err(ProposeError::TooLarge { bytes, limit });
        }
        self.shared
            .load
            .admit_proposal(data.len(), &self.shared.limits)?;
        let (reply, outcome) = oneshot::channel();
        let request = ProposalRequest {
            data,
            reply,
            deadline,
            received: clock::now(),
        };
        if let Err(request) = self.shared.inbox.push_proposal(request) {
            self.shared.load.release_proposal(request.data.len());
            return Err(ProposeError::NotRunning);
        }
        outcome.await.unwrap_or(Err(ProposeError::Stopped))
    }

    /// Changes the membership: all `changes` in one step. `context` is passed to the state machine
    /// with the resulting membership. Returns the output of the entry with the new (joint or final)
    /// configuration.
    ///
    /// # Errors
    /// As [`propose`](Self::propose).
    ///
    /// # Cancel safety
    /// Dropping the future abandons the answer, not the change.
    pub async fn change_members(
        &self,
        changes: Vec<Change>,
        context: Bytes,
        deadline: Instant,
    ) -> Result<O, ProposeError> {
        self.shared
            .load
            .admit_proposal(context.len(), &self.shared.limits)?;
        let (reply, outcome) = oneshot::channel();
        let request = ChangeRequest {
            changes,
            context,
            reply,
            deadline,
        };
        if let Err(request) = self.shared.inbox.push_change(request) {
            self.shared.load.release_proposal(request.context.len());
            return Err(ProposeError::NotRunning);
        }
        outcome.await.unwrap_or(Err(ProposeError::Stopped))
    }

    /// Resolves once this node has applied everything that any node acknowledged before the call,
    /// so that a read of the local state is linearizable. Returns the index that had to be applied.
    ///
    /// On a leader with a lease, `ReadMode::Lease` needs neither a round trip nor another thread.
    /// Without a lease it falls back to a confirmed read. If this node is the only voter, both
    /// modes are free. Reads that wait at the same time share one round.
    ///
    /// # Errors
    /// Every error is safe to retry.
    ///
    /// # Cancel safety
    /// The future may be dropped. The read leaves the queue, and frees its place, at the driver's
    /// next tick.
    pub async fn read(&self, mode: ReadMode, deadline: Instant) -> Result<Index, ReadError> {
        let published = &self.shared.published;
        let known = match mode {
            ReadMode::Lease => published.lease_read(clock::now()),
            ReadMode::Index => published.sole_voter_read(),
        };
        if let Some(index) = known {
            return self.wait_applied(index, deadline).await;
        }
        let permit = self.shared.load.admit_read(&self.shared.limits)?;
        let (reply, outcome) = ReadReply::new(permit);
        let request = ReadRequest {
            mode,
            reply,
            deadline,
        };
        match self.shared.inbox.push_read(request) {
            Ok(()) => outcome.await.unwrap_or(Err(ReadError::Stopped)),
            Err(_refused) => Err(ReadError::Stopped),
        }
    }

    /// Resolves once this node has applied `index`.
    ///
    /// # Errors
    /// [`ReadError::TooBusy`], [`ReadError::Timeout`] (up to about 100 ms after `deadline`) or
    /// [`ReadError::Stopped`].
    ///
    /// # Cancel safety
    /// The future may be dropped.
    pub async fn wait_applied(&self, index: Index, deadline: Instant) -> Result<Index, ReadError> {
        if self.applied() >= index {
            return Ok(index);
        }
        let permit = self.shared.load.admit_read(&self.shared.limits)?;
        let (reply, outcome) = ReadReply::new(permit);
        self.shared.readers.wait(index, deadline, reply);
        outcome.await.unwrap_or(Err(ReadError::Stopped))
    }

    /// Transfers leadership to `to`. With [`NodeId::NONE`] the leader picks the most advanced
    /// voter. Resolves when this node knows the new leader. Only works on the leader.
    ///
    /// # Errors
    /// After a timeout, leadership may still be transferred.
    ///
    /// # Cancel safety
    /// Dropping the future doesn't cancel the transfer.
    pub async fn transfer(&self, to: NodeId, deadline: Instant) -> Result<(), TransferError> {
        let (reply, outcome) = oneshot::channel();
        let request = TransferRequest {
            to,
            reply,
            deadline,
        };
        if self.shared.inbox.push_transfer(request).is_err() {
            return Err(TransferError::Stopped);
        }
        outcome.await.unwrap_or(Err(TransferError::Stopped))
    }

    /// Starts an election on this node immediately, regardless of timeouts.
    pub fn campaign(&self) {
        self.shared.inbox.campaign();
    }

    /// The core's status as of its last heartbeat or role change. Positions are up to 100 ms old.
    #[must_use]
    pub fn status(&self) -> Arc<Status> {
        self.shared.published.status()
    }

    /// The last index applied on this node. Lock-free and current.
    #[must_use]
    pub fn applied(&self) -> Index {
        self.shared.published.applied()
    }

    /// The last index that this node knows to be committed. Lock-free and current.
    #[must_use]
    pub fn commit(&self) -> Index {
        self.shared.published.commit()
    }

    /// Role, leader and ballot, now and after each change.
    #[must_use]
    pub fn watch_role(&self) -> watch::Receiver<Leadership> {
        self.shared.published.watch_role()
    }

    /// The reason why the replica stopped by itself; `None` while it runs. The service should exit
    /// on a fault.
    #[must_use]
    pub fn watch_fault(&self) -> watch::Receiver<Option<Fault>> {
        self.shared.published.watch_fault()
    }
}
