//! The pod's state: the machine, its place in the log, and the commands that are not in it yet.

use parking_lot::Mutex;
use synod_coordination_core::{
    Batch, BatchOutOfOrder, Command, DecodeError, Kind, LogNumber, LogReader, Machine, Missing,
    Outbox, OutboxLimits, PodId, Refused, SessionId, Start,
};
use tokio::sync::Notify;

/// The pod's state.
#[derive(Debug)]
pub(crate) struct Hub {
    state: Mutex<State>,
    waiting: Notify,
}

#[derive(Debug)]
struct State {
    machine: Machine,
    reader: LogReader,
    outbox: Outbox,
    /// The number of the last of this pod's commands that was executed.
    executed: u64,
    touched: Vec<SessionId>,
}

/// What a batch did to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionChange {
    /// It was opened, or attached with another timeout.
    Opened {
        /// The session.
        session: SessionId,
        /// Its timeout.
        timeout_ms: u32,
    },
    /// It was closed.
    Closed {
        /// The session.
        session: SessionId,
    },
}

/// Why a batch was not applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ApplyError {
    /// Earlier batches are missing.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// It can't be decoded.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Its transactions were applied already.
    #[error(transparent)]
    OutOfOrder(#[from] BatchOutOfOrder),
}

impl Hub {
    /// The state before the log's first batch.
    pub(crate) fn new(pod: PodId, seed: u64, limits: OutboxLimits) -> Self {
        let state = State {
            machine: Machine::new(seed),
            reader: LogReader::new(LogNumber::default()),
            outbox: Outbox::new(pod, limits),
            executed: 0,
            touched: Vec::new(),
        };
        let waiting = Notify::new();
        waiting.notify_one();
        Self {
            state: Mutex::new(state),
            waiting,
        }
    }

    /// The last batch that was applied.
    pub(crate) fn applied(&self) -> LogNumber {
        self.state.lock().reader.applied()
    }

    /// Where a new sequencer begins.
    pub(crate) fn start(&self) -> Start {
        let state = self.state.lock();
        Start {
            applied: state.reader.applied(),
            last: state.machine.last_zxid(),
            time_ms: state.machine.time_ms(),
            pods: state.machine.pods().collect(),
        }
    }

    /// The sessions and their timeouts in milliseconds.
    pub(crate) fn sessions(&self) -> Vec<(SessionId, u32)> {
        let state = self.state.lock();
        let sessions = state.machine.sessions();
        sessions.map(|info| (info.id, info.timeout_ms)).collect()
    }

    /// Applies a batch if it is the next one.
    pub(crate) fn apply(
        &self,
        number: LogNumber,
        batch: &[u8],
    ) -> Result<Vec<SessionChange>, ApplyError> {
        let mut state = self.state.lock();
        if number <= state.reader.applied() {
            return Ok(Vec::new());
        }
        let batch = Batch::decode(batch)?;
        state.reader.take(number)?;
        let applied = state.machine.apply_batch(&batch)?;
        let mut changes = Vec::new();
        for (command, applied) in batch.commands.iter().zip(applied) {
            let unexecuted = matches!(
                applied.reply,
                Err(Refused::Duplicate | Refused::Gap { .. } | Refused::UnknownPod(_))
            );
            if let Some(origin) = command.origin
                && origin.pod == state.outbox.pod()
                && !unexecuted
            {
                state.execute_to(origin.number);
            }
            let session = command.session;
            match command.kind {
                Kind::CreateSession { timeout_ms, .. } | Kind::AttachSession { timeout_ms, .. }
                    if applied.reply.is_ok() =>
                {
                    changes.push(SessionChange::Opened {
                        session,
                        timeout_ms,
                    });
                }
                Kind::CloseSession if !unexecuted => {
                    changes.push(SessionChange::Closed { session });
                }
                Kind::CreateSession { .. }
                | Kind::AttachSession { .. }
                | Kind::CloseSession
                | Kind::Write(_)
                | Kind::Multi(_)
                | Kind::Reap { .. }
                | Kind::SetConfig { .. }
                | Kind::RegisterPod
                | Kind::ForgetPod { .. }
                | Kind::Nothing => {}
            }
        }
        Ok(changes)
    }

    /// The next commands for the sequencer, at most so many.
    pub(crate) fn take_commands(&self, most: usize) -> Vec<Command> {
        self.state.lock().outbox.send(most).cloned().collect()
    }

    /// Waits until there may be commands to take.
    pub(crate) async fn commands_waiting(&self) {
        self.waiting.notified().await;
    }

    /// All commands are to be taken again.
    pub(crate) fn restart_outbox(&self) {
        self.state.lock().outbox.restart();
        self.waiting.notify_one();
    }

    /// The commands from this number on are to be taken again.
    pub(crate) fn resend_from(&self, number: u64) {
        self.state.lock().outbox.resend_from(number);
        self.waiting.notify_one();
    }

    /// The sessions whose clients showed life since the last call.
    pub(crate) fn take_touched(&self) -> Vec<SessionId> {
        std::mem::take(&mut self.state.lock().touched)
    }

    /// The nodes that are to be reaped.
    pub(crate) fn due(&self, time_ms: i64, most: usize) -> Vec<String> {
        self.state.lock().machine.due(time_ms, most)
    }

    /// Calls a function with the machine, between two batches.
    pub(crate) fn with_machine<T>(&self, f: impl FnOnce(&mut Machine) -> T) -> T {
        f(&mut self.state.lock().machine)
    }

    /// Goes on from a checkpoint.
    pub(crate) fn replace(&self, machine: Machine, applied: LogNumber) {
        let mut state = self.state.lock();
        state.machine = machine;
        state.reader = LogReader::new(applied);
        // Commands of this pod that the checkpoint contains. Their replies are unknown.
        let pod = state.outbox.pod();
        let own = state.machine.pods().find(|&(other, _)| other == pod);
        if let Some((_, number)) = own {
            state.execute_to(number);
        }
    }
}

impl State {
    /// The pod's commands up to this number are executed.
    fn execute_to(&mut self, number: u64) {
        for number in self.executed + 1..=number {
            self.outbox.executed(number);
            self.executed = number;
        }
    }
}

#[cfg(test)]
impl Hub {
    /// Adds a command.
    pub(crate) fn push(&self, session: SessionId, kind: Kind) {
        let command = Command {
            origin: None,
            session,
            caller: Vec::new(),
            kind,
        };
        self.state.lock().outbox.push(command).unwrap();
        self.waiting.notify_one();
    }

    /// How many commands are not executed.
    pub(crate) fn unexecuted(&self) -> usize {
        self.state.lock().outbox.len()
    }

    /// A client shows life.
    pub(crate) fn touch(&self, session: SessionId) {
        self.state.lock().touched.push(session);
    }
}
