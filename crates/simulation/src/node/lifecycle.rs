//! Starting and ending a node's process.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use synod_consensus_core::{HardState, Membership, RoleChange, SnapshotMeta};
use synod_engine::Engine as _;
use synod_log::{
    Crash, LogCore, LogCoreConfig, MIN_SEGMENT_BYTES, OpenError, Restart, SimDisk, SyncMode,
};
use synod_replica_core::{LogCompactor, Outbox, ReadRounds, Views};
use synod_types::{LogPosition, NodeId, Tick, mix};

use super::log_thread::{GROUP, LogThread};
use super::restore::restore;
use super::{Inbox, Node, NodeState, Process, Published};
use crate::choices::Stream;
use crate::disk_model::DurableLog;
use crate::engine::SimEngine;
use crate::env::Env;
use crate::invariants::{CORE_ASSERTION, Check, LOG_RECOVERY, Recovered};
use crate::machine::Machine;
use crate::snapshot::MAX_VIEWS;
use crate::time::{Clock, Time};

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// By itself, after an error.
    Exit,
    /// Killed.
    Kill,
    /// With its machine.
    PowerLoss,
}

/// The result of a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    Running,
    /// The log is corrupt.
    Refused,
    /// Interrupted by another crash.
    Interrupted,
}

impl Node {
    /// A node with an empty disk. `members` are the group's initial members, or none on a node that
    /// waits to be added.
    pub(crate) fn new(
        env: &mut Env,
        slot: usize,
        id: NodeId,
        members: Option<Membership>,
    ) -> Check<Self> {
        let bootstrap = match members {
            Some(membership) => SnapshotMeta {
                last: env.plan.base,
                membership,
            },
            None => SnapshotMeta::default(),
        };
        let rate = env.plan.clock_rate(&mut env.choices, Stream::Setup);
        let offset = mix(id.get()) % 10_000_000;
        let plan = env.plan.clone();
        let node = Self {
            slot,
            id,
            clock: Clock::new(offset, rate),
            config: plan.config(id, &mut env.choices),
            disk: SimDisk::new(),
            engine: Arc::new(SimEngine::default()),
            bootstrap: bootstrap.clone(),
            state: NodeState::Down,
            epoch: 0,
            is_new: true,
            under_way: Vec::new(),
            damaged: false,
        };
        if bootstrap.last != LogPosition::ZERO {
            Machine::create(&node.engine, &bootstrap)
                .map_err(|error| LOG_RECOVERY.broken(error.to_string()))?;
        }
        env.checks.born(
            id,
            DurableLog {
                hard_state: HardState::at(&bootstrap),
                start: bootstrap,
                ..DurableLog::default()
            },
        );
        env.slots.insert(id, slot);
        Ok(node)
    }

    /// Starts a process from the state on its disk.
    pub(crate) fn start(&mut self, env: &mut Env) -> Check<Start> {
        if !matches!(self.state, NodeState::Down) {
            return Ok(Start::Running);
        }
        let interrupted = !self.is_new && env.choices.often(Stream::Disk, 50) && !env.calm;
        if interrupted {
            let done = env.choices.below(Stream::Disk, 5);
            let kept = env.choices.index(Stream::Disk, 500);
            self.disk.stop_at(self.disk.operations() + done, kept);
        }
        let fresh_id = mix(self.id.get());
        let opened = LogCore::open(
            Arc::new(self.disk.clone()),
            log_config(),
            fresh_id,
            Arc::default(),
        );
        let (mut log, mut recovered) = match opened {
            Ok(opened) => opened,
            Err(_) if interrupted => return Ok(self.interrupted(env)),
            Err(error) => return self.refuse(env, &error),
        };
        if interrupted {
            drop(log);
            return Ok(self.interrupted(env));
        }
        let machine = Machine::open(Arc::clone(&self.engine))
            .map_err(|error| LOG_RECOVERY.broken(format!("n{}: {error}", self.id)))?;
        // What the last process applied may only be in the page cache and be ahead of the log. The
        // core then makes the log begin there, so after a power loss there would be a log without a
        // state.
        let flushed = self.engine.persist();
        flushed.map_err(|error| LOG_RECOVERY.broken(error.to_string()))?;
        let group = recovered.groups.remove(&GROUP);
        if let Some(state) = &group {
            let recovered = Recovered {
                state,
                under_way: &self.under_way,
            };
            env.checks.restarted(self.id, &recovered, machine.index())?;
        } else {
            LOG_RECOVERY.ensure(self.is_new, || format!("the log of n{} is empty", self.id))?;
            env.checks.handed_from(self.id, machine.index());
        }
        self.under_way.clear();
        let applied = machine.applied().clone();
        let Restart {
            restored, initial, ..
        } = restore(&mut log, group, applied, &self.bootstrap)?;
        self.epoch += 1;
        self.config.seed = mix(mix(env.plan.seed ^ self.id.get()) ^ self.epoch);
        let (start, applied) = (restored.start.last.index, restored.applied.last.index);
        let algorithm = env.checks.algorithm;
        let core = algorithm.start(self.config.clone(), restored, self.now(env));
        let core = core
            .map_err(|error| CORE_ASSERTION.broken(format!("n{} can't start: {error}", self.id)))?;
        let status = core.status();
        if !self.is_new {
            env.counts.restarts += 1;
        }
        self.is_new = false;
        if let Some(line) = env.trace.event(env.now, Some(self.id), "starts") {
            line.word("ballot", status.ballot)
                .number("last", status.last.index.get())
                .number("commit", status.commit.get())
                .number("applied", status.applied.get());
        }
        let process = Process {
            core,
            inbox: Inbox::default(),
            log: LogThread::new(log),
            machine,
            queue: VecDeque::new(),
            applying: false,
            role: RoleChange {
                role: status.role,
                leader: status.leader,
                ballot: status.ballot,
            },
            held: VecDeque::new(),
            pending: BTreeMap::new(),
            // As unique as random numbers: no two processes use the same ones.
            next_request: self.epoch << 32,
            reads: ReadRounds::default(),
            readers: BTreeMap::new(),
            outbox: Outbox::default(),
            published: Published::default(),
            compactor: LogCompactor::new(initial.clone(), start, applied),
            cut_now: false,
            views: Views::new(MAX_VIEWS),
            fetch: None,
            flushing: false,
            initial,
            last_tick: Tick::ZERO,
            wake_at: Time::MAX,
            turn_due: false,
        };
        self.state = NodeState::Running(Box::new(process));
        self.wake(env);
        Ok(Start::Running)
    }

