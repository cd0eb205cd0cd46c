//! The driver's turn, in the order of `synod_replica::driver`: results of the log and the apply
//! thread, messages, other events, time, proposals, reads, then everything that the core requests,
//! and finally compaction.

use synod_consensus_core::{Body, CommonBody, Input, Message, PaxosBody, Rejected, Role, Write};
use synod_replica_core::{brings_entries, drain, persisted};
use synod_types::Tick;

use super::hands::Hands;
use super::{End, Node, NodeState, Process, ShellEvent};
use crate::env::Env;
use crate::event::Event;
use crate::invariants::{Check, Lease, check_transfer, is_forbidden};
use crate::time::Time;
use crate::words;

impl Node {
    /// Executes one turn of the driver.
    pub(crate) fn turn(&mut self, env: &mut Env) -> Check {
        let tick = self.now(env);
        let (slot, epoch) = (self.slot, self.epoch);
        let NodeState::Running(process) = &mut self.state else {
            return Ok(());
        };
        process.turn_due = false;
        if process.inbox.failed {
            // Fail-stop: the replica never retries; the process is restarted.
            env.counts.failed_logs += 1;
            return self.end(env, End::Exit);
        }
        let mut turn = Turn {
            process,
            id: self.id,
            slot,
            epoch,
            tick,
        };
        turn.completions(env)?;
        turn.messages(env)?;
        turn.events(env)?;
        let process = &mut *turn.process;
        process.held.extend(process.inbox.writes.drain(..));
        for read in process.inbox.reads.drain(..) {
            process.reads.add(read.mode(), read);
        }
        if tick > process.last_tick || tick >= process.core.deadline() {
            process.last_tick = tick;
            turn.step(env, Input::Tick);
            if env.now < turn.process.inbox.campaigns_until {
                turn.step(env, Input::Campaign);
            }
            turn.expire(env)?;
        }
        turn.propose(env)?;
        turn.issue_reads(env)?;
        turn.transfers(env);
        turn.drain(env)?;
        // A change of role may have made room for held requests.
        if turn.propose(env)? + turn.issue_reads(env)? > 0 {
            turn.drain(env)?;
        }
        turn.compact(env);
        self.after_turn(env)
    }

    /// Checks the node against everything that is known, and schedules its next wake-up.
    fn after_turn(&mut self, env: &mut Env) -> Check {
        let (id, slot, epoch) = (self.id, self.slot, self.epoch);
        let clock = self.clock;
        let Some(process) = self.process_mut() else {
            return Ok(());
        };
        let status = process.core.status();
        if env.checks.after_turn(id, &status)? {
            env.counts.leaders += 1;
            if let Some(line) = env.trace.event(env.now, Some(id), "leads") {
                line.word("ballot", status.ballot)
                    .number("last", status.last.index.get())
                    .number("commit", status.commit.get());
            }
        }
        check_transfer(id, &status, process.published.lease)?;
        let lease = Lease {
            ballot: status.ballot,
            leads: status.role == Role::Leader,
            until: process.published.lease.map(|until| {
                let never = Time::MAX;
                clock.time_of(until, env.now).unwrap_or(never)
            }),
        };
        env.checks.leases.check(env.now, id, lease)?;
        let promises = &mut env.checks.promises;
        promises.check(env.now, id, clock, &status.membership, &lease)?;
        let wanted = process
            .core
            .deadline()
            .min(process.deadline(env.now, &clock));
        let at = clock.time_of(wanted, env.now).unwrap_or(Time::MAX);
        // Never twice in one tick.
        let at = at.max(env.now + 1);
        if at < process.wake_at || process.wake_at <= env.now {
            process.wake_at = at;
            if at < Time::MAX {
                env.queue.push(at, Event::Wake { slot, epoch });
            }
        }
        Ok(())
    }

    /// The clock's rate changed, so check everything that depends on it again.
    pub(crate) fn clock_changed(&mut self, env: &mut Env) -> Check {
        self.after_turn(env)
    }
}

impl Process {
    /// When the shell has work of its own: waiting requests expire once per tick.
    fn deadline(&self, now: Time, clock: &crate::time::Clock) -> Tick {
        let waits = !self.held.is_empty()
            || !self.pending.is_empty()
            || !self.reads.is_empty()
            || !self.readers.is_empty()
            || !self.views.is_empty();
        if now < self.inbox.campaigns_until {
            clock.tick(now).plus(1)
        } else if waits {
            clock.tick(now).plus(5)
        } else {
            Tick::MAX
        }
    }
}

/// A turn in progress.
pub(super) struct Turn<'a> {
    pub(super) process: &'a mut Process,
    pub(super) id: synod_types::NodeId,
    pub(super) slot: usize,
    pub(super) epoch: u64,
    pub(super) tick: Tick,
}

