//! One group's driver: the task that owns the core.
//!
//! It takes everything from its inbox, steps the core with it, and carries out the core's requests
//! in the order of `synod_replica_core::drain`, which safety depends on.

mod proposals;
mod reads;
mod shell;
mod stages;
mod transfers;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use synod_consensus_core::{Consensus, Input, Role, RoleChange};
use synod_log::Log;
use synod_replica_core::{
    Backlog, LogCompactor, Outbox, ReadRounds, Shell as _, StallWatch, brings_entries, drain,
    persisted,
};
use synod_runtime::clock;
use synod_runtime::task::AbortHandle;
use synod_types::{GroupId, NodeId, Tick};

use self::proposals::Held;
use self::shell::Unwritten;
use self::stages::Sampler;
use self::transfers::Transfers;
use crate::apply::ApplyQueue;
use crate::clock::TickClock;
use crate::config::{Compaction, Snapshots};
use crate::error::Fault;
use crate::inbox::{Event, Gathered};
use crate::metrics::Metrics;
use crate::readers::Reader;
use crate::shared::GroupRequests;
use crate::snapshot::SnapshotServer;
use crate::state_machine::StateMachine;
use crate::transport::Transport;

/// The shortest sleep: the resolution of the runtime's timer.
const MIN_SLEEP: Duration = Duration::from_millis(1);
/// The longest sleep. Readers that wait for the apply thread arrive without waking the driver, and
/// have deadlines too.
const MAX_SLEEP: Duration = Duration::from_millis(100);
/// A turn that starts later than this after the previous one shows that the process did not run, or
/// that one turn kept the driver busy. Neither says anything about the log's disk.
const LONGEST_TURN: Duration = Duration::from_millis(500);
/// How old a published status may be while there is work.
const STATUS_INTERVAL: Duration = Duration::from_millis(50);

