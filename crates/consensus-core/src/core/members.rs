//! Membership: the configuration in effect, and its changes (Raft thesis §4.3).
//!
//! In Raft a configuration takes effect when it is appended, committed or not, on leaders and
//! followers alike; a truncation reverts it. Votes are counted by the candidate's configuration. A
//! voter answers any candidate, since it may not have the entry that made it a voter.

use std::collections::VecDeque;

use synod_types::{Index, NodeId};

use super::{Core, Leading, Part, Protocol, peer::Peer};
use crate::mutants::{Mutant, is_active};
use crate::{Change, ConfigCommand, EntryKind, MemberChange, Membership, PeerMode, Rejected};

/// The configurations in the log with their indexes. There is always at least one; the first is at
/// or before the log's start.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Configs {
    first: (Index, Membership),
    later: VecDeque<(Index, Membership)>,
    /// Multi-Paxos: a configuration that is proposed and not chosen yet, after all others.
    pending: Option<Pending>,
}

/// A non-joint configuration between two sets of voters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Pending {
    pub(super) index: Index,
    pub(super) next: Membership,
    /// The members that count until it is chosen: a majority of each set is needed.
    both: Membership,
}

impl Configs {
    pub(super) fn new(index: Index, membership: Membership) -> Self {
        Self {
            first: (index, membership),
            later: VecDeque::new(),
            pending: None,
        }
    }

    /// The configuration by which quorums are counted.
    pub(super) fn current(&self) -> &Membership {
        match &self.pending {
            None => &self.last().1,
            Some(pending) => &pending.both,
        }
    }

    /// The last configuration in the log (Raft), or the last one chosen.
    pub(super) fn decided(&self) -> &Membership {
        &self.last().1
    }

    /// Whether a configuration is not committed yet.
    pub(super) fn is_open(&self, commit: Index) -> bool {
        self.pending.is_some() || self.current_index() > commit
    }

    pub(super) fn pending(&self) -> Option<&Pending> {
        self.pending.as_ref()
    }

    /// From now on both the current voters and those of `next`, proposed at `index`, count.
    pub(super) fn propose(&mut self, index: Index, next: Membership) {
        let now = &self.last().1;
        let learners = now.learners.union(&next.learners).copied();
        let votes = |node: &NodeId| now.voters.contains(node) || next.voters.contains(node);
        let both = Membership {
            voters: next.voters.clone(),
            outgoing: if is_active(Mutant::NoJointConfiguration) {
                Default::default()
            } else {
                now.voters.clone()
            },
            learners: learners.filter(|node| !votes(node)).collect(),
            ..Membership::default()
        };
        self.pending = Some(Pending { index, next, both });
    }

    /// Reverts a proposed configuration.
    pub(super) fn withdraw(&mut self) {
        self.pending = None;
    }

    pub(super) fn current_index(&self) -> Index {
        self.last().0
    }

    fn last(&self) -> &(Index, Membership) {
        self.later.back().unwrap_or(&self.first)
    }

    /// The configuration at `index`, which is not before the log's start.
    pub(super) fn at(&self, index: Index) -> &Membership {
        let later = self.later.iter().rev().find(|(i, _)| *i <= index);
        &later.unwrap_or(&self.first).1
    }

    pub(super) fn push(&mut self, index: Index, membership: Membership) {
        self.later.push_back((index, membership));
    }

    /// Returns whether any configuration was removed.
    pub(super) fn truncate_from(&mut self, index: Index) -> bool {
        let before = self.later.len();
        while self.later.back().is_some_and(|(i, _)| *i >= index) {
            self.later.pop_back();
        }
        before != self.later.len()
    }

    pub(super) fn compact(&mut self, index: Index) {
        while let Some((i, _)) = self.later.front()
            && *i <= index
        {
            if let Some(config) = self.later.pop_front() {
                self.first = config;
            }
        }
    }

    /// Whether the commits after `from` up to `to` end without `node` after having included it. A
    /// node that reads an old log sees many configurations without it from before it was added;
    /// those are not removals.
    pub(super) fn removes(&self, node: NodeId, from: Index, to: Index) -> Option<bool> {
        if self.later.is_empty() {
            return None;
        }
        let mut inside = self.at(from).contains(node);
        let mut removed = None;
        for (index, membership) in &self.later {
            if *index > from && *index <= to {
                let now = membership.contains(node);
                if inside != now {
                    removed = Some(!now);
                }
                inside = now;
            }
        }
        removed
    }
}

