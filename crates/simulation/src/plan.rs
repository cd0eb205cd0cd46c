//! The setup of a run's cluster and its faults.

use synod_consensus_core::{CoreConfig, Membership, Priority};
use synod_types::{Ballot, Index, LogPosition, NodeId};

use crate::choices::{Choices, Stream};
use crate::faults::FaultKind;
use crate::flavour::Flavour;
use crate::network::Quality;
use crate::time::{MS, TICK_US};

/// Everything that is decided at the start of a run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The seed for the cores' seeds.
    pub(crate) seed: u64,
    pub(crate) voters: u64,
    /// Nodes that wait to be added.
    pub(crate) spares: u64,
    /// The position at which the group's log begins.
    pub(crate) base: LogPosition,
    pub(crate) election_ticks: u64,
    pub(crate) heartbeat_ticks: u64,
    /// For how long the leaders among the nodes ask for promises, by turns.
    pub(crate) lease_ticks: [u64; 3],
    pub(crate) drift_percent: u64,
    /// Whether every clock is as far off as allowed.
    pub(crate) extreme_clocks: bool,
    pub(crate) pre_vote: bool,
    pub(crate) strict_reconfig: bool,
    pub(crate) small_windows: bool,
    pub(crate) priorities: bool,
    pub(crate) network: Quality,
    pub(crate) sync_us: u64,
    pub(crate) apply_us: u64,
    pub(crate) max_apply_batch: usize,
    pub(crate) max_apply_backlog: usize,
    pub(crate) flush_batches: usize,
    pub(crate) compact_entries: u64,
    pub(crate) keep_entries: u64,
    pub(crate) chunk_bytes: usize,
    pub(crate) clients: u32,
    pub(crate) keys: u64,
    pub(crate) think_us: u64,
    pub(crate) patience_us: u64,
    /// Lost answers to clients, per thousand.
    pub(crate) lost_answers: u64,
    /// How long faults occur.
    pub(crate) storm_us: u64,
    pub(crate) faults: Vec<FaultKind>,
    /// The minimum time between faults; the maximum is three times as long.
    pub(crate) fault_gap_us: u64,
}

impl Plan {
    pub(crate) fn draw(choices: &mut Choices, flavour: Flavour, seed: u64) -> Self {
        let c = choices;
        const S: Stream = Stream::Setup;
        let stragglers = flavour == Flavour::Stragglers;
        let fixed = matches!(
            flavour,
            Flavour::Fixed
                | Flavour::Leases
                | Flavour::Partitions
                | Flavour::Gaps
                | Flavour::Stragglers
                | Flavour::Laggards
        );
        let voters = if stragglers {
            c.one_of(S, [5, 3, 5, 5])
        } else if fixed {
            c.one_of(S, [3, 3, 5, 4])
        } else {
            c.one_of(S, [3, 3, 3, 5, 4, 2, 1])
        };
        let bad_links = flavour != Flavour::Calm;
        let leases = flavour == Flavour::Leases || stragglers;
        let hundred = |n: u64| if bad_links { n } else { 0 };
        let network = Quality {
            loss: hundred(c.one_of(S, [0, 0, 0, 10, 60])),
            duplicates: hundred(c.one_of(S, [0, 0, 30])),
            slow: hundred(c.one_of(S, [0, 0, 30, 150])),
            slow_us: c.one_of(S, [20 * MS, 100 * MS, 400 * MS]),
            jitter_us: c.one_of(S, [300, 300, 2_000, 15_000]),
        };
        let based = c.often(S, 500);
        Self {
            seed,
            voters,
            spares: if fixed { 0 } else { 2 },
            base: if based {
                let (ballot, index) = (Ballot::term(1), Index::new(1));
                LogPosition { ballot, index }
            } else {
                LogPosition::ZERO
            },
            election_ticks: 30,
            heartbeat_ticks: 3,
            drift_percent: if leases { 20 } else { 5 },
            extreme_clocks: stragglers,
            pre_vote: !c.often(S, if leases { 500 } else { 100 }),
            strict_reconfig: !c.often(S, 300),
            small_windows: c.often(S, 400),
            priorities: c.often(S, 200),
            network,
            sync_us: c.one_of(S, [300, 300, 2_000, 10_000]),
            apply_us: c.one_of(S, [50, 50, 2_000, 20_000]),
            max_apply_batch: c.one_of(S, [1, 8, 64]),
            max_apply_backlog: c.one_of(S, [500, 500, 30]),
            flush_batches: c.one_of(S, [5, 20, 60]),
            compact_entries: c.one_of(S, [1_000, 100, 40, 15]),
            keep_entries: c.one_of(S, [10, 5, 0]),
            chunk_bytes: c.one_of(S, [2_000, 500, 150]),
            clients: c.one_of(S, [3, 2, 4, 6]),
            keys: c.one_of(S, [3, 1, 6]),
            think_us: c.one_of(S, [20 * MS, 5 * MS, 60 * MS]),
            patience_us: c.one_of(S, [600 * MS, 300 * MS, 1_500 * MS]),
            lost_answers: hundred(c.one_of(S, [0, 0, 20])),
            storm_us: c.one_of(S, [12, 8, 16]) * 30 * TICK_US,
            faults: swarm(c, flavour),
            fault_gap_us: c.one_of(S, [100 * MS, 30 * MS, 250 * MS, 500 * MS]),
            lease_ticks: c.one_of(S, [[30; 3], [12; 3], [30, 12, 20], [20, 0, 30]]),
        }
    }

