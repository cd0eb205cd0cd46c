//! What a pod knows: the state machine, its clients' connections and their watches, behind one
//! lock.
//!
//! Everything that a connection receives is written under the lock, in the order in which it
//! happens: a command's events, then its reply. So a client learns of a change before it can read
//! it, and the order of events and replies is ZooKeeper's.

mod apply;
mod attaching;
mod client;
mod connection;
mod inbox;
mod outgoing;
mod reads;
mod requests;
mod statistics;
mod syncs;
mod touches;
mod views;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;
use synod_coordination_core::{
    Command, ConnectionId, Id, LogNumber, LogReader, Machine, Outbox, OutboxLimits, PodId,
    SessionId, SessionInfo, Start, Watches, Zxid,
};
use synod_runtime::random;
use tokio::sync::Notify;

use crate::convert::Offered;

pub(crate) use apply::{ApplyError, SessionChange};
pub(crate) use client::{
    CallError, Client, ConnectError, MAX_DIGEST_BYTES, MAX_DIGESTS, Opened, Reader, Sign, Standing,
    View,
};
use connection::Connection;
pub(crate) use connection::Peer;
pub(crate) use outgoing::{Outgoing, Unsent};
pub(crate) use requests::Closed;
use statistics::Totals;
use syncs::Syncs;
use touches::Rounds;
pub(crate) use views::{ConnectionView, Listed};

/// The watches of all clients of a pod.
const MAX_WATCHES: usize = 10_000_000;

/// What a pod knows, shared by its tasks.
pub(crate) struct Hub {
    state: Mutex<State>,
    /// Commands wait to be sent to the sequencer.
    commands: Arc<Notify>,
    /// Clients wait for a read of the log's end.
    syncs: Notify,
    /// A batch was applied, the log's end was read, or the pod began or ceased to serve.
    progress: Notify,
}

struct State {
    machine: Machine,
    reader: LogReader,
    outbox: Outbox,
    limits: OutboxLimits,
    watches: Watches,
    connections: HashMap<ConnectionId, Connection>,
    last_connection: u32,
    /// The connection of each session that is connected to this pod.
    sessions: HashMap<SessionId, ConnectionId>,
    /// Who waits for the pod's command of this number.
    waiting: HashMap<u64, ConnectionId>,
    /// Sessions whose clients have shown life.
    touched: HashSet<SessionId>,
    rounds: Rounds,
    syncs: Syncs,
    commands: Arc<Notify>,
    has_caught_up: bool,
    /// Whether the pod is in contact with the log, so that it may answer clients.
    is_serving: bool,
    /// The identity of who may do everything.
    super_user: Option<Id>,
    /// How clients can show who they are, so that it can stand in access control lists.
    offered: Offered,
    totals: Totals,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").finish_non_exhaustive()
    }
}

/// Numbers of a pod for operators.
pub(crate) struct Facts {
    pub(crate) last: Zxid,
    pub(crate) connections: usize,
    pub(crate) nodes: usize,
    pub(crate) sessions: usize,
    /// Nodes that end with their sessions.
    pub(crate) ephemerals: usize,
    pub(crate) watches: usize,
    /// Commands that are not executed yet.
    pub(crate) waiting: usize,
}

impl Hub {
    /// A pod before the first batch, under an id that no other has. It serves nobody yet.
    pub(crate) fn new(limits: OutboxLimits, super_user: Option<Id>) -> Self {
        let commands = Arc::new(Notify::new());
        // The pod's registration.
        commands.notify_one();
        Self {
            state: Mutex::new(State {
                machine: Machine::new(random::seed()),
                reader: LogReader::new(LogNumber::default()),
                outbox: Outbox::new(new_pod(), Zxid::default(), limits),
                limits,
                watches: Watches::new(MAX_WATCHES, random::seed()),
                connections: HashMap::new(),
                last_connection: 0,
                sessions: HashMap::new(),
                waiting: HashMap::new(),
                touched: HashSet::new(),
                rounds: Rounds::default(),
                syncs: Syncs::default(),
                commands: Arc::clone(&commands),
                has_caught_up: false,
                is_serving: false,
                super_user,
                offered: Offered::default(),
                totals: Totals::default(),
            }),
            commands,
            syncs: Notify::new(),
            progress: Notify::new(),
        }
    }

    /// By these schemes, too, clients can show who they are from now on.
    pub(crate) fn offer(&self, schemes: Offered) {
        self.state.lock().offered = schemes;
    }

    /// The id under which the pod sends commands.
    pub(crate) fn pod(&self) -> PodId {
        self.state.lock().outbox.pod()
    }

    /// The last batch that was applied.
    pub(crate) fn applied(&self) -> LogNumber {
        self.state.lock().reader.applied()
    }

    /// Where a sequencer on this pod would begin. `applied_ms` is [`Start::applied_ms`].
    pub(crate) fn start(&self, applied_ms: Option<u64>) -> Start {
        let state = self.state.lock();
        Start {
            applied: state.reader.applied(),
            last: state.machine.last_zxid(),
            time_ms: state.machine.time_ms(),
            applied_ms,
            pods: state.machine.pods().collect(),
            forgotten: state.machine.last_forgotten(),
        }
    }

