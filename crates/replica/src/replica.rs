//! Starting and stopping a replica: threads, runtime, and how the parts know each other.
//!
//! Threads: `synod-replica-0` runs the driver and all peer streams on one current-thread runtime;
//! `synod-apply` owns the state machine; `synod-persist` flushes the engine. The log has its own.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use synod_consensus_core::{Consensus, InitialMembers, Message};
use synod_log::{GroupState, Log, Restart};
use synod_proto::replica::v1::peer_server::PeerServer;
use synod_replica_core::LogCompactor;
use synod_rpc::{Listener, Running, Server, ServerConfig};
use synod_runtime::executor::{Executor, ExecutorError};
use synod_runtime::task::JoinHandle;
use synod_runtime::{clock, random, task};
use synod_types::{GroupId, Index, NodeId, WriteSeq};
use tokio::sync::oneshot;

use crate::apply::{Applier, ApplyQueue, Control};
use crate::clock::TickClock;
use crate::completions::{Completions, LogListener};
use crate::config::ReplicaConfig;
use crate::driver::{Driver, Parts as DriverParts};
use crate::error::Fault;
use crate::handle::ReplicaHandle;
use crate::inbox::{Event, Inbox};
use crate::metrics::Metrics;
use crate::pending::Pending;
use crate::persist::{self, PersistSignal};
use crate::published::Published;
use crate::readers::Readers;
use crate::recovery::{RecoveryError, restore};
use crate::shared::{ApplySample, GroupRequests, Load};
use crate::snapshot::{Hooks, SnapshotServer};
use crate::state_machine::{ApplyError, Persister, StateMachine};
use crate::transport::book::PeerBook;
use crate::transport::{self, GroupPort, Identity, PeerService, Transport};

/// How long streams get to end when the replica stops.
const DRAIN: Duration = Duration::from_millis(500);

/// What a replica is started with besides its configuration and its state machine.
pub struct Parts {
    /// The open log; its sink must be `completions`.
    pub log: Log,
    /// What the log held of this group.
    pub recovered: Option<GroupState>,
    /// The log's sink.
    pub completions: Arc<Completions>,
    /// Where peers connect: bound by the service, so that a busy port is its error. `None` on a
    /// node that has no peers and never will.
    pub listener: Option<Listener>,
    /// Where the peers are.
    pub peers: PeerBook,
    /// Instruments.
    pub metrics: Metrics,
}

