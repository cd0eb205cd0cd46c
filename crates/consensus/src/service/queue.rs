//! The queue behind locks and elections: the keys below a name, in the order of their creation. The
//! oldest one holds the lock, or leads.
//!
//! A caller's place is the key `name/lease`, with the lease's id in hexadecimal, as in etcd's
//! client library, so that its users and callers of these services exclude each other. A caller
//! waits for the deletion of the next older key, and so each release wakes one caller. No new key
//! can get in between, since create revisions only grow.

mod claim;
mod place;
mod standing;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use synod_auth::{AuthState, Identity};
use synod_proto::etcd::etcdserverpb as pb;
use synod_runtime::shutdown::Shutdown;
use synod_runtime::{clock, task};
use synod_service::Advice;
use synod_watch::Deletions;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Request;

use super::kv::KvService;
use super::lease::LeaseService;
use crate::call::{Call, Caller};
use crate::error::Error;
use crate::metrics::WaiterGauge;
use crate::shared::ServiceContext;
use claim::Answer;
use place::{Place, Untaken};
use standing::{Before, Standing};

pub(super) use place::{created_at, delete, prefix_end, prefix_of, put_with_lease};

/// The maximum number of calls in queues on a member. Further ones are refused.
const MAX_CALLS: usize = 16_384;

/// The TTL of the lease that a caller without one gets. It is not renewed.
const OWN_LEASE_TTL_S: i64 = 60;

/// The pause before a retry.
const PAUSE: Duration = Duration::from_millis(100);

/// What the queue is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Lock,
    Election,
}

/// A call that takes part in a queue.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) purpose: Purpose,
    pub(super) name: Bytes,
    /// Zero for a lease of its own.
    pub(super) lease: i64,
    /// The value of the caller's key.
    pub(super) value: Bytes,
}

/// The caller's key is the first of its queue.
#[derive(Debug)]
pub(super) struct First {
    pub(super) key: Bytes,
    pub(super) lease: i64,
    /// The key's create revision.
    pub(super) created: i64,
    /// The header of the transaction that entered the queue.
    pub(super) entered: pb::ResponseHeader,
    /// The header of the read that found it first.
    pub(super) found: pb::ResponseHeader,
}

/// Enters queues, waits in them and leaves them.
#[derive(Clone)]
pub(crate) struct Queues {
    shared: Arc<ServiceContext>,
    kv: KvService,
    leases: LeaseService,
    deletions: Deletions,
    calls: Arc<Semaphore>,
    waiters: WaiterGauge,
    /// Ends the waits when the member stops.
    stop: Shutdown,
}

/// What [`Queues::new`] needs.
pub(crate) struct Parts {
    pub(crate) shared: Arc<ServiceContext>,
    pub(crate) kv: KvService,
    pub(crate) leases: LeaseService,
    pub(crate) deletions: Deletions,
    pub(crate) stop: Shutdown,
}

