//! One leadership: the sequencer, and what it appends.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use synod_coordination_core::{
    Command, Expired, Kind, Outcome, PodId, Sequencer, SessionId, Unsequenced,
};
use synod_runtime::shutdown::Shutdown;
use synod_runtime::{clock, random};
use tokio::sync::mpsc;

use super::{Answer, Ended, Forwarded, Sequencing, Taken};
use crate::applying::Applier;
use crate::endpoint::{Endpoint, EndpointError, Epoch};

/// How many commands of this pod are taken at a time.
const OWN_COMMANDS: usize = 256;

/// How often expired sessions are looked for.
const EXPIRY_EVERY: Duration = Duration::from_millis(100);

/// How often nodes are looked for that are due, in units of [`EXPIRY_EVERY`].
const REAP_EVERY_TICKS: u32 = 10;

/// How often pods are looked for that are gone, in units of [`EXPIRY_EVERY`].
const FORGET_EVERY_TICKS: u32 = 600;

/// A pod that has not called for this long is gone.
const CALLS_WITHIN: Duration = Duration::from_secs(60);

/// How many nodes are reaped at a time.
const REAPED_NODES: usize = 1024;

/// The pause before a read, at most, while outcomes are unknown; half of it at least.
const READ_AFTER: Duration = Duration::from_millis(200);

/// How long a pod that stops waits for the outcome of its last append.
const SETTLE_WITHIN: Duration = Duration::from_secs(2);

type InFlight = Pin<Box<dyn Future<Output = Result<Outcome, EndpointError>> + Send>>;

/// The sequencer, and what it appends.
pub(super) struct Leading<'a> {
    endpoint: Endpoint,
    applier: &'a Applier,
    epoch: Epoch,
    sequencer: Sequencer,
    /// The action that is being executed.
    in_flight: Option<InFlight>,
    /// Whether the last outcome was unknown.
    is_unknown: bool,
    /// Whether the sequencer has refused a command for lack of room since the last tick or batch.
    is_full: bool,
    /// Sessions that expired and whose end the sequencer has not taken yet.
    expired: VecDeque<Expired>,
    /// When other pods called last.
    callers: HashMap<PodId, Instant>,
    ticks: u32,
}

impl<'a> Leading<'a> {
    /// Starts after the whole log was applied.
    pub(super) fn start(sequencing: &'a Sequencing, epoch: Epoch) -> Self {
        let applier = &*sequencing.applier;
        applier.start_timers();
        // Nobody knows which commands the last sequencer has taken.
        applier.hub().restart_outbox();
        Self {
            endpoint: sequencing.endpoint.clone(),
            applier,
            epoch,
            sequencer: Sequencer::new(applier.start(), sequencing.sequencer),
            in_flight: None,
            is_unknown: false,
            is_full: false,
            expired: VecDeque::new(),
            callers: HashMap::new(),
            ticks: 0,
        }
    }

    /// Orders and appends commands until the leadership ends.
    pub(super) async fn run(
        &mut self,
        forwarded: &mut mpsc::Receiver<Forwarded>,
        stop: &Shutdown,
    ) -> Ended {
        let mut tick = clock::now() + EXPIRY_EVERY;
        loop {
            self.take_own();
            self.start_action();
            if let Some(stopped) = self.sequencer.stopped() {
                return Ended::Sequencer(stopped);
            }
            tokio::select! {
                // Stopping and the log come before new commands, and the clock before both kinds:
                // commands without end must not keep sessions from expiring.
                biased;
                () = stop.triggered() => return self.settle_last().await,
                outcome = outcome(&mut self.in_flight) => {
                    if let Err(ended) = self.settle(outcome) {
                        return ended;
                    }
                }
                () = clock::sleep_until(tick) => {
                    self.tick(forwarded);
                    tick = clock::now() + EXPIRY_EVERY;
                }
                Some(commands) = forwarded.recv(), if !self.is_full => self.take(commands),
                () = self.applier.hub().commands_waiting(), if !self.is_full => {}
            }
        }
    }

    /// Takes the commands of this pod.
    fn take_own(&mut self) {
        let hub = self.applier.hub();
        while !self.is_full {
            let pod = hub.pod();
            let commands = hub.take_commands(OWN_COMMANDS);
            if commands.is_empty() {
                break;
            }
            match self.submit_all(commands) {
                Taken::All => {}
                // They are taken later: the hub wakes this task up, or the next outcome does.
                Taken::Before(number) => {
                    hub.resend_from(number);
                    break;
                }
                Taken::Unregistered => {
                    hub.renew(pod);
                    // Not at once: the command that forgot the pod may not be appended yet.
                    self.is_full = true;
                }
                // The caller looks why.
                Taken::NotLeading => break,
            }
        }
    }

    /// Takes commands and touches of another pod.
    fn take(&mut self, forwarded: Forwarded) {
        let late = self.applier.touch(forwarded.touched);
        self.callers.insert(forwarded.pod, clock::now());
        let taken = self.submit_all(forwarded.commands);
        // A pod that is gone needs no answer.
        let _ = forwarded.answer.send(Answer { taken, late });
    }