    fn interrupted(&mut self, env: &mut Env) -> Start {
        self.crash_disk(env, End::PowerLoss);
        Start::Interrupted
    }

    fn refuse(&mut self, env: &mut Env, error: &OpenError) -> Check<Start> {
        LOG_RECOVERY.ensure(self.damaged, || {
            format!("the log of n{} refuses to start: {error}", self.id)
        })?;
        env.counts.refused_logs += 1;
        if let Some(line) = env.trace.event(env.now, Some(self.id), "refuses-to-start") {
            line.word("error", error);
        }
        self.state = NodeState::Refused;
        Ok(Start::Refused)
    }

    /// Ends the process.
    pub(crate) fn end(&mut self, env: &mut Env, end: End) -> Check {
        let state = std::mem::replace(&mut self.state, NodeState::Down);
        let (NodeState::Running(mut process) | NodeState::Paused(mut process, _)) = state else {
            self.state = state;
            return Ok(());
        };
        if let Some(line) = env.trace.event(env.now, Some(self.id), "ends") {
            line.word("how", format!("{end:?}"));
        }
        self.under_way = process.interrupt_log(env, &self.disk);
        self.engine = Arc::clone(process.machine.engine());
        drop(process);
        env.checks.stopped(self.id);
        self.crash_disk(env, end);
        self.reopen_engine(env, end)
    }

    fn crash_disk(&mut self, env: &mut Env, end: End) {
        match end {
            End::Exit | End::Kill => self.disk.crash(Crash::Process),
            End::PowerLoss => {
                let mut draw = |bound| env.choices.below(Stream::Disk, bound);
                self.disk.crash(Crash::Power(&mut draw));
            }
        }
    }

    fn reopen_engine(&mut self, env: &mut Env, end: End) -> Check {
        let unflushed = self.engine.unflushed();
        let kept = match end {
            End::Exit | End::Kill => unflushed,
            End::PowerLoss => {
                // Keeping all is the harmless choice.
                unflushed - env.choices.index(Stream::Disk, unflushed + 1)
            }
        };
        let engine = self.engine.reopen(kept);
        self.engine = engine.map_err(|error| LOG_RECOVERY.broken(error.to_string()))?;
        Ok(())
    }

    /// Pauses the process.
    pub(crate) fn pause(&mut self) -> bool {
        let state = std::mem::replace(&mut self.state, NodeState::Down);
        match state {
            NodeState::Running(process) => {
                self.state = NodeState::Paused(process, Vec::new());
                true
            }
            other @ (NodeState::Paused(..) | NodeState::Down | NodeState::Refused) => {
                self.state = other;
                false
            }
        }
    }

    /// Resumes the process: events that waited are handled now.
    pub(crate) fn resume(&mut self, env: &mut Env) {
        let state = std::mem::replace(&mut self.state, NodeState::Down);
        match state {
            NodeState::Paused(process, waiting) => {
                self.state = NodeState::Running(process);
                for event in waiting {
                    env.after(0, event);
                }
                if let Some(process) = self.process_mut() {
                    process.turn_due = false;
                }
                self.wake(env);
            }
            other @ (NodeState::Running(_) | NodeState::Down | NodeState::Refused) => {
                self.state = other;
            }
        }
    }
}

fn log_config() -> LogCoreConfig {
    LogCoreConfig {
        segment_bytes: MIN_SEGMENT_BYTES,
        max_recycled_segments: 1,
        sync: SyncMode::Data,
    }
}
