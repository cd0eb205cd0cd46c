//! The cluster, its network and its faults.

mod partitions;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use synod_consensus_core::{
    Algorithm, Body, Change, CommonBody, CoreConfig, Input, MemberChange, Membership, Message,
    Proposal, ReadContext, ReadMode, Ready, Rejected, Role, Write,
};
use synod_types::{Index, NodeId, RequestId};

use crate::{
    check::Oracle,
    node::{Node, Pending, value},
    rng::Rng,
};

/// The faults of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavour {
    Everything,
    FixedMembers,
    Churn,
    /// No pre-vote and no quorum check, and so no leases.
    Plain,
    /// Everything that endangers leases: early candidates, restarts, transfers, delays, bad clocks.
    Leases,
    /// No faults; for scripted ones.
    Calm,
}

impl Flavour {
    pub(crate) const ALL: [Self; 5] = [
        Self::Everything,
        Self::FixedMembers,
        Self::Churn,
        Self::Plain,
        Self::Leases,
    ];
}

/// How often things happened, to know that a run tested something.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) leaders: u64,
    pub(crate) committed: u64,
    pub(crate) restarts: u64,
    pub(crate) snapshots: u64,
    pub(crate) config_changes: u64,
    pub(crate) transfers: u64,
    pub(crate) index_reads: u64,
    pub(crate) lease_reads: u64,
    pub(crate) truncations: u64,
    pub(crate) refusals: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Self) {
        self.leaders += other.leaders;
        self.committed += other.committed;
        self.restarts += other.restarts;
        self.snapshots += other.snapshots;
        self.config_changes += other.config_changes;
        self.transfers += other.transfers;
        self.index_reads += other.index_reads;
        self.lease_reads += other.lease_reads;
        self.truncations += other.truncations;
        self.refusals += other.refusals;
    }
}

/// The probabilities of faults, per thousand ticks of a node (of the world for cuts).
#[derive(Clone, Copy)]
struct Odds {
    change: u64,
    transfer: u64,
    campaign: u64,
    crash: u64,
    restart: u64,
    cut: u64,
    heal: u64,
}

impl Odds {
    fn of(flavour: Flavour, rng: &mut Rng) -> Self {
        let usual = Self {
            change: 8,
            transfer: 6,
            campaign: 4,
            crash: rng.pick(&[0, 3, 10]),
            restart: 100,
            cut: 15,
            heal: 15,
        };
        match flavour {
            Flavour::Everything | Flavour::Plain => usual,
            Flavour::FixedMembers => Self { change: 0, ..usual },
            Flavour::Calm => Self {
                change: 0,
                transfer: 0,
                campaign: 0,
                crash: 0,
                restart: 0,
                cut: 0,
                heal: 0,
            },
            Flavour::Churn => Self {
                change: 60,
                ..usual
            },
            Flavour::Leases => Self {
                change: 0,
                transfer: rng.pick(&[6, 30]),
                campaign: rng.pick(&[4, 300]),
                crash: rng.pick(&[0, 10, 40]),
                restart: 700,
                cut: rng.pick(&[15, 60]),
                heal: 25,
            },
        }
    }
}

const ELECTION: u64 = 30;
const STORM_TICKS: u64 = 20 * ELECTION;
/// Enough for a few failed elections, a snapshot and the slowest disk.
const CALM_TICKS: u64 = 40 * ELECTION;

pub(crate) struct World {
    algorithm: Algorithm,
    seed: u64,
    rng: Rng,
    flavour: Flavour,
    tick: u64,
    nodes: BTreeMap<NodeId, Node>,
    /// The delivery time and the message.
    network: Vec<(u64, Message)>,
    /// One-way cuts.
    cuts: BTreeSet<(NodeId, NodeId)>,
    drop_per_mille: u64,
    duplicate_per_mille: u64,
    max_delay: u64,
    odds: Odds,
    next_request: u64,
    oracle: Oracle,
    calm: bool,
    pub(crate) counts: Counts,
    pub(crate) keep_trace: bool,
    pub(crate) print: bool,
    pub(crate) trace: Vec<String>,
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!(
                "{}, seed {}, {:?}, tick {}",
                self.algorithm, self.seed, self.flavour, self.tick
            );
        }
    }
}