    fn submit_all(&mut self, commands: Vec<Command>) -> Taken {
        for command in commands {
            let number = command.origin.map_or(0, |origin| origin.number);
            match self.sequencer.submit(command) {
                Ok(()) => {}
                // There is room after the next batch, or when a pod was forgotten.
                Err(Unsequenced::Full | Unsequenced::TooManyPods) => {
                    self.is_full = true;
                    return Taken::Before(number);
                }
                Err(Unsequenced::Gap { expected }) => return Taken::Before(expected),
                Err(Unsequenced::UnknownPod(_)) => return Taken::Unregistered,
                Err(Unsequenced::Stopped(_)) => return Taken::NotLeading,
            }
        }
        Taken::All
    }

    /// Starts what the sequencer wants done, unless something is being done.
    fn start_action(&mut self) {
        if self.in_flight.is_some() {
            return;
        }
        let Some(action) = self.sequencer.next_action(self.applier.now()) else {
            return;
        };
        let (endpoint, epoch) = (self.endpoint.clone(), self.epoch);
        let pause = self.is_unknown.then(|| random::jitter(READ_AFTER));
        self.in_flight = Some(Box::pin(async move {
            if let Some(pause) = pause {
                clock::sleep(pause).await;
            }
            endpoint.execute(epoch, action).await
        }));
    }

    /// Takes the outcome of an action, and applies the batch if it is in the log now.
    fn settle(&mut self, outcome: Result<Outcome, EndpointError>) -> Result<(), Ended> {
        self.in_flight = None;
        let outcome = outcome.map_err(Ended::Refused)?;
        self.is_unknown = outcome == Outcome::Unknown;
        if let Some((number, batch)) = self.sequencer.appended(outcome) {
            self.is_full = false;
            self.applier.apply(number, &batch).map_err(Ended::Apply)?;
        }
        Ok(())
    }

    /// The pod stops: what it has appended is applied, so that its clients get their replies.
    async fn settle_last(&mut self) -> Ended {
        let Some(last) = self.in_flight.take() else {
            return Ended::Stop;
        };
        let settled = match clock::timeout(SETTLE_WITHIN, last).await {
            Ok(outcome) => self.settle(outcome),
            // The next leading pod finds out.
            Err(_) => Ok(()),
        };
        settled.err().unwrap_or(Ended::Stop)
    }

    fn tick(&mut self, forwarded: &mut mpsc::Receiver<Forwarded>) {
        self.is_full = false;
        // All signs of life count before anything expires.
        let touched = self.applier.hub().take_touched();
        let late = self.applier.touch(touched.sessions.iter().copied());
        self.applier.hub().touches_arrived(&touched, &late);
        while let Ok(commands) = forwarded.try_recv() {
            self.take(commands);
        }
        self.expired.extend(self.applier.expired());
        while let Some(&expired) = self.expired.front() {
            if !self.submit_own(expired.session, expired.kind()) {
                break;
            }
            self.expired.pop_front();
        }
        self.ticks = self.ticks.wrapping_add(1);
        let time_ms = self.sequencer.time_ms(self.applier.now());
        if self.ticks.is_multiple_of(FORGET_EVERY_TICKS) {
            self.forget_pods(time_ms);
        }
        if self.ticks.is_multiple_of(REAP_EVERY_TICKS) {
            for path in self.applier.hub().due(time_ms, REAPED_NODES) {
                // One that finds no room is due the next time, too.
                if !self.submit_own(SessionId::default(), Kind::Reap { path }) {
                    break;
                }
            }
        }
    }

    /// Forgets pods that have done nothing for long and do not call either.
    fn forget_pods(&mut self, time_ms: i64) {
        self.callers.retain(|_, at| at.elapsed() < CALLS_WITHIN);
        let hub = self.applier.hub();
        let own = hub.pod();
        for (pod, last) in hub.idle_pods(time_ms) {
            if pod != own && !self.callers.contains_key(&pod) {
                tracing::info!(%pod, "forgets a pod that is gone");
                // One that finds no room is idle the next time, too.
                self.submit_own(SessionId::default(), Kind::ForgetPod { pod, last });
            }
        }
    }

    /// Submits a command of the sequencer's own. Returns whether it was taken.
    fn submit_own(&mut self, session: SessionId, kind: Kind) -> bool {
        let command = Command {
            origin: None,
            session,
            caller: Vec::new(),
            kind,
        };
        self.sequencer.submit(command).is_ok()
    }
}

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        self.applier.stop_timers();
    }
}

/// The outcome of the action that is being executed. Waits for ever without one.
async fn outcome(in_flight: &mut Option<InFlight>) -> Result<Outcome, EndpointError> {
    match in_flight {
        Some(in_flight) => in_flight.await,
        None => std::future::pending().await,
    }
}