    /// All sessions.
    pub(crate) fn sessions(&self) -> Vec<SessionInfo> {
        self.state.lock().machine.sessions().collect()
    }

    /// The pod has followed the log to its end for the first time: it may register.
    pub(crate) fn caught_up(&self) {
        let mut state = self.state.lock();
        if !state.has_caught_up {
            state.has_caught_up = true;
            let seen = state.machine.last_zxid();
            state.outbox.set_seen(seen);
            state.commands.notify_one();
        }
    }

    /// The next commands for the sequencer, at most so many.
    pub(crate) fn take_commands(&self, most: usize) -> Vec<Command> {
        let mut state = self.state.lock();
        match state.has_caught_up {
            true => state.outbox.send(most).cloned().collect(),
            false => Vec::new(),
        }
    }

    /// Resolves when there may be commands to take.
    ///
    /// # Cancel safety
    /// Safe to drop.
    pub(crate) async fn commands_waiting(&self) {
        self.commands.notified().await;
    }

    /// All commands are to be taken again: there is another sequencer.
    pub(crate) fn restart_outbox(&self) {
        self.state.lock().outbox.restart();
        self.commands.notify_one();
    }

    /// Commands from this number on are to be taken again.
    pub(crate) fn resend_from(&self, number: u64) {
        self.state.lock().outbox.resend_from(number);
        self.commands.notify_one();
    }

    /// The log does not know the pod by this id any more: it goes on under a new one.
    pub(crate) fn renew(&self, pod: PodId) {
        let mut state = self.state.lock();
        if state.outbox.pod() == pod {
            state.renew();
        }
        drop(state);
        self.progress.notify_waiters();
    }

    /// Registered pods that have done nothing for long, each with the number of its last command.
    pub(crate) fn idle_pods(&self, time_ms: i64) -> Vec<(PodId, u64)> {
        self.state.lock().machine.idle_pods(time_ms).collect()
    }

    /// The paths of nodes to reap.
    pub(crate) fn due(&self, time_ms: i64, most: usize) -> Vec<String> {
        self.state.lock().machine.due(time_ms, most)
    }

    /// Runs a function on the machine, for checkpoints. It must not apply commands.
    pub(crate) fn with_machine<T>(&self, run: impl FnOnce(&mut Machine) -> T) -> T {
        run(&mut self.state.lock().machine)
    }

    /// Whether the pod is in contact with the log. If not, it closes its connections and takes no
    /// others: its clients go to another pod.
    pub(crate) fn serve(&self, is_serving: bool) {
        let mut state = self.state.lock();
        if state.is_serving != is_serving {
            state.is_serving = is_serving;
            tracing::info!(is_serving, "serving clients");
            if !is_serving {
                state.close_all();
            }
            drop(state);
            self.progress.notify_waiters();
        }
    }

    /// Whether the pod answers clients.
    pub(crate) fn is_serving(&self) -> bool {
        self.state.lock().is_serving
    }

    /// Closes so many connections. Returns whether there were any.
    pub(crate) fn close_some(&self, most: usize) -> bool {
        let mut state = self.state.lock();
        let some: Vec<ConnectionId> = state.connections.keys().copied().take(most).collect();
        for id in &some {
            state.close(*id);
        }
        drop(state);
        self.progress.notify_waiters();
        !some.is_empty()
    }

    /// Numbers for operators.
    pub(crate) fn facts(&self) -> Facts {
        let state = self.state.lock();
        let sessions = state.machine.sessions();
        Facts {
            last: state.machine.last_zxid(),
            connections: state.connections.len(),
            nodes: state.machine.node_count(),
            sessions: state.machine.session_count(),
            ephemerals: sessions.map(|info| info.ephemerals).sum(),
            watches: state.watches.count(),
            waiting: state.outbox.len(),
        }
    }
}

impl State {
    /// Replies to the commands of the former id are unknown, so all connections end.
    fn renew(&mut self) {
        self.close_all();
        self.waiting.clear();
        self.outbox = Outbox::new(new_pod(), self.machine.last_zxid(), self.limits);
        tracing::warn!(pod = %self.outbox.pod(), "the log has forgotten this pod, which goes on under a new id");
        self.commands.notify_one();
    }

    fn close_all(&mut self) {
        let all: Vec<ConnectionId> = self.connections.keys().copied().collect();
        for id in all {
            self.close(id);
        }
    }
}

fn new_pod() -> PodId {
    PodId::new(random::u64().max(1))
}

#[cfg(test)]
impl Hub {
    /// Adds a command.
    pub(crate) fn push(&self, session: SessionId, kind: synod_coordination_core::Kind) {
        let command = Command {
            origin: None,
            session,
            caller: Vec::new(),
            kind,
        };
        self.state.lock().outbox.push(command).unwrap();
        self.commands.notify_one();
    }

    /// A client shows life.
    pub(crate) fn touch(&self, session: SessionId) {
        self.state.lock().touched.insert(session);
    }

    /// How many commands are not executed.
    pub(crate) fn unexecuted(&self) -> usize {
        self.state.lock().outbox.len()
    }
}

#[cfg(test)]
mod tests;