impl World {
    pub(crate) fn new(algorithm: Algorithm, seed: u64, flavour: Flavour) -> Self {
        Self::of_size(algorithm, seed, flavour, 0)
    }

    /// With this many voters; zero for a random number.
    fn of_size(algorithm: Algorithm, seed: u64, flavour: Flavour, voters: u64) -> Self {
        let mut rng = Rng::new(seed.wrapping_mul(0x5851_f42d_4c95_7f2d) ^ 0x1405_7b7e);
        let some = rng.pick(&[1, 2, 3, 3, 3, 3, 4, 5]);
        let calm = flavour == Flavour::Calm;
        let fixed = calm || matches!(flavour, Flavour::FixedMembers | Flavour::Leases);
        let voters = match voters {
            0 if fixed => some.max(3),
            0 => some,
            voters => voters,
        };
        let spare = if fixed { 0 } else { 2 };
        let odds = Odds::of(flavour, &mut rng);
        let initial = Membership::of((1..=voters).map(NodeId::new));
        let plain = flavour == Flavour::Plain;
        let leases = flavour == Flavour::Leases;
        let pre_vote = calm || (!plain && !rng.often(if leases { 500 } else { 100 }));
        let small = rng.often(500) && !calm;
        let mut nodes = BTreeMap::new();
        for id in (1..=voters + spare).map(NodeId::new) {
            let mut config = CoreConfig::new(id, 0);
            config.election_ticks = ELECTION;
            config.heartbeat_ticks = 3;
            // Leaders with and without leases, and with short ones.
            config.lease_ticks = match id.get() % 4 {
                1 => 12,
                2 => 0,
                _ => ELECTION,
            };
            config.pre_vote = pre_vote;
            config.check_quorum = !plain;
            config.strict_reconfig = rng.often(700);
            if small {
                config.max_inflight_messages = 2;
                config.max_inflight_bytes = 500;
                config.max_append_bytes = 250;
                config.max_uncommitted_bytes = 1500;
            }
            let mut clock_rate = 98 + rng.below(5);
            if leases {
                config.max_clock_drift_percent = 20;
                clock_rate = rng.pick(&[90, 100, 110]);
            }
            nodes.insert(id, Node::new(algorithm, config, &initial, clock_rate));
        }
        let mut world = Self {
            algorithm,
            seed,
            flavour,
            tick: 0,
            nodes,
            network: Vec::new(),
            cuts: BTreeSet::new(),
            drop_per_mille: rng.pick(&[0, 0, 20, 100]),
            duplicate_per_mille: rng.pick(&[0, 0, 50]),
            max_delay: if leases {
                rng.pick(&[1, 10, 20, 40])
            } else {
                rng.pick(&[1, 1, 3, 10, 60])
            },
            odds,
            rng,
            next_request: 0,
            oracle: Oracle::default(),
            calm: false,
            counts: Counts::default(),
            keep_trace: false,
            print: false,
            trace: Vec::new(),
        };
        for id in world.ids() {
            world.start(id);
        }
        if calm {
            world.drop_per_mille = 0;
            world.duplicate_per_mille = 0;
            world.max_delay = 2;
        }
        world
    }

    pub(crate) fn run(&mut self) {
        while self.tick < STORM_TICKS {
            self.turn();
        }
        self.heal();
        let goal = self.await_calm();
        self.oracle.at_the_end();
        self.counts.committed += self.oracle.committed.len() as u64;
        assert!(
            goal,
            "seed {}, {:?}: no progress: {}",
            self.seed,
            self.flavour,
            self.describe()
        );
    }

    /// Whether, without faults, a leader emerges, commits, and all of its members catch up.
    fn await_calm(&mut self) -> bool {
        let deadline = self.tick + CALM_TICKS;
        let mut wanted = None;
        while self.tick < deadline {
            self.turn();
            let Some(leader) = self.leader() else {
                continue;
            };
            let status = self.nodes[&leader].core.as_ref().unwrap().status();
            let Some(wanted) = wanted else {
                let before = self.oracle.commit;
                if self.propose(leader) {
                    wanted = Some(before.next());
                }
                continue;
            };
            let done = |id: &NodeId| self.nodes[id].machine.index() >= wanted.max(status.commit);
            if !status.membership.is_joint() && status.membership.members().iter().all(done) {
                return true;
            }
        }
        false
    }