/// The parts of a driver.
pub(crate) struct Parts<S: StateMachine> {
    pub(crate) node: NodeId,
    pub(crate) group: GroupId,
    pub(crate) core: Box<dyn Consensus>,
    pub(crate) heartbeat: Duration,
    pub(crate) log_stall_timeout: Duration,
    pub(crate) clock: TickClock,
    pub(crate) log: Log,
    pub(crate) transport: Arc<Transport>,
    pub(crate) queue: Arc<ApplyQueue<S>>,
    pub(crate) shared: Arc<GroupRequests<S::Output>>,
    pub(crate) snapshots: Arc<SnapshotServer>,
    pub(crate) snapshot_config: Snapshots,
    pub(crate) compactor: LogCompactor,
    pub(crate) compaction: Compaction,
    pub(crate) metrics: Metrics,
    /// The first number for this node's requests. It is random, so that no number is used twice
    /// (see `RequestId`).
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
    shared: Arc<GroupRequests<S::Output>>,
    snapshots: Arc<SnapshotServer>,
    snapshot_config: Snapshots,
    compactor: LogCompactor,
    compaction: Compaction,
    metrics: Metrics,
    heartbeat: Duration,
    role: RoleChange,
    held: Held<S::Output>,
    reads: ReadRounds<Reader>,
    transfers: Transfers,
    sampler: Sampler,
    next_request: u64,
    outbox: Outbox,
    unwritten: Unwritten,
    stall: StallWatch<Instant, Duration>,
    log_stall_timeout: Duration,
    fetching: Option<AbortHandle>,
    last_tick: Tick,
    status_at: Option<Instant>,
    status_due: bool,
    now: Instant,
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
            compaction: parts.compaction,
            metrics: parts.metrics,
            heartbeat: parts.heartbeat,
            role,
            held: Held::default(),
            reads: ReadRounds::default(),
            transfers: Transfers::default(),
            sampler: Sampler::default(),
            next_request: parts.first_request,
            outbox: Outbox::default(),
            unwritten: Unwritten::new(),
            stall: StallWatch::new(parts.log_stall_timeout, LONGEST_TURN),
            log_stall_timeout: parts.log_stall_timeout,
            fetching: None,
            last_tick: Tick::ZERO,
            status_at: None,
            status_due: false,
            now: clock::now(),
        }
    }

    /// Runs until it is told to stop, or something fails. Dropping the driver, however it ends,
    /// closes everything, and so answers all waiting callers.
    pub(crate) async fn run(mut self) {
        let mut gathered = Gathered::default();
        loop {
            let wake_at = self.wake_at();
            // Biased: work comes first. The timer only matters without work, since every turn reads
            // the clock.
            tokio::select! {
                biased;
                () = self.shared.inbox.arrived() => {}
                () = clock::sleep_until(wake_at) => {}
            }
            self.shared.inbox.take(&mut gathered);
            match self.turn(&mut gathered) {
                Ok(ControlFlow::Continue(())) => {}
                Ok(ControlFlow::Break(())) => return,
                Err(fault) => {
                    tracing::error!(group = %self.group, %fault, "replica stops");
                    self.shared.published.set_lease(None);
                    self.shared.published.set_fault(fault);
                    return;
                }
            }
            // The streams share this thread. Let them send what is queued, and deliver what
            // arrived, before the next turn.
            tokio::task::yield_now().await;
        }
    }

    fn wake_at(&self) -> Instant {
        let core = self
            .clock
            .instant_of(self.core.deadline())
            .clamp(self.now + MIN_SLEEP, self.now + MAX_SLEEP);
        // Proposals that are held although there is a leader wait for room. Nothing wakes the
        // driver when there is room again, so it checks in every turn.
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
        // Deadlines are checked at most once per tick, however many there are.
        let soonest = self.now + crate::clock::TICK;
        let other = others.into_iter().flatten().min().map(|at| at.max(soonest));
        other.map_or(core, |other| other.min(core))
    }

    /// Returns `Break` if the driver was told to stop.
    fn turn(&mut self, gathered: &mut Gathered<S::Output>) -> Result<ControlFlow<()>, Fault> {
        self.now = clock::now();
        self.stall.turn(self.now);
        if let Some(fault) = gathered.fault.take() {
            return Err(fault);
        }
        if gathered.stop {
            return Ok(ControlFlow::Break(()));
        }
        self.completions(gathered)?;
        self.messages(gathered);
        for event in gathered.events.drain(..) {
            self.event(event);
        }
        self.held
            .take(&mut gathered.proposals, &mut gathered.changes);
        self.take_reads(&mut gathered.reads);
        self.transfers.take(&mut gathered.transfers);
        let tick = self.tick();
        if tick > self.last_tick || tick >= self.core.deadline() {
            self.last_tick = tick;
            self.step(Input::Tick);
            self.expire();
            self.leave_if_stalled();
        }
        self.propose();
        self.issue_reads();
        self.start_transfers();
        self.drain()?;
        // A change of role may have made room for held requests.
        if self.propose() + self.issue_reads() > 0 {
            self.drain()?;
        }
        self.compact();
        self.publish_status();
        Ok(ControlFlow::Continue(()))
    }

    fn tick(&self) -> Tick {
        self.clock.tick_at(self.now)
    }

    /// Handles what the log and the apply thread have completed.
    fn completions(&mut self, gathered: &mut Gathered<S::Output>) -> Result<(), Fault> {
        if let Some(seq) = gathered.persisted.take() {
            self.sampler.persisted(seq, self.now, &self.metrics);
            self.stall.persisted(seq, self.now);
            persisted(self, seq)?;
        }
        if let Some(index) = gathered.applied.take() {
            self.step(Input::Applied(index));
        }
        Ok(())
    }

    fn messages(&mut self, gathered: &mut Gathered<S::Output>) {
        gathered.message_bytes = 0;
        if gathered.messages.is_empty() {
            return;
        }
        let overloaded = self.is_overloaded();
        for message in gathered.messages.drain(..) {
            // Entries are refused until this node has caught up. To the leader they look lost.
            if !(overloaded && brings_entries(&message.body)) {
                self.step(Input::Message(message));
            }
        }
    }

    /// Whether the apply thread or the log is so far behind that this node accepts no more entries.
    fn is_overloaded(&self) -> bool {
        let (entries, bytes) = self.queue.backlog();
        let limits = &self.shared.limits;
        let backlog = Backlog {
            entries,
            bytes,
            has_unwritten: !self.unwritten.is_empty(),
            log_has_room: self.log.has_room(),
        };
        backlog.is_overload(
            limits.max_apply_backlog_entries,
            limits.max_apply_backlog_bytes,
        )
    }

    /// With a hanging disk a leader could continue through its followers until its log has no room,
    /// and would then refuse all writes. So it hands over to one of them, and tries again after
    /// each timeout if that didn't help.
    fn leave_if_stalled(&mut self) {
        if self.role.role != Role::Leader || !self.stall.should_leave(self.now) {
            return;
        }
        let to = self.heir();
        if !to.is_some() {
            return;
        }
        self.stall.leaves(self.now);
        tracing::error!(
            group = %self.group, %to, stalled_for_s = self.log_stall_timeout.as_secs_f64(),
            "the log's disk makes no progress; handing the leadership over: check the disk"
        );
        self.step(Input::Transfer { to });
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Unreachable(node) => self.step(Input::Unreachable(node)),
            Event::Gone(node) => self.step(Input::Gone(node)),
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
            Event::Flushed(meta) => self.compactor.persisted(meta),
            Event::Campaign => self.step(Input::Campaign),
        }
    }

    /// Answers callers whose deadline has passed.
    fn expire(&mut self) {
        self.expire_proposals();
        self.expire_reads();
        self.transfers.expire(self.now);
        self.shared.readers.expire(self.now);
        self.snapshots.expire(self.now);
    }

    /// Carries out everything that the core requests.
    fn drain(&mut self) -> Result<(), Fault> {
        self.write_queued()?;
        drain(self)
    }

    fn compact(&mut self) {
        let applied = self.shared.published.applied();
        let pinned = || self.snapshots.oldest();
        let bounds = self.compaction.bounds();
        if let Some(index) = self.compactor.due(&bounds, applied, pinned) {
            // The core only compacts entries that it knows to be applied.
            self.step(Input::Applied(applied));
            self.step(Input::Compact(index));
        }
        if let Some(start) = self.compactor.releasable()
            && let Err(error) = self.log.release(self.group, start)
        {
            // A log that has failed reports that itself.
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
