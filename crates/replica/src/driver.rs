//! One group's driver: the task that owns the core.
//!
//! It takes whatever has gathered in its inbox, steps the core with all of it, and then does what the core says. The order
//! in [`Driver::carry_out`] is what safety rests on:
//! 1. publish commit index and lease, before anything that reveals them leaves;
//! 2. hand the writes to the log;
//! 3. queue the messages that need no disk for the peers (they leave while the log syncs);
//! 4. hold back the messages that vouch for the writes, until the log says that they are durable;
//! 5. hand committed entries to the apply thread;
//! 6. answer reads, dropped proposals, role changes.

mod compaction;
mod outgoing;
mod proposals;
mod reads;
mod stages;
mod transfers;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use synod_consensus_core::{Body, Consensus, Input, Message, Ready, Role, RoleChange, Write};
use synod_log::Log;
use synod_runtime::clock;
use synod_runtime::task::{self, AbortHandle};
use synod_types::{GroupId, NodeId, Tick, WriteSeq};

pub(crate) use self::compaction::Compactor;
use self::proposals::Held;
use self::reads::Reads;
use self::stages::Sampler;
use self::transfers::Transfers;
use crate::apply::ApplyQueue;
use crate::clock::TickClock;
use crate::config::Snapshots;
use crate::error::Fault;
use crate::inbox::{Event, Gathered};
use crate::metrics::Metrics;
use crate::shared::Shared;
use crate::snapshot::{Fetch, SnapshotServer};
use crate::state_machine::StateMachine;
use crate::transport::Transport;

/// The shortest sleep: what the runtime's timer can tell apart.
const MIN_SLEEP: Duration = Duration::from_millis(1);
/// The longest sleep: readers that wait for the apply thread come without waking the driver, and have deadlines too.
const MAX_SLEEP: Duration = Duration::from_millis(100);
/// How old a published status may be while there is work.
const STATUS_INTERVAL: Duration = Duration::from_millis(50);

/// What a driver is made of.
pub(crate) struct Parts<S: StateMachine> {
    pub(crate) node: NodeId,
    pub(crate) group: GroupId,
    pub(crate) core: Box<dyn Consensus>,
    pub(crate) heartbeat: Duration,
    pub(crate) clock: TickClock,
    pub(crate) log: Log,
    pub(crate) transport: Arc<Transport>,
    pub(crate) queue: Arc<ApplyQueue<S>>,
    pub(crate) shared: Arc<Shared<S::Output>>,
    pub(crate) snapshots: Arc<SnapshotServer>,
    pub(crate) snapshot_config: Snapshots,
    pub(crate) compactor: Compactor,
    pub(crate) metrics: Metrics,
    /// Where the numbers of this node's requests begin: random, so that none is used twice (see `RequestId`).
    pub(crate) first_request: u64,
}

pub(crate) struct Driver<S: StateMachine> {
    node: NodeId,
    group: GroupId,
    core: Box<dyn Consensus>,
    clock: TickClock,
    log: Log,
    transport: Arc<Transport>,
    queue: Arc<ApplyQueue<S>>,
    shared: Arc<Shared<S::Output>>,
    snapshots: Arc<SnapshotServer>,
    snapshot_config: Snapshots,
    compactor: Compactor,
    metrics: Metrics,
    role: RoleChange,
    held: Held<S::Output>,
    reads: Reads,
    transfers: Transfers,
    sampler: Sampler,
    next_request: u64,
    /// Messages that wait for the log, oldest first. Bounded by the core: one acknowledgement a Ready.
    unsent: VecDeque<(WriteSeq, Vec<Message>)>,
    persisted: WriteSeq,
    /// Writes that the log had no room for, oldest first: they go before any others.
    unwritten: VecDeque<(WriteSeq, Vec<Write>)>,
    fetching: Option<AbortHandle>,
    last_tick: Tick,
    status_at: Option<Instant>,
    status_due: bool,
    now: Instant,
}

/// The driver's verdict after each turn.
enum Turn {
    GoOn,
    Stop,
    Fail(Fault),
}

impl<S: StateMachine> Driver<S> {
    pub(crate) fn new(parts: Parts<S>) -> Self {
        let status = parts.core.status();
        let role = RoleChange {
            role: status.role,
            leader: status.leader,
            ballot: status.ballot,
        };
        Self {
            node: parts.node,
            group: parts.group,
            core: parts.core,
            clock: parts.clock,
            log: parts.log,
            transport: parts.transport,
            queue: parts.queue,
            shared: parts.shared,
            snapshots: parts.snapshots,
            snapshot_config: parts.snapshot_config,
            compactor: parts.compactor,
            metrics: parts.metrics,
            role,
            held: Held::default(),
            reads: Reads::new(parts.heartbeat),
            transfers: Transfers::default(),
            sampler: Sampler::default(),
            next_request: parts.first_request,
            unsent: VecDeque::new(),
            persisted: WriteSeq::ZERO,
            unwritten: VecDeque::new(),
            fetching: None,
            last_tick: Tick::ZERO,
            status_at: None,
            status_due: false,
            now: clock::now(),
        }
    }

