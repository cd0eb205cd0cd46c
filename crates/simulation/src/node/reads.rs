//! Reads: those that wait at the same time share a round, lost ones are asked again, and each is served when the state
//! machine has what it needs.

use std::collections::BTreeMap;

use synod_consensus_core::{Input, ReadContext, ReadMode, ReadState, Rejected, Role};
use synod_types::Index;

use super::inbox::{ReadKind, ReadRequest};
use super::proposals::is_transient;
use super::turn::Turn;
use super::{Node, Process};
use crate::command::OpId;
use crate::env::Env;
use crate::event::Answer;
use crate::invariants::{Check, SHELL_CONTRACT};
use crate::time::{TICK_US, Time};

/// Rounds under way at once; later reads wait for the next.
const MAX_ROUNDS: usize = 32;

#[derive(Default)]
pub(super) struct Reads {
    index: Vec<ReadRequest>,
    lease: Vec<ReadRequest>,
    rounds: BTreeMap<u64, Round>,
    next: u64,
}

struct Round {
    readers: Vec<ReadRequest>,
    issued: Time,
}

/// A confirmed read that only waits for the apply thread.
#[derive(Clone, Copy)]
pub(super) struct Reader {
    op: OpId,
    deadline: Time,
}

impl Reads {
    pub(super) fn take(&mut self, reads: Vec<ReadRequest>) {
        for read in reads {
            match read.kind {
                ReadKind::Lease => self.lease.push(read),
                ReadKind::Linearizable | ReadKind::Serializable => self.index.push(read),
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.index.is_empty() && self.lease.is_empty() && self.rounds.is_empty()
    }
}

impl Node {
    /// A client asks, beside the driver where that is possible.
    pub(crate) fn read(&mut self, env: &mut Env, read: ReadRequest) -> Check {
        let local = self.clock.local(env.now);
        let id = self.id;
        let Some(process) = self.process_mut() else {
            return Ok(());
        };
        let known = match read.kind {
            ReadKind::Serializable => Some(Index::ZERO),
            ReadKind::Lease => {
                // The commit index first, as `Published::lease_read` says.
                let commit = process.published.commit;
                let until = process.published.lease;
                let runs = until.is_some_and(|until| local < until.get().saturating_mul(TICK_US));
                runs.then_some(commit)
            }
            ReadKind::Linearizable => None,
        };
        match known {
            Some(index) => {
                if read.kind == ReadKind::Lease {
                    env.counts.lease_hits += 1;
                    env.checks.on_read(id, index, read.floor)?;
                }
                process.wait(env, index, Reader::of(&read))
            }
            None => {
                process.inbox.reads.push(read);
                self.wake(env);
                Ok(())
            }
        }
    }
}

impl Reader {
    fn of(read: &ReadRequest) -> Self {
        Self {
            op: read.op,
            deadline: read.deadline,
        }
    }
}

impl Process {
    fn wait(&mut self, env: &mut Env, index: Index, reader: Reader) -> Check {
        if self.machine.index() >= index {
            self.serve(env, reader)
        } else {
            self.readers.entry(index).or_default().push(reader);
            Ok(())
        }
    }

    /// Answers everyone up to an index.
    pub(super) fn advance_readers(&mut self, env: &mut Env, index: Index) -> Check {
        let later = self.readers.split_off(&index.next());
        for (_, readers) in std::mem::replace(&mut self.readers, later) {
            for reader in readers {
                self.serve(env, reader)?;
            }
        }
        Ok(())
    }

    fn serve(&self, env: &mut Env, reader: Reader) -> Check {
        let Some(key) = env.key_of(reader.op) else {
            return Ok(());
        };
        let value = self
            .machine
            .get(key)
            .map_err(|error| SHELL_CONTRACT.broken(format!("a read failed: {error}")))?;
        let answer = Answer::Read {
            index: self.machine.index(),
            value,
        };
        env.answer(reader.op, answer);
        Ok(())
    }
}

impl Turn<'_> {
    /// Starts rounds for what waits. Returns how many.
    pub(super) fn issue_reads(&mut self, env: &mut Env) -> Check<usize> {
        if self.process.role.leader.is_none() {
            return Ok(0);
        }
        let lease = std::mem::take(&mut self.process.reads.lease);
        let mut issued = self.issue(env, ReadMode::Lease, lease);
        let index = std::mem::take(&mut self.process.reads.index);
        issued += self.issue(env, ReadMode::Index, index);
        Ok(issued)
    }

    fn issue(&mut self, env: &mut Env, mode: ReadMode, readers: Vec<ReadRequest>) -> usize {
        if readers.is_empty() {
            return 0;
        }
        if self.process.reads.rounds.len() >= MAX_ROUNDS {
            self.process.reads.index.extend(readers);
            return 0;
        }
        let ctx = self.process.reads.next;
        self.process.reads.next += 1;
        let input = Input::Read {
            ctx: ReadContext(ctx),
            mode,
        };
        match self.process.core.step(self.tick, input) {
            Ok(()) => {
                let issued = env.now;
                self.process
                    .reads
                    .rounds
                    .insert(ctx, Round { readers, issued });
                1
            }
            Err(Rejected::LeaseExpired) => self.issue(env, ReadMode::Index, readers),
            Err(reason) => {
                self.refused(env, readers, reason);
                0
            }
        }
    }

    /// Reads change nothing: they are asked again until their deadline, where that may help.
    fn refused(&mut self, env: &mut Env, readers: Vec<ReadRequest>, reason: Rejected) {
        if is_transient(reason) || reason == Rejected::LeaseExpired {
            // With the next tick.
            self.process.reads.index.extend(readers);
        } else {
            for read in readers {
                env.answer(read.op, Answer::Refused);
            }
        }
    }

    pub(super) fn answer_reads(
        &mut self,
        env: &mut Env,
        confirmed: Vec<ReadState>,
        failed: Vec<(ReadContext, Rejected)>,
    ) -> Check {
        for ReadState { ctx, index } in confirmed {
            let Some(round) = self.process.reads.rounds.remove(&ctx.0) else {
                continue;
            };
            for read in round.readers {
                env.checks.on_read(self.id, index, read.floor)?;
                self.process.wait(env, index, Reader::of(&read))?;
            }
        }
        for (ctx, reason) in failed {
            if let Some(round) = self.process.reads.rounds.remove(&ctx.0) {
                self.refused(env, round.readers, reason);
            }
        }
        Ok(())
    }

    /// Once a tick: asks again where an answer got lost, and gives up on what is late.
    pub(super) fn expire_reads(&mut self, env: &mut Env) {
        let now = env.now;
        let patience = env.plan.heartbeat_ticks * 3 * TICK_US;
        let reads = &mut self.process.reads;
        if self.process.role.role != Role::Leader {
            // A leader's own rounds ride on its heartbeats and can't get lost.
            let lost = reads
                .rounds
                .extract_if(.., |_, round| now >= round.issued + patience);
            let lost: Vec<ReadRequest> = lost.flat_map(|(_, round)| round.readers).collect();
            reads.index.extend(lost);
        }
        let rounds = reads.rounds.values_mut().map(|round| &mut round.readers);
        let mut late = Vec::new();
        for readers in rounds.chain([&mut reads.index, &mut reads.lease]) {
            late.extend(
                readers
                    .extract_if(.., |read| read.deadline <= now)
                    .map(|read| read.op),
            );
        }
        for readers in self.process.readers.values_mut() {
            late.extend(
                readers
                    .extract_if(.., |one| one.deadline <= now)
                    .map(|one| one.op),
            );
        }
        self.process
            .readers
            .retain(|_, readers| !readers.is_empty());
        for op in late {
            env.answer(op, Answer::Refused);
        }
    }
}
