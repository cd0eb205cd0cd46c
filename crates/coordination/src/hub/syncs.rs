//! `sync`: a client waits until the pod has applied what was in the log when it asked.
//!
//! One read of the log's end serves all who asked before it began. Reads are numbered, and a client
//! waits for one that begins after its request.

use std::collections::HashSet;

use synod_coordination_core::{ConnectionId, LogNumber};

use super::{Hub, State};

/// Who waits for which read.
#[derive(Default)]
pub(super) struct Syncs {
    /// The last read that has begun.
    begun: u64,
    /// The last read that is wanted.
    wanted: u64,
    /// The last read that has ended. A later read covers an earlier one.
    ended: u64,
    /// The log's end then.
    end: LogNumber,
    /// Connections whose first pending request is a sync.
    pub(super) connections: HashSet<ConnectionId>,
}

impl Syncs {
    /// Asks for a read, and returns its number. One that has begun may be too early.
    pub(super) fn want(&mut self) -> u64 {
        self.wanted = self.begun + 1;
        self.wanted
    }

    pub(super) fn are_wanted(&self) -> bool {
        self.wanted > self.begun
    }

    /// Whether a pod that has applied the log up to `applied` has all that this read, or a later
    /// one, saw.
    pub(super) fn covers(&self, read: u64, applied: LogNumber) -> bool {
        self.ended >= read && applied >= self.end
    }
}

impl Hub {
    /// Resolves when somebody waits for a read of the log's end.
    ///
    /// # Cancel safety
    /// Safe to drop.
    pub(crate) async fn syncs_waiting(&self) {
        self.syncs.notified().await;
    }

    /// A read of the log's end begins. Returns its number; `None` if nobody waits for one.
    pub(crate) fn begin_sync(&self) -> Option<u64> {
        let syncs = &mut self.state.lock().syncs;
        if !syncs.are_wanted() {
            return None;
        }
        syncs.begun += 1;
        Some(syncs.begun)
    }

    /// The log ended with this batch when the read was made.
    pub(crate) fn end_sync(&self, read: u64, end: LogNumber) {
        let mut state = self.state.lock();
        state.syncs.ended = state.syncs.ended.max(read);
        state.syncs.end = state.syncs.end.max(end);
        state.finish_syncs();
        drop(state);
        self.progress.notify_waiters();
    }

    /// The read failed: those who wait for it want another one.
    pub(crate) fn fail_sync(&self) {
        self.state.lock().syncs.want();
        self.syncs.notify_one();
    }

    /// Wakes up whoever reads the log's end, if somebody waits for that.
    pub(super) fn ask_for_syncs(&self) {
        if self.state.lock().syncs.are_wanted() {
            self.syncs.notify_one();
        }
    }

    /// Waits until this pod has applied every batch that was in the log when this was called.
    ///
    /// # Cancel safety
    /// Safe to drop.
    pub(crate) async fn sync(&self) {
        let read = self.state.lock().syncs.want();
        self.syncs.notify_one();
        loop {
            let progress = self.progress.notified();
            tokio::pin!(progress);
            // Before the check, so that no progress is missed.
            progress.as_mut().enable();
            {
                let state = self.state.lock();
                if state.syncs.covers(read, state.reader.applied()) {
                    return;
                }
            }
            progress.await;
        }
    }
}

impl State {
    /// Ends the syncs whose log end was read and is applied.
    pub(super) fn finish_syncs(&mut self) {
        if self.reader.applied() < self.syncs.end {
            return;
        }
        let connections: Vec<ConnectionId> = self.syncs.connections.drain().collect();
        for id in connections {
            self.proceed(id);
        }
    }
}
