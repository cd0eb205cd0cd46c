//! Runs the health checks of the instances whose sessions this pod serves.
//!
//! The pod that serves a session is the same for all pods at a time, and changes when the session
//! does: so each instance is checked by one pod, the checks are spread as the sessions are, and an
//! instance whose pod is lost keeps its health until its client has found another pod.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future;
use parking_lot::Mutex;
use synod_coordination_core::{SessionId, WatchKind};
use synod_jute::{ErrorCode, Request, SetDataRequest};
use synod_runtime::shutdown::Shutdown;
use synod_runtime::{clock, random, task};
use tokio::sync::{Semaphore, mpsc};

use super::health::Verdict;
use super::instance::{Check, Kind};
use super::probe::{Failure, probe};
use super::{Found, Networks, SERVICES, find};
use crate::error::Error;
use crate::hub::{CallError, Client};

/// Instances with checks of a pod.
const MAX_CHECKED: usize = 10_000;

/// Connections of checks at a time. Further checks wait.
const PROBES: usize = 64;

/// Heartbeats of an instance that wait to be noted.
const WAITING_BEATS: usize = 16;

/// The pause before a result that could not be written is written again, at most; half of it at
/// least.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Runs checks.
pub(crate) struct Checker {
    allowed: Networks,
    probes: Semaphore,
    running: Mutex<HashMap<String, Running>>,
    stop: Shutdown,
}

/// An instance that is checked.
struct Running {
    client: Arc<Client>,
    beats: mpsc::Sender<Beat>,
}

/// What a program says of itself.
#[derive(Clone, Copy, Debug)]
struct Beat {
    has_passed: bool,
    at: Instant,
}

/// What a task checks.
struct Job {
    session: SessionId,
    client: Arc<Client>,
    path: String,
}

impl Checker {
    pub(crate) fn new(allowed: Networks, stop: Shutdown) -> Arc<Self> {
        Arc::new(Self {
            allowed,
            probes: Semaphore::new(PROBES),
            running: Mutex::default(),
            stop,
        })
    }

    /// The networks in which instances are checked.
    pub(crate) fn allowed(&self) -> &Networks {
        &self.allowed
    }

    /// Whether a further instance can be checked.
    ///
    /// # Errors
    /// There is no room.
    pub(crate) fn check_room(&self, path: &str) -> Result<(), Error> {
        let running = self.running.lock();
        match running.len() < MAX_CHECKED || running.contains_key(path) {
            true => Ok(()),
            false => Err(Error::TooManyInstances { limit: MAX_CHECKED }),
        }
    }

    /// A session has a connection here: checks its instances.
    pub(crate) fn take_over(self: &Arc<Self>, session: SessionId, client: &Arc<Client>) {
        let below = format!("{SERVICES}/");
        // A connection that has ended is followed by another one.
        let found = client
            .reader()
            .look(|view| view.ephemerals(session, &below));
        for path in found.unwrap_or_default() {
            self.start(session, client, &path);
        }
    }

    /// Checks an instance, if it has checks, as long as the session is on this connection.
    pub(crate) fn start(self: &Arc<Self>, session: SessionId, client: &Arc<Client>, path: &str) {
        let job = Job {
            session,
            client: Arc::clone(client),
            path: path.to_owned(),
        };
        let is_checked = |found: &Found| !found.registration.payload().checks.is_empty();
        if !job.own().as_ref().is_some_and(is_checked) {
            return;
        }
        let (beats, receiver) = mpsc::channel(WAITING_BEATS);
        let entry = Running {
            client: Arc::clone(client),
            beats,
        };
        let mut running = self.running.lock();
        let is_full = running.len() >= MAX_CHECKED;
        let former = match running.entry(job.path.clone()) {
            // Its task sees what was registered.
            Entry::Occupied(there) if Arc::ptr_eq(&there.get().client, client) => return,
            Entry::Occupied(mut there) => Some(there.insert(entry)),
            Entry::Vacant(_) if is_full => {
                drop(running);
                let path = job.path;
                tracing::warn!(
                    limit = MAX_CHECKED,
                    path,
                    "too many instances to check: this one keeps its health"
                );
                return;
            }
            Entry::Vacant(room) => {
                room.insert(entry);
                None
            }
        };
        drop(running);
        // A client is not dropped under the lock.
        drop(former);
        let checker = Arc::clone(self);
        drop(task::spawn("checks", async move {
            checker.run(job, receiver).await;
        }));
    }

    /// Notes what a program says of its instance.
    ///
    /// # Errors
    /// It is not checked here.
    pub(crate) fn beat(
        &self,
        path: &str,
        client: &Arc<Client>,
        has_passed: bool,
    ) -> Result<(), Error> {
        let beat = Beat {
            has_passed,
            at: clock::now(),
        };
        let running = self.running.lock();
        let entry = running
            .get(path)
            .filter(|entry| Arc::ptr_eq(&entry.client, client));
        let entry = entry.ok_or(Error::Throttled)?;
        entry.beats.try_send(beat).map_err(|_| Error::Throttled)
    }