/// Why a replica did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The stored data can't be used.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// The state machine could not be made durable.
    #[error("cannot make the stored state durable: {0}")]
    StateMachine(#[from] ApplyError),
    /// The operating system refused a thread.
    #[error("cannot start thread {name}: {source}")]
    Thread {
        /// Its name.
        name: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The runtime did not start.
    #[error(transparent)]
    Runtime(#[from] ExecutorError),
    /// The peer port can't be served.
    #[error(transparent)]
    Serve(#[from] synod_rpc::StartError),
}

/// A running replica. Dropping it stops it without waiting.
pub struct Replica<O> {
    handle: ReplicaHandle<O>,
    shared: Arc<GroupRequests<O>>,
    transport: Arc<Transport>,
    completions: Arc<Completions>,
    group: GroupId,
    executor: Executor,
    server: Option<Running>,
    driver: Option<JoinHandle<()>>,
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
    persist: Arc<PersistSignal>,
}

impl<O: Send + 'static> Replica<O> {
    /// Recovers, and starts to take part in the group.
    ///
    /// # Errors
    /// [`StartError`]: nothing runs then.
    pub fn start<S: StateMachine<Output = O>>(
        config: ReplicaConfig,
        parts: Parts,
        machine: S,
    ) -> Result<Self, StartError> {
        let Parts {
            log,
            recovered,
            completions,
            listener,
            peers,
            metrics,
        } = parts;
        let persister = machine.persister();
        let clock = TickClock::start();
        let stored = (&machine, &*persister);
        let begun = begin(&config, &log, recovered, stored, clock)?;
        let (initial, applied) = (begun.initial, begun.applied);
        let executor = Executor::start("synod-replica", NonZeroUsize::MIN)?;
        let identity = Identity {
            cluster: config.cluster,
            node: config.core.id,
            algorithm: config.algorithm,
            feature_level: config.feature_level,
        };
        let transport = Transport::new(
            identity,
            config.transport.clone(),
            peers,
            metrics.clone(),
            clock,
        );
        let mut limits = config.limits.clone();
        let core_limit = usize::try_from(config.core.max_entry_bytes).unwrap_or(usize::MAX);
        limits.max_proposal_bytes = limits.max_proposal_bytes.min(core_limit);
        let shared = Arc::new(GroupRequests {
            inbox: Inbox::new(),
            pending: Pending::new(),
            readers: Readers::new(applied),
            published: Published::new(clock, begun.core.status()),
            load: Load::default(),
            apply_sample: ApplySample::default(),
            limits,
        });
        let queue = Arc::new(ApplyQueue::new());
        let snapshots = snapshot_server(&config, &queue, &shared, &initial, &metrics);
        let heartbeat_ticks = u32::try_from(config.core.heartbeat_ticks).unwrap_or(u32::MAX);
        let driver = Driver::new(DriverParts {
            node: config.core.id,
            group: config.group,
            core: begun.core,
            heartbeat: crate::clock::TICK.saturating_mul(heartbeat_ticks),
            log_stall_timeout: config.limits.log_stall_timeout,
            clock,
            log,
            transport: Arc::clone(&transport),
            queue: Arc::clone(&queue),
            shared: Arc::clone(&shared),
            snapshots: Arc::clone(&snapshots),
            snapshot_config: config.snapshots.clone(),
            compactor: LogCompactor::new(initial.clone(), begun.start, applied),
            compaction: config.compaction.clone(),
            metrics: metrics.clone(),
            // Half of the range is left for counting.
            first_request: random::u64() >> 1,
        });
        let port = Arc::new(Port {
            shared: Arc::clone(&shared),
            snapshots,
        });
        let persist = Arc::new(PersistSignal::new(&config.compaction));
        let applier = Applier {
            node: config.core.id,
            machine,
            applied,
            queue,
            shared: Arc::clone(&shared),
            persist: Arc::clone(&persist),
            initial,
            metrics,
        };
        // What can fail comes first, so that nothing is left running.
        let server = match listener {
            Some(listener) => Some(serve(&transport, config.routes, listener, &executor)?),
            None => None,
        };
        let threads = start_threads(applier, persister, &persist, &shared)?;
        completions.register(config.group, Arc::clone(&port) as Arc<dyn LogListener>);
        transport.register(config.group, port);
        executor.spawn_on(0, "synod-peers", transport::run(Arc::clone(&transport)));
        let driver = executor.spawn_on(0, "synod-driver", driver.run());
        Ok(Self {
            handle: ReplicaHandle::new(Arc::clone(&shared)),
            shared,
            transport,
            completions,
            group: config.group,
            executor,
            server,
            driver: Some(driver),
            threads: Mutex::new(threads),
            persist,
        })
    }

    /// A handle for proposals and reads.
    #[must_use]
    pub fn handle(&self) -> ReplicaHandle<O> {
        self.handle.clone()
    }

    /// The address that peers connect to; `None` without a listener.
    #[must_use]
    pub fn peer_address(&self) -> Option<std::net::SocketAddr> {
        self.server.as_ref().map(Running::local_addr)
    }

    /// Stops: no more answers, streams closed, threads ended, the engine flushed. The log stays
    /// open: it is the caller's.
    ///
    /// Hand over the leadership first ([`ReplicaHandle::transfer`]): the others wait an election
    /// timeout otherwise.
    ///
    /// # Cancel safety
    /// Dropping the future stops without waiting.
    pub async fn stop(mut self) {
        self.shared.inbox.stop();
        if let Some(driver) = self.driver.take() {
            // A panic was logged, and is a stop as well.
            let _ended = driver.await;
        }
        self.transport.stop.trigger();
        if let Some(server) = self.server.take() {
            server.drain(DRAIN).await;
        }
        self.executor.stop(DRAIN).await;
        self.persist.stop();
        let threads = std::mem::take(&mut *self.threads.lock());
        let joined = task::spawn_blocking(move || {
            for thread in threads {
                // A panic was logged by the thread itself.
                let _ended = thread.join();
            }
        });
        let _ended = joined.await;
    }
}

impl<O> Drop for Replica<O> {
    fn drop(&mut self) {
        self.shared.inbox.stop();
        self.persist.stop();
        self.transport.stop.trigger();
        self.transport.unregister(self.group);
        self.completions.unregister(self.group);
    }
}

/// A core that goes on where the disk stopped.
struct Begun {
    core: Box<dyn Consensus>,
    initial: InitialMembers,
    /// The position before the log's first entry.
    start: Index,
    applied: Index,
}

fn begin<S: StateMachine>(
    config: &ReplicaConfig,
    log: &Log,
    recovered: Option<GroupState>,
    (machine, persister): (&S, &dyn Persister),
    clock: TickClock,
) -> Result<Begun, StartError> {
    // Entries may be applied before they are in the own log, and the engine's writes are not synced
    // one by one. What the log lacks the core takes for an installed snapshot, and makes the log
    // begin after it: so it must be durable first, or a power failure would leave a state that is
    // older than the log.
    let applied = machine.applied();
    if applied.last.index > Index::ZERO {
        persister.persist()?;
    }
    let bootstrap = config.bootstrap.clone();
    let Restart {
        restored, initial, ..
    } = restore(log, config.group, recovered, applied, bootstrap)?;
    let (start, applied) = (restored.start.last.index, restored.applied.last.index);
    let now = clock.tick_at(clock::now());
    let core = config
        .algorithm
        .start(config.core.clone(), restored, now)
        .map_err(RecoveryError::from)?;
    Ok(Begun {
        core,
        initial,
        start,
        applied,
    })
}

fn serve(
    transport: &Arc<Transport>,
    routes: tonic::service::Routes,
    listener: Listener,
    executor: &Executor,
) -> Result<Running, synod_rpc::StartError> {
    let limit = transport.config.max_receive_bytes;
    let service = PeerServer::new(PeerService::new(Arc::clone(transport)))
        .max_decoding_message_size(limit)
        .max_encoding_message_size(limit);
    let config = ServerConfig {
        stream_window_bytes: 4 << 20,
        connection_window_bytes: 16 << 20,
        ..ServerConfig::default()
    };
    Server::new(config)
        .add_service(service)
        .routes(routes)
        .start(listener, executor)
}

fn snapshot_server<S: StateMachine>(
    config: &ReplicaConfig,
    queue: &Arc<ApplyQueue<S>>,
    shared: &Arc<GroupRequests<S::Output>>,
    initial: &InitialMembers,
    metrics: &Metrics,
) -> Arc<SnapshotServer> {
    let queue = Arc::clone(queue);
    let shared = Arc::clone(shared);
    let hooks = Hooks {
        open: Box::new(move || {
            let (reply, opened) = oneshot::channel();
            queue.push_control(Control::Snapshot(reply));
            opened
        }),
        sent: Box::new(move |to, ok| shared.inbox.event(Event::SnapshotSent { to, ok })),
    };
    SnapshotServer::new(
        config.snapshots.clone(),
        hooks,
        initial.clone(),
        metrics.clone(),
    )
}

fn start_threads<S: StateMachine>(
    applier: Applier<S>,
    persister: Arc<dyn Persister>,
    persist: &Arc<PersistSignal>,
    shared: &Arc<GroupRequests<S::Output>>,
) -> Result<Vec<thread::JoinHandle<()>>, StartError> {
    const APPLY: &str = "synod-apply";
    const PERSIST: &str = "synod-persist";
    let signal = Arc::clone(persist);
    let for_persist = Arc::clone(shared);
    let persisting = task::spawn_thread(PERSIST, move || {
        persist::run(&signal, &persister, |result| match result {
            Ok(meta) => for_persist.inbox.event(Event::Flushed(meta)),
            Err(error) => for_persist.inbox.fail(Fault::state_machine(&error)),
        });
    })
    .map_err(|source| StartError::Thread {
        name: PERSIST,
        source,
    })?;
    let for_apply = Arc::clone(shared);
    let applying = task::spawn_thread(APPLY, move || {
        // Also when the state machine panics: nobody must wait for it for ever.
        let _guard = StopOnDrop(for_apply);
        applier.run();
    })
    .map_err(|source| {
        persist.stop();
        StartError::Thread {
            name: APPLY,
            source,
        }
    })?;
    Ok(vec![applying, persisting])
}

/// Fails the replica when the apply thread ends, unless it was stopped already.
struct StopOnDrop<O>(Arc<GroupRequests<O>>);

impl<O> Drop for StopOnDrop<O> {
    fn drop(&mut self) {
        self.0
            .inbox
            .fail(Fault::Internal("the apply thread ended".to_owned()));
    }
}

/// The group's entrance for the log and the peers.
struct Port<O> {
    shared: Arc<GroupRequests<O>>,
    snapshots: Arc<SnapshotServer>,
}

impl<O: Send> LogListener for Port<O> {
    fn persisted(&self, seq: WriteSeq) {
        self.shared.inbox.persisted(seq);
    }

    fn failed(&self, fault: Fault) {
        self.shared.inbox.fail(fault);
    }
}

impl<O: Send> GroupPort for Port<O> {
    fn deliver(&self, messages: Vec<Message>, bytes: usize) {
        // Dropped where the driver is behind or has stopped.
        self.shared.inbox.push_messages(messages, bytes);
    }

    fn unreachable(&self, node: NodeId) {
        self.shared.inbox.unreachable(node);
    }

    fn snapshots(&self) -> &Arc<SnapshotServer> {
        &self.snapshots
    }
}
