//! Reads. Those that wait at the same time share a round, lost rounds are retried, and each read is
//! served when the state machine has applied what it needs.

use synod_consensus_core::{ReadContext, ReadMode, ReadState, Rejected, Role};
use synod_replica_core::Moment;
use synod_types::Index;

use super::inbox::{ReadKind, ReadRequest};
use super::turn::Turn;
use super::{Node, Process};
use crate::command::OpId;
use crate::env::Env;
use crate::event::Answer;
use crate::invariants::{Check, SHELL_CONTRACT};
use crate::time::{TICK_US, Time};

impl synod_replica_core::Reader for ReadRequest {
    type Time = Time;

    fn deadline(&self) -> Time {
        self.deadline
    }
}

impl ReadRequest {
    pub(super) fn mode(&self) -> ReadMode {
        match self.kind {
            ReadKind::Lease => ReadMode::Lease,
            ReadKind::Linearizable | ReadKind::Serializable => ReadMode::Index,
        }
    }
}

/// A confirmed read that only waits for the apply thread.
#[derive(Clone, Copy)]
pub(super) struct Reader {
    op: OpId,
    deadline: Time,
}

impl Node {
    /// A client's read, served outside the driver if possible.
    pub(crate) fn read(&mut self, env: &mut Env, read: ReadRequest) -> Check {
        let local = self.clock.local(env.now);
        let id = self.id;
        let Some(process) = self.process_mut() else {
            return Ok(());
        };
        let known = match read.kind {
            ReadKind::Serializable => Some(Index::ZERO),
            ReadKind::Lease => {
                // Read the commit index first, as `Published::lease_read` does.
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

    /// Answers all readers up to an index.
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
    /// Starts rounds for waiting readers. Returns the number of rounds.
    pub(super) fn issue_reads(&mut self, env: &mut Env) -> Check<usize> {
        let at = self.moment(env);
        let process = &mut *self.process;
        let has_leader = process.role.leader.is_some();
        let mut refused = Vec::new();
        let issued = process
            .reads
            .issue(process.core.as_mut(), has_leader, &at, &mut refused);
        refuse(env, refused);
        Ok(issued)
    }

    fn moment(&self, env: &Env) -> Moment<Time> {
        Moment {
            tick: self.tick,
            now: env.now,
            lost_at: env.now + env.plan.heartbeat_ticks * 3 * TICK_US,
            retry_at: env.now + TICK_US,
        }
    }

    pub(super) fn answer_reads(
        &mut self,
        env: &mut Env,
        confirmed: Vec<ReadState>,
        failed: Vec<(ReadContext, Rejected)>,
    ) -> Check {
        for ReadState { ctx, index } in confirmed {
            for read in self.process.reads.confirmed(ctx) {
                env.checks.on_read(self.id, index, read.floor)?;
                self.process.wait(env, index, Reader::of(&read))?;
            }
        }
        let at = self.moment(env);
        let mut refused = Vec::new();
        for (ctx, reason) in failed {
            self.process.reads.failed(ctx, reason, &at, &mut refused);
        }
        refuse(env, refused);
        Ok(())
    }

    /// Called once per tick. Retries lost rounds and answers readers past their deadline.
    pub(super) fn expire_reads(&mut self, env: &mut Env) {
        let now = env.now;
        let leads = self.process.role.role == Role::Leader;
        let late = self.process.reads.expire(now, leads);
        let mut late: Vec<OpId> = late.into_iter().map(|read| read.op).collect();
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

fn refuse(env: &mut Env, refused: Vec<(ReadRequest, Rejected)>) {
    for (read, _) in refused {
        env.answer(read.op, Answer::Refused);
    }
}