    async fn run(self: Arc<Self>, job: Job, mut beats: mpsc::Receiver<Beat>) {
        tokio::select! {
            biased; // a session that is elsewhere is checked there
            () = self.stop.triggered() => {}
            () = job.client.closed() => {}
            () = self.watch_over(&job, &mut beats) => {}
        }
        let removed = {
            let mut running = self.running.lock();
            match running.entry(job.path.clone()) {
                Entry::Occupied(there) if Arc::ptr_eq(&there.get().client, &job.client) => {
                    Some(there.remove())
                }
                Entry::Occupied(_) | Entry::Vacant(_) => None,
            }
        };
        drop(removed);
        // It may have been registered again before the entry was removed.
        if !job.client.is_closed() && !self.stop.is_triggered() {
            self.start(job.session, &job.client, &job.path);
        }
    }

    /// Checks an instance until it is gone, or the session's connection has ended.
    async fn watch_over(&self, job: &Job, beats: &mut mpsc::Receiver<Beat>) {
        let mut reader = job.client.reader();
        let mut checked = Vec::new();
        loop {
            let found = reader.look(|view| {
                // Without a watch the next look sees it.
                view.watch(&job.path, WatchKind::Data);
                find(view, &job.path)
            });
            let Ok(Ok(Some(found))) = found else { return };
            if found.owner != job.session {
                return;
            }
            renew(&mut checked, &found);
            let is_passing = checked.iter().all(|check| check.verdict.is_passing());
            let mut retry = None;
            if is_passing != found.registration.enabled {
                match job.write(&found, is_passing).await {
                    Ok(()) => continue,
                    Err(error) => {
                        tracing::debug!(%error, path = job.path, "cannot write a health yet");
                        retry = Some(clock::now() + random::jitter(RETRY_AFTER));
                    }
                }
            }
            let next = checked.iter().map(|check| check.next).chain(retry).min();
            tokio::select! {
                biased; // what the checks are comes before what they say
                () = reader.changed() => {}
                Some(beat) = beats.recv() => note(&mut checked, beat),
                () = sleep_until(next) => self.look(job, &found, &mut checked).await,
            }
        }
    }

    /// Does the checks that are due, all at a time.
    async fn look(&self, job: &Job, found: &Found, checked: &mut [Checked]) {
        let now = clock::now();
        let due = checked.iter_mut().filter(|check| check.next <= now);
        let looks = due.map(|due| async {
            let result = match due.check.kind {
                Kind::Ttl => Err("no heartbeat came in time".to_owned()),
                Kind::Http { .. } | Kind::Tcp { .. } | Kind::Grpc { .. } => {
                    self.probe(&due.check, found).await
                }
            };
            due.note(result, &job.path);
        });
        future::join_all(looks).await;
    }

    async fn probe(&self, check: &Check, found: &Found) -> Result<(), Failure> {
        let own = found.registration.port.unwrap_or_default();
        let port = check.target_port(own).unwrap_or_default();
        let address = found.registration.ip();
        let address = address.ok_or("its address is no IP address")?;
        // Another pod may allow more, and other programs write nodes.
        if !self.allowed.contain(address) {
            return Err(format!("{address} is not in the networks of --check-allow"));
        }
        let _room = self
            .probes
            .acquire()
            .await
            .map_err(|error| error.to_string())?;
        probe(check, SocketAddr::new(address, port)).await
    }
}

impl Job {
    /// The instance's node, if it is the session's.
    fn own(&self) -> Option<Found> {
        let found = self.client.reader().look(|view| find(view, &self.path));
        let found = found.ok()?.ok()??;
        (found.owner == self.session).then_some(found)
    }

    /// Writes the health, unless the node has changed: then the caller looks again.
    async fn write(&self, found: &Found, is_passing: bool) -> Result<(), Error> {
        let mut registration = found.registration.clone();
        registration.enabled = is_passing;
        let set = Request::SetData(SetDataRequest {
            path: self.path.as_str().into(),
            data: Some(registration.encode().into()),
            version: found.version,
        });
        match self.client.call(set).await {
            Ok(_) | Err(CallError::Refused(ErrorCode::BadVersion | ErrorCode::NoNode)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// A check, and what it has said so far.
struct Checked {
    check: Check,
    verdict: Verdict,
    next: Instant,
}

impl Checked {
    fn note(&mut self, result: Result<(), Failure>, path: &str) {
        let now = clock::now();
        let was_passing = self.verdict.is_passing();
        self.verdict.note(result.is_ok(), now);
        self.next = now + self.check.interval();
        if let Err(reason) = result
            && was_passing
        {
            let fails = !self.verdict.is_passing();
            tracing::info!(path, reason, fails, "a check did not pass");
        }
    }
}

/// Begins with the checks of a node that are not known yet, with the health in the node.
fn renew(checked: &mut Vec<Checked>, found: &Found) {
    let checks = found.registration.payload().checks;
    let is_same = checked.iter().map(|checked| &checked.check).eq(&checks);
    if is_same {
        return;
    }
    let now = clock::now();
    let checks = checks.into_iter().map(|check| Checked {
        verdict: Verdict::new(check.thresholds(), found.registration.enabled),
        next: match check.kind {
            Kind::Ttl => now + check.interval(),
            Kind::Http { .. } | Kind::Tcp { .. } | Kind::Grpc { .. } => now,
        },
        check,
    });
    *checked = checks.collect();
}

fn note(checked: &mut [Checked], beat: Beat) {
    for check in checked
        .iter_mut()
        .filter(|check| check.check.kind == Kind::Ttl)
    {
        check.verdict.note(beat.has_passed, beat.at);
        check.next = beat.at + check.check.interval();
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => clock::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