    /// A group without clients and faults, with production timing.
    pub(crate) fn quiet(voters: u64, seed: u64) -> Self {
        let quality = Quality {
            jitter_us: 300,
            ..Quality::default()
        };
        Self {
            seed,
            voters,
            spares: 0,
            base: LogPosition::ZERO,
            election_ticks: 100,
            heartbeat_ticks: 10,
            lease_ticks: [20; 3],
            drift_percent: 5,
            extreme_clocks: false,
            pre_vote: true,
            strict_reconfig: true,
            small_windows: false,
            priorities: false,
            network: quality,
            sync_us: 300,
            apply_us: 50,
            max_apply_batch: 64,
            max_apply_backlog: 500,
            flush_batches: 100,
            compact_entries: 10_000,
            keep_entries: 1_000,
            chunk_bytes: 2_000,
            clients: 0,
            keys: 1,
            think_us: 0,
            patience_us: 2_000 * MS,
            lost_answers: 0,
            storm_us: 0,
            faults: Vec::new(),
            fault_gap_us: 0,
        }
    }

    /// The initial members.
    pub(crate) fn members(&self) -> Membership {
        Membership::of((1..=self.voters).map(NodeId::new))
    }

    /// A core's configuration.
    pub(crate) fn config(&self, id: NodeId, choices: &mut Choices) -> CoreConfig {
        let mut config = CoreConfig::new(id, 0);
        config.election_ticks = self.election_ticks;
        config.heartbeat_ticks = self.heartbeat_ticks;
        let [first, second, third] = self.lease_ticks;
        config.lease_ticks = match id.get() % 3 {
            0 => third,
            1 => first,
            _ => second,
        };
        config.max_clock_drift_percent = self.drift_percent;
        config.pre_vote = self.pre_vote;
        config.strict_reconfig = self.strict_reconfig;
        config.max_pending_reads = 200;
        if self.small_windows {
            config.max_inflight_messages = 2;
            config.max_inflight_bytes = 600;
            config.max_append_bytes = 300;
            config.max_uncommitted_bytes = 1_500;
            config.max_committed_bytes = 400;
        }
        if self.priorities {
            let all = [Priority::Normal, Priority::Low, Priority::High];
            config.priority = choices.one_of(Stream::Setup, all);
        }
        config
    }

    /// A clock's rate, within the bound that leases allow for.
    pub(crate) fn clock_rate(&self, choices: &mut Choices, stream: Stream) -> u64 {
        // Half of the bound in each direction, so that no two clocks differ by more than the bound.
        let half = self.drift_percent * 10 / 2 - 1;
        if self.extreme_clocks {
            return choices.one_of(stream, [1000 - half, 1000 + half]);
        }
        choices.one_of(stream, [1000, 1000 - half, 1000 + half, 1000 - half / 2])
    }
}

/// A random subset of a flavour's faults, so that each seed explores a different combination.
fn swarm(choices: &mut Choices, flavour: Flavour) -> Vec<FaultKind> {
    let mut chosen = Vec::new();
    for kind in FaultKind::of(flavour) {
        if choices.often(Stream::Setup, 500) {
            chosen.push(kind);
        }
    }
    chosen
}