    /// Runs until it is told to stop, or something fails. Whoever waits then gets an answer: dropping the driver,
    /// however it ends, closes everything.
    pub(crate) async fn run(mut self) {
        let mut gathered = Gathered::default();
        loop {
            let wake_at = self.wake_at();
            // Biased: work first; the timer only matters where there is none, since every turn looks at the clock.
            tokio::select! {
                biased;
                () = self.shared.inbox.arrived() => {}
                () = clock::sleep_until(wake_at) => {}
            }
            self.shared.inbox.take(&mut gathered);
            match self.turn(&mut gathered) {
                Turn::GoOn => {}
                Turn::Stop => return,
                Turn::Fail(fault) => {
                    tracing::error!(group = %self.group, %fault, "replica stops");
                    self.shared.published.set_lease(None);
                    self.shared.published.set_fault(fault);
                    return;
                }
            }
            // The streams share this thread: they send what was queued and bring what came, before the next turn.
            tokio::task::yield_now().await;
        }
    }

    fn wake_at(&self) -> Instant {
        let core = self
            .clock
            .instant_of(self.core.deadline())
            .clamp(self.now + MIN_SLEEP, self.now + MAX_SLEEP);
        // What is held although there is a leader waits for room, which makes no noise.
        let room =
            (self.role.leader.is_some() && self.held.deadline().is_some()).then_some(self.now);
        let others = [
            room,
            self.held.deadline(),
            self.reads.deadline(),
            self.transfers.deadline(),
            self.shared.pending.earliest(),
            self.shared.readers.earliest(),
        ];
        // Deadlines are looked at once a tick, however many there are.
        let soonest = self.now + crate::clock::TICK;
        let other = others.into_iter().flatten().min().map(|at| at.max(soonest));
        other.map_or(core, |other| other.min(core))
    }

    fn turn(&mut self, gathered: &mut Gathered<S::Output>) -> Turn {
        self.now = clock::now();
        if let Some(fault) = gathered.fault.take() {
            return Turn::Fail(fault);
        }
        if gathered.stop {
            return Turn::Stop;
        }
        self.completions(gathered);
        self.messages(gathered);
        for event in gathered.events.drain(..) {
            self.event(event);
        }
        self.held
            .take(&mut gathered.proposals, &mut gathered.changes);
        self.reads.take(&mut gathered.reads);
        self.transfers.take(&mut gathered.transfers);
        let tick = self.tick();
        if tick > self.last_tick || tick >= self.core.deadline() {
            self.last_tick = tick;
            self.step(Input::Tick);
            self.expire();
        }
        self.propose();
        self.issue_reads();
        self.start_transfers();
        if let Err(fault) = self.drain() {
            return Turn::Fail(fault);
        }
        // A change of role may have made room for what is held.
        if self.propose() + self.issue_reads() > 0
            && let Err(fault) = self.drain()
        {
            return Turn::Fail(fault);
        }
        self.compact();
        self.publish_status();
        Turn::GoOn
    }

    fn tick(&self) -> Tick {
        self.clock.tick_at(self.now)
    }

    /// Steps an input whose refusal needs no answer: it had no effect.
    fn step(&mut self, input: Input) {
        let tick = self.tick();
        if let Err(rejected) = self.core.step(tick, input) {
            tracing::debug!(group = %self.group, %rejected, "the core refused an input");
        }
    }

    /// What the log and the apply thread have done.
    fn completions(&mut self, gathered: &mut Gathered<S::Output>) {
        if let Some(seq) = gathered.persisted.take() {
            self.persisted = self.persisted.max(seq);
            self.step(Input::Persisted(seq));
            self.sampler.persisted(seq, self.now, &self.metrics);
            self.send_durable();
        }
        if let Some(index) = gathered.applied.take() {
            self.step(Input::Applied(index));
        }
    }

    fn messages(&mut self, gathered: &mut Gathered<S::Output>) {
        gathered.message_bytes = 0;
        if gathered.messages.is_empty() {
            return;
        }
        let overloaded = self.is_overloaded();
        for message in gathered.messages.drain(..) {
            // The apply thread is behind: entries are refused until it has caught up. To the leader they got lost.
            if !(overloaded && brings_entries(&message.body)) {
                self.step(Input::Message(message));
            }
        }
    }

