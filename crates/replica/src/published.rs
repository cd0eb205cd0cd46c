//! State that the driver publishes for other threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;
use synod_consensus_core::{Role, Status};
use synod_types::{Ballot, Index, NodeId, Tick};
use tokio::sync::watch;

use crate::clock::TickClock;
use crate::error::Fault;

/// The leadership as far as this node knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leadership {
    /// This node's role.
    pub role: Role,
    /// The leader; `None` if unknown.
    pub leader: Option<NodeId>,
    /// The ballot; in Raft, the term.
    pub ballot: Ballot,
}

pub(crate) struct Published {
    clock: TickClock,
    commit: AtomicU64,
    applied: AtomicU64,
    /// Until when this node may serve reads alone, in nanoseconds of `clock`; zero without a lease.
    lease_until: AtomicU64,
    status: ArcSwap<Status>,
    role: watch::Sender<Leadership>,
    fault: watch::Sender<Option<Fault>>,
}

impl Published {
    pub(crate) fn new(clock: TickClock, status: Status) -> Self {
        let role = leadership(&status);
        Self {
            clock,
            commit: AtomicU64::new(status.commit.get()),
            applied: AtomicU64::new(status.applied.get()),
            lease_until: AtomicU64::new(0),
            status: ArcSwap::from_pointee(status),
            role: watch::Sender::new(role),
            fault: watch::Sender::new(None),
        }
    }

    /// Must be called before any message or answer that reveals `commit` leaves this node: a lease
    /// read that begins after an acknowledgement was seen must see that commit.
    pub(crate) fn set_commit(&self, commit: Index) {
        self.commit.fetch_max(commit.get(), Ordering::SeqCst);
    }

    /// Must be called before a message that gives up leadership leaves this node.
    pub(crate) fn set_lease(&self, until: Option<Tick>) {
        let nanos = until.map_or(0, TickClock::nanos_of);
        self.lease_until.store(nanos, Ordering::SeqCst);
    }

    pub(crate) fn set_applied(&self, applied: Index) {
        self.applied.fetch_max(applied.get(), Ordering::SeqCst);
    }

    pub(crate) fn set_status(&self, status: Status) {
        let role = leadership(&status);
        self.status.store(Arc::new(status));
        self.role.send_if_modified(|current| {
            let changed = *current != role;
            *current = role;
            changed
        });
    }

    pub(crate) fn set_fault(&self, fault: Fault) {
        self.fault.send_if_modified(|current| {
            let first = current.is_none();
            current.get_or_insert(fault);
            first
        });
    }

    /// If this node holds a lease, the index that a linearizable read must reach if it begins now.
    pub(crate) fn lease_read(&self, now: Instant) -> Option<Index> {
        // Read the commit index first. It includes everything acknowledged before this call,
        // provided that this node was the only possible leader up to `now`, which the lease
        // guarantees.
        let commit = self.commit();
        let until = self.lease_until.load(Ordering::SeqCst);
        (self.clock.nanos_at(now) < until).then_some(commit)
    }

    /// Like [`lease_read`](Self::lease_read) if this node is the only voter, which requires no
    /// clock.
    pub(crate) fn sole_voter_read(&self) -> Option<Index> {
        let commit = self.commit();
        let until = self.lease_until.load(Ordering::SeqCst);
        (until == TickClock::nanos_of(Tick::MAX)).then_some(commit)
    }

    pub(crate) fn commit(&self) -> Index {
        Index::new(self.commit.load(Ordering::SeqCst))
    }

    pub(crate) fn applied(&self) -> Index {
        Index::new(self.applied.load(Ordering::SeqCst))
    }

    pub(crate) fn status(&self) -> Arc<Status> {
        self.status.load_full()
    }

    pub(crate) fn watch_role(&self) -> watch::Receiver<Leadership> {
        self.role.subscribe()
    }

    pub(crate) fn watch_fault(&self) -> watch::Receiver<Option<Fault>> {
        self.fault.subscribe()
    }
}

fn leadership(status: &Status) -> Leadership {
    Leadership {
        role: status.role,
        leader: status.leader,
        ballot: status.ballot,
    }
}