impl Turn<'_> {
    /// Steps an input whose rejection needs no answer because it had no effect.
    pub(super) fn step(&mut self, env: &mut Env, input: Input) {
        if let Err(reason) = self.process.core.step(self.tick, input) {
            env.counts.refused_inputs += 1;
            if let Some(line) = env.trace.event(env.now, Some(self.id), "refuses") {
                line.word("reason", reason);
            }
        }
    }

    fn completions(&mut self, env: &mut Env) -> Check {
        if let Some(seq) = self.process.inbox.persisted.take() {
            persisted(&mut Hands { turn: self, env }, seq)?;
        }
        if let Some(index) = self.process.inbox.applied.take() {
            self.step(env, Input::Applied(index));
        }
        Ok(())
    }

    fn messages(&mut self, env: &mut Env) -> Check {
        for message in std::mem::take(&mut self.process.inbox.messages) {
            // Like the transport, drops messages for other nodes.
            if message.to != self.id {
                continue;
            }
            // The apply thread is behind. To the leader the message is lost.
            if brings_entries(&message.body)
                && self.process.queue.len() > env.plan.max_apply_backlog
            {
                continue;
            }
            words::received(env, &message);
            let loyal_until = self.tick.plus(env.plan.election_ticks);
            env.checks
                .on_received(self.id, self.tick, loyal_until, &message);
            self.note_promise(env, &message);
            if let Body::Common(CommonBody::PreVote { .. }) = &message.body {
                let ballot = self.process.core.status().ballot;
                env.checks.on_pre_vote(self.id, self.tick, ballot, &message);
            }
            let candidate = message.from;
            let before = is_forbidden(&message).then(|| self.process.core.status().ballot);
            let result = self.process.core.step(self.tick, Input::Message(message));
            if let Some(before) = before {
                let ballots = (before, self.process.core.status().ballot);
                env.checks
                    .on_asked(self.id, self.tick, ballots, candidate)?;
            }
            if let Err(reason) = result {
                crate::invariants::SHELL_CONTRACT
                    .ensure(reason != Rejected::InvalidMessage, || {
                        format!("n{} rejects a peer's message as malformed", self.id)
                    })?;
                env.counts.refused_inputs += 1;
            }
        }
        Ok(())
    }

    /// Records a promise. Only promises before the candidate leads count.
    fn note_promise(&self, env: &mut Env, message: &Message) {
        let Body::Paxos(PaxosBody::Promise { entries, .. }) = &message.body else {
            return;
        };
        let status = self.process.core.status();
        if status.role == Role::Candidate && status.ballot == message.ballot {
            env.checks.on_promised(self.id, message.ballot, entries);
        }
    }

    fn events(&mut self, env: &mut Env) -> Check {
        for event in std::mem::take(&mut self.process.inbox.events) {
            match event {
                ShellEvent::Installed(meta) => {
                    self.process.compactor.installed(meta.last.index);
                    self.step(env, Input::SnapshotInstalled(meta));
                }
                ShellEvent::InstallFailed => self.step(env, Input::SnapshotFailed),
                ShellEvent::SnapshotSent { to, ok } => {
                    self.step(env, Input::SnapshotSent { to, ok });
                }
                ShellEvent::Flushed(meta) => self.process.compactor.persisted(meta),
                ShellEvent::Campaign => self.step(env, Input::Campaign),
                ShellEvent::WriteFailed(seq) => self.step(env, Input::PersistFailed(seq)),
                ShellEvent::Unreachable(node) => self.step(env, Input::Unreachable(node)),
                ShellEvent::Gone(node) => {
                    words::gone(env, self.id, node);
                    env.checks.on_gone(self.id, self.tick, node);
                    self.step(env, Input::Gone(node));
                }
                ShellEvent::Compact => self.process.cut_now = true,
            }
        }
        Ok(())
    }

    fn transfers(&mut self, env: &mut Env) {
        for to in std::mem::take(&mut self.process.inbox.transfers) {
            if self
                .process
                .core
                .step(self.tick, Input::Transfer { to })
                .is_ok()
            {
                env.counts.transfers += 1;
            }
        }
    }

    fn expire(&mut self, env: &mut Env) -> Check {
        self.expire_writes(env);
        self.expire_reads(env);
        self.expire_views(env);
        Ok(())
    }

    /// Carries out everything that the core requests.
    fn drain(&mut self, env: &mut Env) -> Check {
        drain(&mut Hands { turn: self, env })
    }

    pub(super) fn count_writes(&self, env: &mut Env, writes: &[Write]) {
        for write in writes {
            words::write(env, self.id, write);
            match write {
                Write::TruncateFrom(_) => env.counts.truncations += 1,
                Write::Put(_) | Write::Reset(_) | Write::Advance(_) | Write::HardState(_) => {}
            }
        }
    }
}