    fn is_overloaded(&self) -> bool {
        let (entries, bytes) = self.queue.backlog();
        let limits = &self.shared.limits;
        entries > limits.max_apply_backlog_entries || bytes > limits.max_apply_backlog_bytes
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Unreachable(node) => self.step(Input::Unreachable(node)),
            Event::Installed(meta) => {
                self.fetching = None;
                self.compactor.installed(meta.last.index);
                self.step(Input::SnapshotInstalled(meta));
            }
            Event::InstallFailed => {
                self.fetching = None;
                self.step(Input::SnapshotFailed);
            }
            Event::SnapshotSent { to, ok } => self.step(Input::SnapshotSent { to, ok }),
            Event::Engine(meta) => self.compactor.persisted(meta),
            Event::Campaign => self.step(Input::Campaign),
        }
    }

    /// Answers whoever waited for too long.
    fn expire(&mut self) {
        self.expire_proposals();
        self.expire_reads();
        self.transfers.expire(self.now);
        self.shared.readers.expire(self.now);
        self.snapshots.expire(self.now);
    }

    /// Does all that the core wants done.
    fn drain(&mut self) -> Result<(), Fault> {
        self.write(None)?;
        while let Some(ready) = self.core.ready() {
            self.carry_out(ready)?;
        }
        // The lease moves with heartbeats, which may leave nothing else to do.
        self.publish_lease();
        Ok(())
    }

    /// The order that the module's documentation gives.
    fn carry_out(&mut self, ready: Ready) -> Result<(), Fault> {
        self.publish_lease();
        let commit = self.core.commit();
        self.shared.published.set_commit(commit);
        self.sampler.written(&ready.writes, ready.seq);
        if !ready.writes.is_empty() {
            self.write(Some((ready.seq, ready.writes)))?;
        }
        for message in ready.messages {
            self.send(message);
        }
        if !ready.messages_after_persist.is_empty() {
            self.unsent
                .push_back((ready.seq, ready.messages_after_persist));
            self.send_durable();
        }
        if !ready.committed.is_empty() {
            self.metrics.committed(commit);
            self.compactor.committed(&ready.committed);
            self.sampler
                .committed(commit, self.now, &self.shared, &self.metrics);
            self.queue.push_entries(ready.committed);
        }
        if let Some(role) = ready.role {
            self.role_changed(role);
        }
        self.answer_reads(ready.reads, ready.failed_reads);
        self.dropped(ready.dropped);
        if let Some(install) = ready.install {
            let fetch = Fetch {
                group: self.group,
                config: self.snapshot_config.clone(),
                transport: Arc::clone(&self.transport),
                queue: Arc::clone(&self.queue),
                shared: Arc::clone(&self.shared),
                metrics: self.metrics.clone(),
            };
            // Reports its end to the inbox. Aborted with the driver.
            let task = task::spawn("synod-snapshot-fetch", fetch.run(*install));
            self.fetching = Some(task.abort_handle());
        }
        Ok(())
    }

    fn publish_lease(&self) {
        self.shared.published.set_lease(self.core.lease_until());
    }

    fn role_changed(&mut self, role: RoleChange) {
        let changed = self.role.leader != role.leader;
        self.role = role;
        self.status_due = true;
        let leads = role.role == Role::Leader;
        self.metrics.leadership(role.leader, leads, changed);
        self.transfers.leader_is(role.leader);
        if changed {
            tracing::info!(group = %self.group, leader = ?role.leader, ballot = %role.ballot, "leader changed");
            self.sampler.forget();
        }
    }

    fn compact(&mut self) {
        let applied = self.shared.published.applied();
        let pinned = || self.snapshots.oldest();
        if let Some(index) = self.compactor.due(applied, pinned) {
            // The core only forgets what it knows to be applied.
            self.step(Input::Applied(applied));
            self.step(Input::Compact(index));
        }
        if let Some(start) = self.compactor.releasable()
            && let Err(error) = self.log.release(self.group, start)
        {
            // A dead log reports itself.
            tracing::debug!(%error, "cannot release a part of the log");
        }
    }

    fn publish_status(&mut self) {
        let is_old = self
            .status_at
            .is_none_or(|at| self.now.saturating_duration_since(at) >= STATUS_INTERVAL);
        if self.status_due || is_old {
            self.status_due = false;
            self.status_at = Some(self.now);
            self.metrics.pending(self.shared.load.proposals());
            self.shared.published.set_status(self.core.status());
        }
    }
}

/// Whether a follower would get more to apply by it. What a candidate is told of slots is not refused: without a leader the
/// backlog only shrinks.
fn brings_entries(body: &Body) -> bool {
    match body {
        Body::Append { entries, .. } | Body::Accept { entries, .. } => !entries.is_empty(),
        Body::PreVote { .. }
        | Body::PreVoteReply { .. }
        | Body::Vote { .. }
        | Body::VoteReply { .. }
        | Body::AppendReply { .. }
        | Body::Commit { .. }
        | Body::Heartbeat { .. }
        | Body::HeartbeatReply { .. }
        | Body::Snapshot { .. }
        | Body::TimeoutNow { .. }
        | Body::Prepare { .. }
        | Body::Promise { .. }
        | Body::Nack
        | Body::Accepted { .. }
        | Body::Gap { .. }
        | Body::Forward { .. }
        | Body::ForwardChange { .. }
        | Body::ForwardRejected { .. }
        | Body::ReadIndex { .. }
        | Body::ReadIndexReply { .. } => false,
    }
}

impl<S: StateMachine> Drop for Driver<S> {
    fn drop(&mut self) {
        if let Some(fetching) = self.fetching.take() {
            fetching.abort();
        }
        self.shared.published.set_lease(None);
        if std::thread::panicking() {
            self.shared
                .published
                .set_fault(Fault::Internal("the driver panicked".to_owned()));
        }
        self.close();
        self.queue.stop();
    }
}