    fn leader(&self) -> Option<NodeId> {
        let leaders = self.nodes.values().filter_map(|node| {
            let status = node.core.as_ref()?.status();
            (status.role == Role::Leader).then_some((status.ballot, node.id))
        });
        leaders.max().map(|(_, id)| id)
    }

    fn heal(&mut self) {
        self.calm = true;
        self.note(|| "calm".to_owned());
        self.cuts.clear();
        self.drop_per_mille = 0;
        self.duplicate_per_mille = 0;
        self.max_delay = 2;
        for id in self.ids() {
            let node = self.nodes.get_mut(&id).unwrap();
            node.slow_disk = false;
            if node.core.is_none() {
                self.start(id);
            }
        }
    }

    /// One tick of the world's clock, and everything that happens in it.
    fn turn(&mut self) {
        self.tick += 1;
        for id in self.ids() {
            let node = &self.nodes[&id];
            let now = node.now(self.tick);
            if node
                .core
                .as_ref()
                .is_some_and(|core| core.deadline() <= now)
            {
                let _ = self.step(id, Input::Tick);
                self.drain(id);
            }
        }
        self.deliver();
        for id in self.ids() {
            if self.nodes[&id].core.is_some() {
                self.run_shell(id);
            }
        }
        if !self.calm {
            self.load();
            self.fault();
        }
    }

    fn deliver(&mut self) {
        let tick = self.tick;
        let mut due: Vec<Message> = Vec::new();
        self.network.retain(|(at, message)| {
            if *at <= tick {
                due.push(message.clone());
            }
            *at > tick
        });
        while !due.is_empty() {
            // Mostly in order, like connections.
            let at = if self.rng.often(800) {
                0
            } else {
                self.rng.index(due.len())
            };
            let message = due.remove(at);
            let to = message.to;
            if self.cuts.contains(&(message.from, to)) || self.nodes[&to].core.is_none() {
                continue;
            }
            if matches!(message.body, Body::Common(CommonBody::ForwardChange { .. })) {
                // Drain now, so that the durable quorum is checked by the configuration that
                // committed.
                self.drain(to);
            }
            let _ = self.step(to, Input::Message(message));
            if self.rng.often(600) {
                self.drain(to);
            }
        }
    }

    /// Runs the disk, the state machine and the snapshots of one node.
    fn run_shell(&mut self, id: NodeId) {
        self.drain(id);
        let slow = if self.nodes[&id].slow_disk { 30 } else { 700 };
        if self.rng.often(slow) {
            let batches = 1 + self.rng.below(3);
            self.persist(id, batches);
        }
        if self.rng.often(600) {
            let node = self.nodes.get_mut(&id).unwrap();
            let count = self.rng.index(node.to_apply.len() + 1).max(1);
            for _ in 0..count {
                if node.install.is_none()
                    && let Some(entry) = node.to_apply.pop_front()
                {
                    node.machine.apply(entry);
                }
            }
            let applied = node.machine.index();
            let _ = self.step(id, Input::Applied(applied));
        }
        if self.rng.often(100) {
            let node = self.nodes.get_mut(&id).unwrap();
            node.machine.durable = node.machine.applied.len();
        }
        if self.nodes[&id].install.is_some() && self.rng.often(200) {
            self.install(id);
        }
        if self.rng.often(30) {
            self.compact(id);
        }
        self.drain(id);
    }

    fn persist(&mut self, id: NodeId, batches: u64) {
        for _ in 0..batches {
            let node = self.nodes.get_mut(&id).unwrap();
            let Some(pending) = node.pending.pop_front() else {
                return;
            };
            for write in &pending.writes {
                node.disk.write(write);
            }
            for message in pending.messages {
                self.send(message);
            }
            let _ = self.step(id, Input::Persisted(pending.seq));
        }
    }

