//! Reads: those that wait at the same time share a round, several rounds may be under way, lost ones are issued again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use synod_consensus_core::{Input, ReadContext, ReadMode, ReadState, Rejected, Role};

use super::Driver;
use super::proposals::is_transient;
use crate::error::ReadError;
use crate::inbox::ReadRequest;
use crate::readers::Reader;
use crate::state_machine::StateMachine;

/// Rounds under way at once; later reads wait for the next.
const MAX_ROUNDS: usize = 32;

struct Round {
    readers: Vec<Reader>,
    issued: Instant,
}

/// Reads that are not confirmed yet. Bounded by the admission of reads.
pub(super) struct Reads {
    /// For the next rounds.
    index: Vec<Reader>,
    lease: Vec<Reader>,
    rounds: BTreeMap<u64, Round>,
    next: u64,
    /// An answer from a leader elsewhere that takes longer is taken for lost.
    patience: Duration,
    /// No new round before this: the last one was refused.
    pause_until: Option<Instant>,
    no_leader: bool,
}

impl Reads {
    /// `heartbeat` is the core's interval.
    pub(super) fn new(heartbeat: Duration) -> Self {
        Self {
            index: Vec::new(),
            lease: Vec::new(),
            rounds: BTreeMap::new(),
            next: 0,
            patience: heartbeat * 3,
            pause_until: None,
            no_leader: false,
        }
    }

    pub(super) fn take(&mut self, reads: &mut Vec<ReadRequest>) {
        for read in reads.drain(..) {
            let reader = Reader {
                reply: read.reply,
                deadline: read.deadline,
            };
            match read.mode {
                ReadMode::Index => self.index.push(reader),
                ReadMode::Lease => self.lease.push(reader),
            }
        }
    }

    /// When to look again: for the earliest deadline of what waits, and for lost rounds.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let waiting = self
            .index
            .iter()
            .chain(&self.lease)
            .map(|reader| reader.deadline)
            .min();
        let lost = self
            .rounds
            .values()
            .map(|round| round.issued + self.patience)
            .min();
        [waiting, lost, self.pause_until]
            .into_iter()
            .flatten()
            .min()
    }
}

impl<S: StateMachine> Driver<S> {
    /// Starts rounds for what waits. Returns how many.
    pub(super) fn issue_reads(&mut self) -> usize {
        if self.reads.index.is_empty() && self.reads.lease.is_empty() {
            return 0;
        }
        if self.role.leader.is_none() {
            self.reads.no_leader = true;
            return 0;
        }
        self.reads.no_leader = false;
        if self.reads.pause_until.is_some_and(|until| until > self.now) {
            return 0;
        }
        self.reads.pause_until = None;
        let lease = std::mem::take(&mut self.reads.lease);
        let mut issued = self.issue(ReadMode::Lease, lease);
        let index = std::mem::take(&mut self.reads.index);
        issued += self.issue(ReadMode::Index, index);
        issued
    }

    fn issue(&mut self, mode: ReadMode, readers: Vec<Reader>) -> usize {
        if readers.is_empty() {
            return 0;
        }
        if self.reads.rounds.len() >= MAX_ROUNDS {
            self.wait_again(mode, readers);
            return 0;
        }
        let ctx = self.reads.next;
        self.reads.next = ctx.wrapping_add(1);
        let input = Input::Read {
            ctx: ReadContext(ctx),
            mode,
        };
        let tick = self.tick();
        match self.core.step(tick, input) {
            Ok(()) => {
                let issued = self.now;
                self.reads.rounds.insert(ctx, Round { readers, issued });
                1
            }
            Err(Rejected::LeaseExpired) => self.issue(ReadMode::Index, readers),
            Err(reason) => {
                self.refused(readers, reason);
                0
            }
        }
    }

    fn wait_again(&mut self, mode: ReadMode, readers: Vec<Reader>) {
        match mode {
            ReadMode::Index => self.reads.index.extend(readers),
            ReadMode::Lease => self.reads.lease.extend(readers),
        }
    }

    /// Reads change nothing: they are asked again until their deadline, where that may help.
    fn refused(&mut self, readers: Vec<Reader>, reason: Rejected) {
        if is_transient(reason) || reason == Rejected::LeaseExpired {
            self.reads.pause_until = Some(self.now + crate::clock::TICK);
            self.wait_again(ReadMode::Index, readers);
        } else {
            self.metrics.read_failed();
            for reader in readers {
                let _gone = reader.reply.send(Err(ReadError::Rejected(reason)));
            }
        }
    }

    pub(super) fn answer_reads(
        &mut self,
        confirmed: Vec<ReadState>,
        failed: Vec<(ReadContext, Rejected)>,
    ) {
        for ReadState { ctx, index } in confirmed {
            if let Some(round) = self.reads.rounds.remove(&ctx.0) {
                self.shared.readers.wait_all(index, round.readers);
            }
        }
        for (ctx, reason) in failed {
            if let Some(round) = self.reads.rounds.remove(&ctx.0) {
                self.refused(round.readers, reason);
            }
        }
    }

    /// Once a tick: asks again where an answer got lost, and gives up on what is late.
    pub(super) fn expire_reads(&mut self) {
        let (now, patience) = (self.now, self.reads.patience);
        if self.role.role != Role::Leader {
            // A leader's own rounds ride on its heartbeats and can't get lost.
            let is_lost = |round: &Round| now.saturating_duration_since(round.issued) >= patience;
            let lost = self.reads.rounds.extract_if(.., |_, round| is_lost(round));
            let lost: Vec<Reader> = lost.flat_map(|(_, round)| round.readers).collect();
            self.reads.index.extend(lost);
        }
        let error = if self.reads.no_leader {
            ReadError::NoLeader
        } else {
            ReadError::Timeout
        };
        let reads = &mut self.reads;
        let rounds = reads.rounds.values_mut().map(|round| &mut round.readers);
        let mut expired = 0;
        for readers in rounds.chain([&mut reads.index, &mut reads.lease]) {
            for reader in readers.extract_if(.., |reader| reader.deadline <= now) {
                expired += 1;
                let _gone = reader.reply.send(Err(error.clone()));
            }
        }
        if expired > 0 {
            self.metrics.read_failed();
        }
    }
}