impl<P: Protocol> Core<P> {
    pub(super) fn membership(&self) -> &Membership {
        self.configs.current()
    }

    pub(super) fn change_members(&mut self, change: MemberChange) -> Result<(), Rejected> {
        let next = self.plan_change(&change.changes)?;
        let command = ConfigCommand {
            membership: P::proposed(next),
            context: change.context,
        };
        let data = command.encode();
        if data.len() as u64 > self.config.max_entry_bytes {
            return Err(Rejected::TooLarge);
        }
        P::append_own(self, change.id, EntryKind::Config, data, None);
        P::config_appended(self, command.membership);
        Ok(())
    }

    /// Checks a change on the leader.
    fn plan_change(&self, changes: &[Change]) -> Result<Membership, Rejected> {
        let leading = self.accepting_leader()?;
        // Also with joint consensus: the commit of an own entry settles whether a predecessor's
        // configuration in our log was committed.
        if self.commit < leading.first_own && !is_active(Mutant::ChangeBeforeOwnCommit) {
            return Err(Rejected::LeaderNotReady);
        }
        if self.membership().is_joint() || self.configs.is_open(self.commit) {
            return Err(Rejected::ConfigChangeInFlight);
        }
        let next = self
            .membership()
            .change(changes)
            .map_err(Rejected::InvalidChange)?;
        for change in changes {
            if let Change::Promote(node) = change
                && !self.is_caught_up(leading, *node)
            {
                return Err(Rejected::LearnerNotReady);
            }
        }
        if self.config.strict_reconfig
            && next.is_joint()
            && !next.is_quorum(|node| node == self.config.id || self.is_healthy(leading, node))
        {
            return Err(Rejected::UnhealthyQuorum);
        }
        Ok(next)
    }

    fn is_healthy(&self, leading: &Leading, node: NodeId) -> bool {
        leading
            .peers
            .get(node)
            .is_some_and(|peer| self.now.since(peer.heard_at) < self.config.election_ticks)
    }

    /// Whether a learner has at least 90 % of the log, as etcd requires.
    fn is_caught_up(&self, leading: &Leading, node: NodeId) -> bool {
        let last = self.log.last().index.get();
        self.is_healthy(leading, node)
            && leading.peers.get(node).is_some_and(|peer| {
                peer.mode != PeerMode::Snapshot
                    && peer.matched.get().saturating_mul(10) >= last.saturating_mul(9)
            })
    }

    /// Makes the leader's peers match the configuration in effect.
    pub(super) fn sync_peers(&mut self) {
        let members = self.configs.current().members();
        let farewell = P::farewell(self.configs.current_index());
        let next = self.log.last().index.next();
        let Part::Leader(leading) = &mut self.part else {
            return;
        };
        for node in members.iter().filter(|node| **node != self.config.id) {
            let new = Peer::new(next, self.now);
            let peer = leading.peers.get_or_insert(*node, new);
            peer.removed_at = None;
            peer.forget_at = None;
        }
        for (node, peer) in leading.peers.iter_mut() {
            if !members.contains(&node) && peer.removed_at.is_none() {
                peer.removed_at = Some(farewell);
            }
        }
        if let Some(transfer) = &leading.transfer
            && !self.configs.current().voters.contains(&transfer.to)
        {
            self.abort_transfer();
        }
    }

    /// Drops removed peers that know of their removal, or had enough time to learn of it.
    pub(super) fn forget_removed_peers(&mut self) {
        let Part::Leader(leading) = &mut self.part else {
            return;
        };
        let (commit, now) = (self.commit, self.now);
        let patience = self.config.election_ticks;
        leading.peers.retain(|peer| {
            let Some(removed_at) = peer.removed_at else {
                return true;
            };
            if commit < removed_at {
                return true;
            }
            let forget_at = *peer.forget_at.get_or_insert(now.plus(patience));
            now < forget_at && (peer.matched < removed_at || peer.told_commit < removed_at)
        });
    }
}