    fn install(&mut self, id: NodeId) {
        let node = self.nodes.get_mut(&id).unwrap();
        let install = node.install.take().unwrap();
        let source = &self.nodes[&install.from];
        let meta = source.machine.meta_at(source.machine.index());
        let reachable = source.core.is_some()
            && !self.cuts.contains(&(install.from, id))
            && meta.last.index >= install.meta.last.index;
        if !reachable || self.rng.often(100) {
            let _ = self.step(id, Input::SnapshotFailed);
            let _ = self.step(install.from, Input::SnapshotSent { to: id, ok: false });
            return;
        }
        let mut machine = self.nodes[&install.from].machine.clone();
        machine.durable = machine.applied.len();
        let node = self.nodes.get_mut(&id).unwrap();
        let mut both = machine.applied.iter().zip(&node.machine.applied);
        assert!(both.all(|(a, b)| value(a) == value(b)), "diverged");
        assert!(machine.applied.len() >= node.machine.applied.len());
        node.machine = machine;
        // Entries that waited to be applied are in the snapshot.
        node.to_apply.clear();
        node.handed = meta.last.index;
        self.counts.snapshots += 1;
        self.step(id, Input::SnapshotInstalled(meta)).unwrap();
        let _ = self.step(install.from, Input::SnapshotSent { to: id, ok: true });
    }

    fn compact(&mut self, id: NodeId) {
        let node = self.nodes.get_mut(&id).unwrap();
        let durable = node.machine.durable as u64;
        let index = Index::new(durable - self.rng.below(5).min(durable));
        let applied = node.core.as_ref().unwrap().status().applied;
        // Not while a snapshot is replacing the log.
        let resetting = node.pending.iter().any(|p| {
            p.writes
                .iter()
                .any(|w| matches!(w, Write::Reset(_) | Write::Advance(_)))
        });
        if index <= applied && !resetting {
            node.compact(index);
            let _ = self.step(id, Input::Compact(index));
        }
    }

    fn load(&mut self) {
        for id in self.ids() {
            if self.nodes[&id].core.is_none() {
                continue;
            }
            if self.rng.often(150) {
                self.propose(id);
            }
            if self.rng.often(60) {
                self.read(id);
            }
            if self.rng.often(self.odds.change) {
                self.change_members(id);
            }
            if self.rng.often(self.odds.transfer) {
                let to = self.any_node();
                if self.step(id, Input::Transfer { to }).is_ok() {
                    self.counts.transfers += 1;
                }
            }
            if self.rng.often(self.odds.campaign) {
                let _ = self.step(id, Input::Campaign);
            }
            if self.rng.often(4) {
                let to = self.any_node();
                let _ = self.step(id, Input::Unreachable(to));
            }
            if self.rng.often(4) {
                let to = self.any_node();
                let _ = self.step(id, Input::Gone(to));
            }
            if self.rng.often(400) {
                self.drain(id);
            }
        }
    }

    fn request(&mut self, node: NodeId) -> RequestId {
        self.next_request += 1;
        let seq = self.next_request;
        RequestId { node, seq }
    }

    fn propose(&mut self, id: NodeId) -> bool {
        let count = 1 + self.rng.below(3);
        let proposals: Vec<Proposal> = (0..count)
            .map(|_| {
                let request = self.request(id);
                Proposal {
                    id: request,
                    data: Bytes::from(request.seq.to_le_bytes().to_vec()),
                }
            })
            .collect();
        let ids: Vec<RequestId> = proposals.iter().map(|p| p.id).collect();
        let result = self.step(id, Input::ProposeMany(proposals));
        if result.is_err() {
            self.counts.refusals += 1;
            self.oracle.refused.extend(ids);
        }
        result.is_ok()
    }

    fn read(&mut self, id: NodeId) {
        self.next_request += 1;
        let ctx = ReadContext(self.next_request);
        let mode = self.rng.pick(&[ReadMode::Index, ReadMode::Lease]);
        let commit = self.oracle.commit;
        self.nodes.get_mut(&id).unwrap().reads.insert(ctx, commit);
        let status = self.nodes[&id].core.as_ref().unwrap().status();
        if self.step(id, Input::Read { ctx, mode }).is_ok() {
            match mode {
                ReadMode::Lease if status.role == Role::Leader => self.counts.lease_reads += 1,
                ReadMode::Lease | ReadMode::Index => self.counts.index_reads += 1,
            }
        }
    }

