//! Named cuts: whether each algorithm gets a working leader, and when.

#![expect(clippy::panic, reason = "a test")]

use synod_simulation::{Algorithm, Recovery, Topology, measure};

fn recoveries(algorithm: Algorithm, topology: Topology) -> Vec<Recovery> {
    let runs = (0..20).map(|seed| measure(algorithm, topology, seed));
    runs.map(|run| run.unwrap_or_else(|failure| panic!("{topology}: {failure}")))
        .collect()
}

/// Checks that every run commits during the cut, within this many ticks, and with at most this many
/// leaders.
fn works(algorithm: Algorithm, topology: Topology, ticks: u64, leaders: u64) {
    for recovery in recoveries(algorithm, topology) {
        let took = recovery.ticks.unwrap_or(u64::MAX);
        assert!(took <= ticks, "{algorithm}, {topology}: {recovery:?}");
        assert!(
            recovery.leaders <= leaders,
            "{algorithm}, {topology}: {recovery:?}"
        );
    }
}

#[test]
fn raft_in_every_topology() {
    works(Algorithm::Raft, Topology::PartialPartition, 2, 0);
    works(Algorithm::Raft, Topology::Chain, 1_500, 4);
    works(Algorithm::Raft, Topology::LeaseBridge, 1_500, 4);
    works(Algorithm::Raft, Topology::DeafLeader, 800, 3);
    works(Algorithm::Raft, Topology::LostLeader, 800, 3);
    works(Algorithm::Raft, Topology::EarlierHub, 800, 2);
}

#[test]
fn an_ended_process_is_replaced_soon_and_a_slandered_one_never() {
    for algorithm in Algorithm::ALL {
        works(algorithm, Topology::DeadLeader, 30, 1);
        works(algorithm, Topology::DeadLeaseholder, 45, 1);
        works(algorithm, Topology::Slander, 2, 0);
    }
}

#[test]
fn raft_waits_for_the_end_of_the_cut_if_only_a_stale_node_reaches_a_quorum() {
    for recovery in recoveries(Algorithm::Raft, Topology::StaleHub) {
        assert_eq!(recovery.ticks, None, "{recovery:?}");
        assert!(
            recovery.ticks_after_heal.is_some_and(|ticks| ticks < 1_000),
            "{recovery:?}"
        );
    }
}

#[test]
fn multi_paxos_in_every_topology() {
    for topology in Topology::ALL {
        works(Algorithm::MultiPaxos, topology, 2_000, 12);
    }
}
