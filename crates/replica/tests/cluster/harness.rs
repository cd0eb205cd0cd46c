//! Nodes in one process: real logs in temporary directories, real streams over loopback.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use synod_consensus_core::{Algorithm, CoreConfig, Membership, Role};
use synod_log::{Log, LogConfig, SimDisk};
use synod_replica::{
    Completions, Metrics, Parts, PeerBook, Replica, ReplicaConfig, ReplicaHandle, TransportConfig,
};
use synod_rpc::Listener;
use synod_runtime::{clock, metrics::Registry, random};
use synod_types::{ClusterId, GroupId, NodeId};
use tempfile::TempDir;

use crate::toy::{Disk, Output};

/// Long enough for a machine that compiles at the same time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const GROUP: GroupId = GroupId::new(1);

pub(crate) fn soon() -> Instant {
    clock::now() + PATIENCE
}

pub(crate) fn node(id: u64) -> NodeId {
    NodeId::new(id)
}

/// Waits until `condition` holds. Polls, because there is no event for some conditions.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = soon();
    while !condition() {
        assert!(clock::now() < deadline, "timed out waiting for: {what}");
        clock::sleep(Duration::from_millis(2)).await;
    }
}

pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) disk: Arc<Disk>,
    pub(crate) book: PeerBook,
    pub(crate) address: String,
    pub(crate) registry: Registry,
    /// The disk of the log, if it is not in `directory`.
    pub(crate) sim_disk: Option<SimDisk>,
    running: Option<(Replica<Output>, Log)>,
    directory: TempDir,
}

impl Node {
    pub(crate) fn handle(&self) -> ReplicaHandle<Output> {
        self.running.as_ref().unwrap().0.handle()
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.registry.text().unwrap();
        let lines = text
            .lines()
            .filter(|line| !line.starts_with('#') && line.starts_with(name));
        lines
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    }

    /// Stops the replica and closes its log.
    pub(crate) async fn stop(&mut self) {
        if let Some((replica, log)) = self.running.take() {
            replica.stop().await;
            log.close().unwrap();
        }
    }
}

pub(crate) type Tweak = fn(&mut ReplicaConfig);

pub(crate) struct Cluster {
    pub(crate) id: ClusterId,
    pub(crate) algorithm: Algorithm,
    pub(crate) nodes: BTreeMap<NodeId, Node>,
    initial: Membership,
    tweak: Tweak,
    /// Whether the logs are on disks that can hang, with little room in the queue.
    sim_disks: bool,
}

/// A hanging disk. Dropping this ends the hang, even if a test fails.
pub(crate) struct Hanging(SimDisk);

impl Drop for Hanging {
    fn drop(&mut self) {
        self.0.hang(false);
    }
}

/// Bytes that may wait for a simulated disk.
pub(crate) const SIM_DISK_PENDING_BYTES: u64 = 20_000;

impl Cluster {
    /// Starts `size` nodes, numbered from 1.
    pub(crate) fn start(algorithm: Algorithm, size: u64) -> Self {
        Self::start_with(algorithm, size, |_| {})
    }

    pub(crate) fn start_with(algorithm: Algorithm, size: u64, tweak: Tweak) -> Self {
        Self::start_on(algorithm, size, tweak, false)
    }

    /// The same with logs on disks that can hang.
    pub(crate) fn start_on_sim_disks(algorithm: Algorithm, size: u64, tweak: Tweak) -> Self {
        Self::start_on(algorithm, size, tweak, true)
    }

    fn start_on(algorithm: Algorithm, size: u64, tweak: Tweak, sim_disks: bool) -> Self {
        let ids: Vec<NodeId> = (1..=size).map(node).collect();
        let mut cluster = Self {
            id: ClusterId::new(0xc1),
            algorithm,
            nodes: BTreeMap::new(),
            initial: Membership::of(ids.iter().copied()),
            tweak,
            sim_disks,
        };
        let bound: Vec<_> = ids
            .iter()
            .map(|id| (*id, Listener::bind("127.0.0.1:0").unwrap()))
            .collect();
        for (id, listener) in &bound {
            cluster.add(
                *id,
                format!("127.0.0.1:{}", listener.bound_to().tcp().unwrap().port()),
            );
        }
        for (id, listener) in bound {
            cluster.run(id, listener);
        }
        cluster
    }

    /// Adds a node that knows all others and is known to them.
    fn add(&mut self, id: NodeId, address: String) {
        let added = Node {
            id,
            disk: Disk::new(),
            book: PeerBook::new(),
            address,
            registry: Registry::new(),
            sim_disk: self.sim_disks.then(SimDisk::new),
            running: None,
            directory: tempfile::tempdir().unwrap(),
        };
        let url = |node: &Node| vec![format!("http://{}", node.address)];
        for other in self.nodes.values() {
            other.book.set(id, url(&added));
            added.book.set(other.id, url(other));
        }
        self.nodes.insert(id, added);
    }

    /// Starts a node that is not a member yet.
    pub(crate) fn join(&mut self, id: u64) -> NodeId {
        let id = node(id);
        let listener = Listener::bind("127.0.0.1:0").unwrap();
        self.add(
            id,
            format!("127.0.0.1:{}", listener.bound_to().tcp().unwrap().port()),
        );
        self.run(id, listener);
        id
    }