    fn change_members(&mut self, id: NodeId) {
        let membership = self.nodes[&id].core.as_ref().unwrap().status().membership;
        let mut changes = Vec::new();
        for node in self.ids() {
            if !self.rng.often(300) {
                continue;
            }
            changes.push(if membership.is_learner(node) {
                self.rng
                    .pick(&[Change::Promote(node), Change::Remove(node)])
            } else if membership.is_voter(node) {
                self.rng.pick(&[Change::Demote(node), Change::Remove(node)])
            } else {
                self.rng
                    .pick(&[Change::AddLearner(node), Change::AddVoter(node)])
            });
        }
        let request = self.request(id);
        let change = MemberChange {
            id: request,
            changes,
            context: Bytes::from_static(b"context"),
        };
        self.drain(id);
        if self.step(id, Input::ChangeMembers(change)).is_err() {
            self.oracle.refused.insert(request);
        }
    }

    fn fault(&mut self) {
        let id = self.any_node();
        if self.nodes[&id].core.is_none() {
            if self.rng.often(self.odds.restart) {
                self.start(id);
            }
        } else if self.rng.often(self.odds.crash) {
            if self.rng.often(200) {
                self.fail_disk(id);
            }
            self.crash(id);
        }
        if self.rng.often(self.odds.cut) {
            self.cut();
        }
        if self.rng.often(self.odds.heal) {
            self.cuts.clear();
        }
        if self.flavour != Flavour::Calm && self.rng.often(10) {
            let node = self.nodes.get_mut(&id).unwrap();
            node.slow_disk = !node.slow_disk;
        }
    }

    fn cut(&mut self) {
        let ids = self.ids();
        let one = self.any_node();
        match self.rng.below(4) {
            // One node isolated.
            0 => {
                for id in ids {
                    self.cuts.extend([(one, id), (id, one)]);
                }
            }
            // Two halves.
            1 => {
                let side: BTreeMap<NodeId, bool> =
                    ids.iter().map(|id| (*id, self.rng.often(500))).collect();
                for a in &ids {
                    for b in &ids {
                        if side[a] != side[b] {
                            self.cuts.insert((*a, *b));
                        }
                    }
                }
            }
            // A bridge: all nodes reach one node, and no others.
            2 => {
                for a in &ids {
                    for b in &ids {
                        if *a != one && *b != one {
                            self.cuts.insert((*a, *b));
                        }
                    }
                }
            }
            // One direction between two nodes.
            _ => {
                let other = self.any_node();
                self.cuts.insert((one, other));
            }
        }
    }

    /// A write fails: nothing may leave the core after that.
    fn fail_disk(&mut self, id: NodeId) {
        self.drain(id);
        let Some(seq) = self.nodes[&id].pending.front().map(|p| p.seq) else {
            return;
        };
        self.step(id, Input::PersistFailed(seq)).unwrap();
        let core = self.nodes.get_mut(&id).unwrap().core.as_mut().unwrap();
        let last = core.ready().unwrap();
        assert!(last.messages.is_empty() && last.messages_after_persist.is_empty());
        assert!(last.writes.is_empty() && core.ready().is_none());
        let now = self.nodes[&id].now(self.tick);
        let core = self.nodes.get_mut(&id).unwrap().core.as_mut().unwrap();
        assert_eq!(core.step(now, Input::Tick), Err(Rejected::Failed));
    }

    fn crash(&mut self, id: NodeId) {
        let torn = self.rng.index(4);
        self.note(|| format!("{id} crashes, {torn} more writes"));
        self.nodes.get_mut(&id).unwrap().crash(torn);
    }

    fn start(&mut self, id: NodeId) {
        self.note(|| format!("{id} starts"));
        if self.tick > 0 {
            self.counts.restarts += 1;
        }
        let seed = self.rng.next();
        let tick = self.tick;
        self.nodes.get_mut(&id).unwrap().start(tick, seed);
        self.drain(id);
    }

