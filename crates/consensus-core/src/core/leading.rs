//! A leader's state besides its log.

use std::collections::VecDeque;

use synod_types::{Index, NodeId, Tick};

use super::{
    peer::Peer,
    reads::{ReadRound, Reader},
};
use crate::TransferEpoch;
use crate::mutants::{Mutant, is_active};

/// A leader's state. It is dropped when the leader steps down.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Leading {
    /// The other members, and removed ones for a while.
    pub(super) peers: Peers,
    /// The index of this ballot's no-op. Before it is committed, the leader may not know everything
    /// that is committed.
    pub(super) first_own: Index,
    pub(super) next_heartbeat: Tick,
    /// The last heartbeat round.
    pub(super) round: u64,
    /// Rounds without a quorum of answers so far, and when they were sent.
    pub(super) rounds: VecDeque<(u64, Tick)>,
    /// When the latest round that a quorum has answered was sent.
    pub(super) confirmed_at: Option<Tick>,
    /// Rounds up to here don't renew the lease.
    pub(super) lease_floor: u64,
    pub(super) transfer: Option<Transfer>,
    /// The number of transfers given up after the other node was told to campaign.
    pub(super) transfers: TransferEpoch,
    /// Reads that are not in a round yet.
    pub(super) waiting: Vec<Reader>,
    /// Reads that wait for a round to be confirmed.
    pub(super) read_rounds: VecDeque<ReadRound>,
    /// Set when this leader has no vote in a committed configuration.
    pub(super) resigning: bool,
}

/// Peers by ascending id. A vector, because there are few of them and each `Ready` iterates over
/// all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Peers(Vec<(NodeId, Peer)>);

/// A leadership transfer in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Transfer {
    pub(super) to: NodeId,
    pub(super) deadline: Tick,
    /// Whether the other node was told to campaign.
    pub(super) told: bool,
    /// Whether to tell it again.
    pub(super) retell: bool,
}

impl Leading {
    pub(super) fn new(first_own: Index, now: Tick) -> Self {
        Self {
            peers: Peers::default(),
            first_own,
            next_heartbeat: now,
            round: 0,
            rounds: VecDeque::new(),
            confirmed_at: None,
            lease_floor: 0,
            transfer: None,
            transfers: TransferEpoch::default(),
            waiting: Vec::new(),
            read_rounds: VecDeque::new(),
            resigning: false,
        }
    }

    /// Whether reads may be served. Until an entry of its own ballot is committed, the leader may
    /// not know everything that is committed (Raft §8).
    pub(super) fn may_read(&self, commit: Index) -> bool {
        commit >= self.first_own || is_active(Mutant::ReadBeforeOwnCommit)
    }
}

impl Peers {
    pub(super) fn get(&self, node: NodeId) -> Option<&Peer> {
        self.iter()
            .find(|(id, _)| *id == node)
            .map(|(_, peer)| peer)
    }

    pub(super) fn get_mut(&mut self, node: NodeId) -> Option<&mut Peer> {
        self.iter_mut()
            .find(|(id, _)| *id == node)
            .map(|(_, peer)| peer)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (NodeId, &Peer)> {
        self.0.iter().map(|(node, peer)| (*node, peer))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (NodeId, &mut Peer)> {
        self.0.iter_mut().map(|(node, peer)| (*node, peer))
    }

    /// The peer with this id; adds `new` if there is none.
    pub(super) fn get_or_insert(&mut self, node: NodeId, new: Peer) -> &mut Peer {
        let at = self.0.partition_point(|(id, _)| *id < node);
        if self.0.get(at).is_none_or(|(id, _)| *id != node) {
            self.0.insert(at, (node, new));
        }
        &mut self.0[at].1
    }

    pub(super) fn retain(&mut self, mut keep: impl FnMut(&mut Peer) -> bool) {
        self.0.retain_mut(|(_, peer)| keep(peer));
    }
}
