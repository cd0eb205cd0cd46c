//! Read rounds: reads that wait at the same time share a round.

use std::time::Instant;

use synod_consensus_core::{ReadContext, ReadState, Rejected, Role};
use synod_replica_core::Moment;

use super::Driver;
use crate::error::ReadError;
use crate::inbox::ReadRequest;
use crate::readers::Reader;
use crate::state_machine::StateMachine;

/// A read that another leader has not answered after this many heartbeat intervals is considered
/// lost.
const PATIENCE_HEARTBEATS: u32 = 3;

impl synod_replica_core::Reader for Reader {
    type Time = Instant;

    fn deadline(&self) -> Instant {
        self.deadline
    }

    fn is_abandoned(&self) -> bool {
        self.reply.is_abandoned()
    }
}

impl<S: StateMachine> Driver<S> {
    pub(super) fn take_reads(&mut self, reads: &mut Vec<ReadRequest>) {
        for read in reads.drain(..) {
            let reader = Reader {
                reply: read.reply,
                deadline: read.deadline,
            };
            self.reads.add(read.mode, reader);
        }
    }

    fn moment(&self) -> Moment<Instant> {
        Moment {
            tick: self.tick(),
            now: self.now,
            lost_at: self.now + self.heartbeat * PATIENCE_HEARTBEATS,
            retry_at: self.now + crate::clock::TICK,
        }
    }

    /// Starts rounds for waiting readers. Returns the number of rounds.
    pub(super) fn issue_reads(&mut self) -> usize {
        let at = self.moment();
        let has_leader = self.role.leader.is_some();
        let mut refused = Vec::new();
        let issued = self
            .reads
            .issue(self.core.as_mut(), has_leader, &at, &mut refused);
        self.refuse_reads(refused);
        issued
    }

    fn refuse_reads(&self, refused: Vec<(Reader, Rejected)>) {
        if !refused.is_empty() {
            self.metrics.read_failed();
        }
        for (reader, reason) in refused {
            reader.reply.send(Err(ReadError::Rejected(reason)));
        }
    }

    pub(super) fn confirmed_reads(&mut self, confirmed: Vec<ReadState>) {
        for ReadState { ctx, index } in confirmed {
            let readers = self.reads.confirmed(ctx);
            if !readers.is_empty() {
                self.shared.readers.wait_all(index, readers);
            }
        }
    }

    pub(super) fn failed_reads(&mut self, failed: Vec<(ReadContext, Rejected)>) {
        if failed.is_empty() {
            return;
        }
        let at = self.moment();
        let mut refused = Vec::new();
        for (ctx, reason) in failed {
            self.reads.failed(ctx, reason, &at, &mut refused);
        }
        self.refuse_reads(refused);
    }

    /// Called once per tick. Retries lost rounds and answers readers past their deadline.
    pub(super) fn expire_reads(&mut self) {
        let late = self.reads.expire(self.now, self.role.role == Role::Leader);
        if late.is_empty() {
            return;
        }
        self.metrics.read_failed();
        let error = if self.reads.lacks_leader() {
            ReadError::NoLeader
        } else {
            ReadError::Timeout
        };
        for reader in late {
            reader.reply.send(Err(error.clone()));
        }
    }
}