    fn step(&mut self, id: NodeId, input: Input) -> Result<(), Rejected> {
        self.note(|| format!("{id} <- {input:?}"));
        let tick = self.tick;
        let node = self.nodes.get_mut(&id).unwrap();
        let now = node.now(tick);
        let Some(core) = node.core.as_mut() else {
            return Err(Rejected::Failed);
        };
        let result = core.step(now, input);
        let status = core.status();
        if let Err(reason) = result {
            self.note(|| format!("{id} refuses: {reason}"));
            assert_ne!(reason, Rejected::InvalidMessage, "seed {}", self.seed);
        }
        if self.oracle.after_step(&self.nodes[&id], &status) {
            self.counts.leaders += 1;
        }
        Oracle::leases(self.nodes.values(), self.tick);
        result
    }

    /// Carries out the core's requests in the order given in the crate's documentation.
    fn drain(&mut self, id: NodeId) {
        while let Some(ready) = self
            .nodes
            .get_mut(&id)
            .and_then(|node| node.core.as_mut()?.ready())
        {
            self.note(|| format!("{id} -> {ready:?}"));
            self.handle(id, ready);
        }
    }

    fn handle(&mut self, id: NodeId, ready: Ready) {
        let node = self.nodes.get_mut(&id).unwrap();
        let is_leader = node.core.as_ref().unwrap().status().role == Role::Leader;
        for write in &ready.writes {
            let replaces = match write {
                Write::TruncateFrom(_) => true,
                Write::Put(entry) => {
                    let before = node.shadow.entries.get(&entry.index);
                    before.is_some_and(|before| before.ballot != entry.ballot)
                }
                _ => false,
            };
            self.counts.truncations += u64::from(replaces);
            self.oracle.on_write(node, write, is_leader);
            node.shadow.write(write);
        }
        if !ready.writes.is_empty() {
            node.pending.push_back(Pending {
                seq: ready.seq,
                writes: ready.writes,
                messages: ready.messages_after_persist,
            });
        } else if !ready.messages_after_persist.is_empty() {
            let pending = node.pending.back_mut().unwrap();
            assert_eq!(pending.seq, ready.seq, "waits for the last write");
            pending.messages.extend(ready.messages_after_persist);
        }
        if let Some(install) = ready.install {
            assert!(node.install.is_none(), "one snapshot at a time");
            node.install = Some(*install);
        }
        for read in &ready.reads {
            let asked_at = node.reads.remove(&read.ctx).expect("an answer to a read");
            assert!(
                read.index >= asked_at,
                "a stale read: {read:?} < {asked_at}"
            );
        }
        for (ctx, _) in &ready.failed_reads {
            node.reads.remove(ctx).expect("an answer to a read");
        }
        let dropped = ready.dropped.iter().map(|(id, _)| *id);
        self.oracle.refused.extend(dropped);
        for entry in &ready.committed {
            let node = self.nodes.get_mut(&id).unwrap();
            assert_eq!(entry.index, node.handed.next(), "handed out once, in order");
            node.handed = entry.index;
            node.to_apply.push_back(entry.clone());
            if entry.kind == synod_consensus_core::EntryKind::Config {
                self.counts.config_changes += 1;
            }
            self.oracle.on_commit(&self.nodes, id, entry);
        }
        for message in ready.messages {
            self.send(message);
        }
    }

    fn send(&mut self, message: Message) {
        Oracle::on_send(&self.nodes[&message.from], &message);
        if self.rng.often(self.drop_per_mille) {
            return;
        }
        let copies = 1 + u64::from(self.rng.often(self.duplicate_per_mille));
        for _ in 0..copies {
            let delay = if self.rng.often(800) {
                0
            } else {
                self.rng.below(self.max_delay)
            };
            self.network.push((self.tick + delay, message.clone()));
        }
    }

    fn ids(&self) -> Vec<NodeId> {
        self.nodes.keys().copied().collect()
    }

    fn any_node(&mut self) -> NodeId {
        let ids = self.ids();
        self.rng.pick(&ids)
    }

    fn note(&mut self, line: impl Fn() -> String) {
        if self.print {
            println!("{:5} {}", self.tick, line());
        }
        if self.keep_trace {
            self.trace.push(format!("{} {}", self.tick, line()));
        }
    }

    fn describe(&self) -> String {
        let nodes = self.nodes.values();
        let lines = nodes.map(|node| {
            let status = node.core.as_ref().map(|core| core.status());
            format!("\n{} applied {}: {status:?}", node.id, node.machine.index())
        });
        lines.collect()
    }
}