    /// Restarts a stopped node from the state on its disk.
    pub(crate) fn restart(&mut self, id: NodeId) {
        let listener = Listener::bind(&self.nodes[&id].address).unwrap();
        self.run(id, listener);
    }

    fn run(&mut self, id: NodeId, listener: Listener) {
        let mut core = CoreConfig::new(id, random::seed());
        (core.election_ticks, core.heartbeat_ticks) = (50, 5);
        let bootstrap = self.initial.contains(id).then(|| self.initial.clone());
        let mut config = ReplicaConfig::new(self.id, GROUP, core, bootstrap);
        config.algorithm = self.algorithm;
        config.transport = TransportConfig {
            backoff_min: Duration::from_millis(10),
            backoff_max: Duration::from_millis(200),
            ..TransportConfig::default()
        };
        (self.tweak)(&mut config);
        let node = self.nodes.get_mut(&id).unwrap();
        let completions = Completions::new();
        let sink = Arc::clone(&completions);
        let log_config = LogConfig::new(node.directory.path().join("log"));
        let opened = match &node.sim_disk {
            None => Log::open(log_config, sink),
            Some(disk) => {
                let log_config = LogConfig {
                    max_pending_bytes: SIM_DISK_PENDING_BYTES,
                    ..log_config
                };
                Log::open_on(Arc::new(disk.clone()), &log_config, Arc::default(), sink)
            }
        };
        let (log, mut recovered) = opened.unwrap();
        node.registry = Registry::new();
        let parts = Parts {
            log: log.clone(),
            recovered: recovered.groups.remove(&GROUP),
            completions,
            listeners: vec![listener],
            peers: node.book.clone(),
            metrics: Metrics::register(&node.registry, id).unwrap(),
        };
        let replica = Replica::start(config, parts, node.disk.machine()).unwrap();
        node.running = Some((replica, log));
    }

    pub(crate) fn handle(&self, id: NodeId) -> ReplicaHandle<Output> {
        self.nodes[&id].handle()
    }

    pub(crate) fn disk(&self, id: NodeId) -> Arc<Disk> {
        Arc::clone(&self.nodes[&id].disk)
    }

    pub(crate) fn running(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values().filter(|node| node.is_running())
    }

    /// Waits until a running node leads and all running nodes know it.
    pub(crate) async fn leader(&self) -> NodeId {
        let mut leader = None;
        eventually("one leader that all know", || {
            let roles: Vec<_> = self
                .running()
                .map(|node| (node.id, *node.handle().watch_role().borrow()))
                .collect();
            leader = roles
                .iter()
                .find(|(_, now)| now.role == Role::Leader)
                .map(|(id, _)| *id);
            leader.is_some() && roles.iter().all(|(_, now)| now.leader == leader)
        })
        .await;
        leader.unwrap()
    }

    /// A running node that is not the leader.
    pub(crate) async fn follower(&self) -> NodeId {
        let leader = self.leader().await;
        self.running()
            .map(|node| node.id)
            .find(|id| *id != leader)
            .unwrap()
    }

    pub(crate) async fn put(&self, at: NodeId, key: &str, value: &str) -> Output {
        let data = Bytes::from(format!("{key}={value}"));
        self.handle(at).propose(data, soon()).await.unwrap()
    }

    /// Waits until all running nodes have applied the same index, and checks that their states are
    /// equal.
    pub(crate) async fn converge(&self) {
        eventually("equal positions", || {
            let mut all = self.running().map(|node| node.disk.fingerprint().0);
            let first = all.next().unwrap();
            all.all(|index| index == first)
        })
        .await;
        let mut hashes = self.running().map(|node| node.disk.fingerprint());
        let first = hashes.next().unwrap();
        for other in hashes {
            // A later entry may have arrived meanwhile. At an equal position, the states must be
            // equal.
            assert!(
                other.0 != first.0 || other.1 == first.1,
                "states differ at {}",
                first.0
            );
        }
    }

    /// Disconnects a node from all others, in both directions, or reconnects it.
    pub(crate) fn isolate(&self, id: NodeId, cut: bool) {
        let isolated = &self.nodes[&id];
        for other in self.nodes.values().filter(|other| other.id != id) {
            if cut {
                other.book.remove(id);
                isolated.book.remove(other.id);
            } else {
                other
                    .book
                    .set(id, vec![format!("http://{}", isolated.address)]);
                isolated
                    .book
                    .set(other.id, vec![format!("http://{}", other.address)]);
            }
        }
    }

    /// Makes the disk of a node's log hang.
    pub(crate) fn hang_log(&self, id: NodeId) -> Hanging {
        let disk = self.nodes[&id].sim_disk.clone().unwrap();
        disk.hang(true);
        Hanging(disk)
    }

    pub(crate) async fn stop(&mut self, id: NodeId) {
        self.nodes.get_mut(&id).unwrap().stop().await;
    }

    pub(crate) async fn stop_all(&mut self) {
        for node in self.nodes.values_mut() {
            node.stop().await;
        }
    }
}