impl Queues {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            waiters: parts.shared.metrics.waiters.clone(),
            shared: parts.shared,
            kv: parts.kv,
            leases: parts.leases,
            deletions: parts.deletions,
            calls: Arc::new(Semaphore::new(MAX_CALLS)),
            stop: parts.stop,
        }
    }

    /// Like [`ServiceContext::admit`]; a learner refuses.
    ///
    /// # Errors
    /// As [`ServiceContext::admit`].
    pub(super) fn admit<T>(
        &self,
        request: &Request<T>,
        rpc: &'static str,
    ) -> impl Future<Output = Result<Call, Error>> + Send {
        self.shared.admit(request, rpc, Caller::NeedsVoter)
    }

    /// What all services share.
    pub(super) fn shared(&self) -> &Arc<ServiceContext> {
        &self.shared
    }

    /// The service that reads and writes keys.
    pub(super) fn kv(&self) -> &KvService {
        &self.kv
    }

    /// Triggered when the member stops.
    pub(super) fn stop(&self) -> &Shutdown {
        &self.stop
    }

    /// Enters a queue and waits until the caller is first, at most for `patience` if there is one.
    /// If it fails, or the caller gives up, the caller leaves the queue.
    ///
    /// # Errors
    /// The lease ended, `patience` or the deadline did, or a write or a read failed.
    ///
    /// # Cancel safety
    /// If the future is dropped, a task leaves the queue.
    pub(super) async fn enter(
        &self,
        mut entry: Entry,
        call: Call,
        patience: Option<Duration>,
    ) -> Result<First, Error> {
        let calls = Arc::clone(&self.calls);
        let permit = calls
            .try_acquire_owned()
            .map_err(|_full| Error::TooManyRequests)?;
        // Copied: a slice would keep the whole request in memory during the wait.
        entry.name = Bytes::copy_from_slice(&entry.name);
        let (answer, answered) = claim::answer();
        // A task of its own, which outlives the request: to leave the queue, it must know the
        // outcome of its transaction.
        task::spawn(
            "queue-wait",
            self.clone().serve(entry, call, permit, answer),
        );
        let received = answered.receive();
        let received = match patience {
            None => received.await,
            Some(patience) => clock::timeout(patience, received)
                .await
                .unwrap_or(Some(Err(Error::DeadlineExceeded))),
        };
        received.unwrap_or(Err(Error::Stopped))
    }

    async fn serve(
        self,
        mut entry: Entry,
        call: Call,
        _permit: OwnedSemaphorePermit,
        mut answer: Answer<Result<First, Error>>,
    ) {
        let taken = self.take_place(&entry, &call, || answer.is_closed()).await;
        let place = match taken {
            Ok(place) => place,
            Err(Untaken { error, leave }) => {
                let _has_it = answer.give(Err(error)).await;
                if let Some(place) = leave {
                    self.leave_for_certain(&entry.name, &place).await;
                }
                return;
            }
        };
        // It is written, and may be large: free it during the wait.
        entry.value = Bytes::new();
        let _waiting = self.waiters.enter();
        let turn = tokio::select! {
            biased; // a caller that is gone must not become the first
            () = answer.closed() => None,
            () = self.stop.triggered() => Some(Err(Error::NotRunning)),
            turn = self.turn(&entry, &call, &place) => Some(turn),
        };
        match turn {
            Some(Ok(first)) => {
                if !answer.give(Ok(first)).await {
                    self.leave_for_certain(&entry.name, &place).await;
                }
            }
            Some(Err(error)) => {
                let left = self.leave(&entry.name, &place).await;
                let is_left = left.is_ok();
                // If the key could not be removed, it may still become the first: the outcome is
                // unknown.
                let error = left.err().map_or(error, |_| Error::Timeout);
                let _has_it = answer.give(Err(error)).await;
                if !is_left {
                    self.leave_for_certain(&entry.name, &place).await;
                }
            }
            None => self.leave_for_certain(&entry.name, &place).await,
        }
    }

    /// Leaves the queue; retries until it succeeds or the member stops.
    async fn leave_for_certain(&self, name: &[u8], place: &Place) {
        while let Err(error) = self.leave(name, place).await {
            let passes = matches!(error.advice(), Advice::Retry | Advice::Unknown);
            if !passes || self.stop.is_triggered() {
                tracing::debug!(%error, "could not remove a key of a lock or an election; it is removed when its lease ends");
                return;
            }
            tokio::select! {
                biased; // a member that stops tries once more
                () = self.stop.triggered() => {}
                () = clock::sleep(PAUSE) => {}
            }
        }
    }

    /// Waits until the place is the first of its queue.
    async fn turn(&self, entry: &Entry, call: &Call, place: &Place) -> Result<First, Error> {
        let mut interested = None;
        let mut after = None;
        // If there was no older key, the transaction that took the place confirms it.
        let mut confirmed = true;
        loop {
            let looked = standing::look(&self.shared, &entry.name, place, after.as_ref()).await;
            // Checked before the result is used, since the permission may have been revoked.
            self.check_read(&entry.name, call).await?;
            let standing = match looked {
                // Too many long reads are waiting.
                Err(Error::TooManyRequests) => {
                    clock::sleep(PAUSE).await;
                    continue;
                }
                looked => looked?,
            };
            match standing {
                Standing::Lost => {
                    return Err(match entry.purpose {
                        Purpose::Lock => Error::LockSessionExpired,
                        Purpose::Election => Error::ElectionSessionExpired,
                    });
                }
                Standing::First { created, revision } if confirmed => {
                    return Ok(First {
                        key: place.key.clone(),
                        lease: place.lease,
                        created,
                        entered: place.header,
                        found: match interested {
                            None => place.header,
                            Some(_) => self.shared.header(revision),
                        },
                    });
                }
                // The lease may have ended, and this member may be behind: confirm.
                Standing::First { .. } => {
                    self.shared.linearize(self.soon().deadline).await?;
                    confirmed = true;
                }
                Standing::After(before) => {
                    confirmed = false;
                    wait_for(&self.deletions, &mut interested, &before, place).await;
                    after = Some(before);
                }
            }
        }
    }

    /// Checks that the caller may read the queue, as etcd does with each of its reads.
    pub(super) async fn check_read(&self, name: &[u8], call: &Call) -> Result<(), Error> {
        let call = self.renewed(call);
        let check = |users: &AuthState, by: Option<&Identity>| {
            let queue = pb::RangeRequest {
                key: prefix_of(name),
                range_end: prefix_end(name),
                ..Default::default()
            };
            users.check_range(by, &queue)
        };
        self.shared.permit(&call, check).await
    }

    /// The same caller with the full request timeout.
    pub(super) fn renewed(&self, call: &Call) -> Call {
        call.until(self.soon().deadline)
    }

    /// A call of this member itself, with the full request timeout.
    fn soon(&self) -> Call {
        Call::own(clock::now() + self.shared.settings.request_timeout)
    }
}

/// Registers for the deletion of `before` and of the caller's own key; if they are registered
/// already, waits. So the caller reads the keys between registration and wait, and misses no
/// deletion.
async fn wait_for(
    deletions: &Deletions,
    interested: &mut Option<synod_watch::Interested>,
    before: &Before,
    place: &Place,
) {
    match interested {
        Some(interested) if interested.concerns(&before.key) => interested.deleted().await,
        _ => *interested = Some(deletions.of(vec![before.key.clone(), place.key.clone()])),
    }
}

#[cfg(test)]
mod tests;
