//! State shared by the handles, the driver and the apply thread of one group.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use synod_types::Index;

use crate::config::Limits;
use crate::error::{ProposeError, ReadError};
use crate::inbox::Inbox;
use crate::pending::Pending;
use crate::published::Published;
use crate::readers::Readers;

pub(crate) struct GroupRequests<O> {
    pub(crate) inbox: Inbox<O>,
    pub(crate) pending: Pending<O>,
    pub(crate) readers: Readers,
    pub(crate) published: Published,
    pub(crate) load: Load,
    pub(crate) apply_sample: ApplySample,
    pub(crate) limits: Limits,
}

/// The number of pending requests, checked against the limits.
#[derive(Debug, Default)]
pub(crate) struct Load {
    proposals: AtomicUsize,
    proposal_bytes: AtomicUsize,
    reads: Arc<AtomicUsize>,
}

impl Load {
    /// Admits a proposal, unless there are too many. The code that answers it must release it.
    pub(crate) fn admit_proposal(&self, bytes: usize, limits: &Limits) -> Result<(), ProposeError> {
        let count = self.proposals.fetch_add(1, Ordering::Relaxed);
        let total = self.proposal_bytes.fetch_add(bytes, Ordering::Relaxed);
        if count >= limits.max_pending_proposals || total >= limits.max_pending_proposal_bytes {
            self.release_proposal(bytes);
            return Err(ProposeError::TooBusy);
        }
        Ok(())
    }

    pub(crate) fn release_proposal(&self, bytes: usize) {
        self.proposals.fetch_sub(1, Ordering::Relaxed);
        self.proposal_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Admits a read, unless there are too many. The permit stays with the read until it is
    /// answered or dropped. A caller that gives up does not free the place while its read is still
    /// queued.
    pub(crate) fn admit_read(&self, limits: &Limits) -> Result<ReadPermit, ReadError> {
        let permit = ReadPermit(Arc::clone(&self.reads));
        if self.reads.fetch_add(1, Ordering::Relaxed) >= limits.max_pending_reads {
            return Err(ReadError::TooBusy);
        }
        Ok(permit)
    }

    pub(crate) fn proposals(&self) -> usize {
        self.proposals.load(Ordering::Relaxed)
    }
}

/// The entry whose time from commit to applied is measured.
#[derive(Debug, Default)]
pub(crate) struct ApplySample {
    /// Its index; zero for none.
    index: AtomicU64,
    committed: Mutex<Option<Instant>>,
}

impl ApplySample {
    pub(crate) fn start(&self, index: Index, now: Instant) {
        if self.index.load(Ordering::Acquire) == 0 {
            *self.committed.lock() = Some(now);
            self.index.store(index.get(), Ordering::Release);
        }
    }

    /// When the sample was committed, if `applied` has reached it. Returned only once.
    pub(crate) fn finish(&self, applied: Index) -> Option<Instant> {
        let index = self.index.load(Ordering::Acquire);
        if index == 0 || index > applied.get() {
            return None;
        }
        let committed = self.committed.lock().take();
        self.index.store(0, Ordering::Release);
        committed
    }
}

/// An admitted read. Dropping it frees the place.
pub(crate) struct ReadPermit(Arc<AtomicUsize>);

impl Drop for ReadPermit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
