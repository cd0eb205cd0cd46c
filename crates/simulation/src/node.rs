//! One node: the state that survives a crash, and the process that a crash ends.
//!
//! The process is the shell of `synod-replica` in one thread. It has the same parts (driver, log
//! thread, apply thread, flushes, snapshot transfer), but the work of each is a simulation event.
//! The driver's decisions are the same code, `synod-replica-core`. The driver's turn is in `turn`,
//! its actions in `hands`, the log thread in `log_thread` and the apply thread in `applier`.

mod applier;
mod compactor;
mod hands;
mod inbox;
mod lifecycle;
mod log_thread;
mod proposals;
mod reads;
mod restore;
mod turn;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use synod_consensus_core::{
    Consensus, CoreConfig, Entry, InitialMembers, Message, RoleChange, SnapshotMeta,
};
use synod_log::SimDisk;
use synod_mvcc::View;
use synod_replica_core::{LogCompactor, Outbox, ReadRounds, Views};
use synod_types::{Index, NodeId, Tick};

pub(crate) use self::applier::Flush;
pub(crate) use self::inbox::{Inbox, Proposed, ReadKind, ReadRequest, ShellEvent, WriteRequest};
pub(crate) use self::lifecycle::{End, Start};
use self::log_thread::LogThread;
use self::proposals::Waiter;
use self::reads::Reader;
use crate::engine::SimEngine;
use crate::env::Env;
use crate::event::Event;
use crate::invariants::LogAction;
use crate::machine::Machine;
use crate::snapshot::Fetch;
use crate::time::{Clock, Time};

/// Messages that are kept for a process that doesn't run. Further ones are lost.
const MAX_INBOX: usize = 2_000;

pub(crate) struct Node {
    pub(crate) slot: usize,
    pub(crate) id: NodeId,
    pub(crate) clock: Clock,
    pub(crate) config: CoreConfig,
    pub(crate) disk: SimDisk,
    pub(crate) engine: Arc<SimEngine>,
    /// The group's initial state; the default on a node that waits to be added.
    pub(crate) bootstrap: SnapshotMeta,
    pub(crate) state: NodeState,
    /// Incremented by each start. Events of an earlier process are void.
    pub(crate) epoch: u64,
    /// Whether no process has run here yet.
    is_new: bool,
    /// Records that the log was given by the last process and did not report as durable.
    under_way: Vec<LogAction>,
    /// The disk was damaged, so the log may refuse to start.
    pub(crate) damaged: bool,
}

pub(crate) enum NodeState {
    Running(Box<Process>),
    /// Stopped by a signal. Time continues, and events for the process wait.
    Paused(Box<Process>, Vec<Event>),
    Down,
    /// The log is corrupt. The node refuses to start and has to be replaced.
    Refused,
}

pub(crate) struct Process {
    pub(crate) core: Box<dyn Consensus>,
    pub(crate) inbox: Inbox,
    pub(crate) log: LogThread,
    pub(crate) machine: Machine,
    queue: VecDeque<Entry>,
    applying: bool,
    pub(crate) role: RoleChange,
    held: VecDeque<WriteRequest>,
    pending: BTreeMap<u64, Waiter>,
    next_request: u64,
    reads: ReadRounds<ReadRequest>,
    readers: BTreeMap<Index, Vec<Reader>>,
    outbox: Outbox,
    pub(crate) published: Published,
    pub(crate) compactor: LogCompactor,
    /// An operator requested compaction at the next turn.
    cut_now: bool,
    pub(crate) views: Views<View, Time>,
    pub(crate) fetch: Option<Fetch>,
    flushing: bool,
    /// The membership before the first configuration entry.
    pub(crate) initial: InitialMembers,
    last_tick: Tick,
    wake_at: Time,
    turn_due: bool,
}

/// State that readers use without asking the driver.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Published {
    pub(crate) commit: Index,
    pub(crate) lease: Option<Tick>,
}

impl Node {
    pub(crate) fn process(&self) -> Option<&Process> {
        match &self.state {
            NodeState::Running(process) | NodeState::Paused(process, _) => Some(process),
            NodeState::Down | NodeState::Refused => None,
        }
    }

    pub(crate) fn process_mut(&mut self) -> Option<&mut Process> {
        match &mut self.state {
            NodeState::Running(process) | NodeState::Paused(process, _) => Some(process),
            NodeState::Down | NodeState::Refused => None,
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        matches!(self.state, NodeState::Running(_))
    }

    /// Returns the event if its process can handle it now. An event for a paused process waits with
    /// it.
    pub(crate) fn admit(&mut self, epoch: u64, event: Event) -> Option<Event> {
        if epoch != self.epoch {
            return None;
        }
        match &mut self.state {
            NodeState::Running(_) => Some(event),
            NodeState::Paused(_, waiting) => {
                waiting.push(event);
                None
            }
            NodeState::Down | NodeState::Refused => None,
        }
    }

    /// A message arrived.
    pub(crate) fn receive(&mut self, env: &mut Env, message: Message) {
        let Some(process) = self.process_mut() else {
            return;
        };
        if process.inbox.messages.len() < MAX_INBOX {
            process.inbox.messages.push(message);
            self.wake(env);
        }
    }

    /// Schedules a turn of the driver.
    pub(crate) fn wake(&mut self, env: &mut Env) {
        let (slot, epoch) = (self.slot, self.epoch);
        if let Some(process) = self.process_mut()
            && !process.turn_due
        {
            process.turn_due = true;
            env.after(1, Event::Turn { slot, epoch });
        }
    }

    /// Passes an event to the driver.
    pub(crate) fn tell(&mut self, env: &mut Env, event: ShellEvent) {
        if let Some(process) = self.process_mut() {
            process.inbox.events.push(event);
            self.wake(env);
        }
    }

    pub(crate) fn now(&self, env: &Env) -> Tick {
        self.clock.tick(env.now)
    }
}
