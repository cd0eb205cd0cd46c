//! Membership: which configuration is in effect, and changes of it (Raft thesis §4.3).
//!
//! A configuration takes effect when it is appended, committed or not, on leaders and followers alike; a
//! truncation takes it back. Votes are counted by the candidate's configuration: a voter answers whoever
//! asks, since it may not have the entry that made it a voter.

use std::collections::VecDeque;

use synod_types::{Index, NodeId, RequestId};

use super::{Leading, Part, Raft, peer::Peer};
use crate::{Change, ConfigCommand, EntryKind, MemberChange, Membership, PeerMode, Rejected};

/// The configurations in the log, each with its index. The first is the one at or before the log's start;
/// there is always one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Configs {
    first: (Index, Membership),
    later: VecDeque<(Index, Membership)>,
}

impl Configs {
    pub(super) fn new(index: Index, membership: Membership) -> Self {
        Self {
            first: (index, membership),
            later: VecDeque::new(),
        }
    }

    /// The one in effect.
    pub(super) fn current(&self) -> &Membership {
        &self.last().1
    }

    pub(super) fn current_index(&self) -> Index {
        self.last().0
    }

    fn last(&self) -> &(Index, Membership) {
        self.later.back().unwrap_or(&self.first)
    }

    /// The one as of `index`, which is not before the log's start.
    pub(super) fn at(&self, index: Index) -> &Membership {
        let later = self.later.iter().rev().find(|(i, _)| *i <= index);
        &later.unwrap_or(&self.first).1
    }

    pub(super) fn push(&mut self, index: Index, membership: Membership) {
        self.later.push_back((index, membership));
    }

    /// Whether this took any back.
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

    /// Whether the commits after `from` up to `to` end with `node` outside, having had it inside. A node
    /// that reads an old log sees many configurations without it, before it was added: that is no removal.
    fn removes(&self, node: NodeId, from: Index, to: Index) -> Option<bool> {
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

impl Raft {
    pub(super) fn membership(&self) -> &Membership {
        self.configs.current()
    }

    pub(super) fn change_members(&mut self, change: MemberChange) -> Result<(), Rejected> {
        let next = self.plan_change(&change.changes)?;
        let command = ConfigCommand {
            membership: next,
            context: change.context,
        };
        let data = command.encode();
        if data.len() as u64 > self.config.max_entry_bytes {
            return Err(Rejected::TooLarge);
        }
        self.append_own(change.id, EntryKind::Config, data);
        self.config_appended(command.membership);
        Ok(())
    }

    /// Checks a change on the leader.
    fn plan_change(&self, changes: &[Change]) -> Result<Membership, Rejected> {
        let leading = self.accepting_leader()?;
        // Also with joint consensus: the commit of an own entry settles whether a predecessor's
        // configuration, still in our log, was committed.
        if self.commit < leading.first_own {
            return Err(Rejected::LeaderNotReady);
        }
        if self.membership().is_joint() || self.configs.current_index() > self.commit {
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
            .get(&node)
            .is_some_and(|peer| self.now.since(peer.heard_at) < self.config.election_ticks)
    }

    /// Whether a learner has at least 90 % of the log, as etcd asks of it.
    fn is_caught_up(&self, leading: &Leading, node: NodeId) -> bool {
        let last = self.log.last().index.get();
        self.is_healthy(leading, node)
            && leading.peers.get(&node).is_some_and(|peer| {
                peer.mode != PeerMode::Snapshot
                    && peer.matched.get().saturating_mul(10) >= last.saturating_mul(9)
            })
    }

    /// A configuration entry is now the last in the log.
    pub(super) fn config_appended(&mut self, membership: Membership) {
        let index = self.log.last().index;
        self.configs.push(index, membership);
        self.sync_peers();
    }

    /// Makes the leader's peers those of the configuration in effect.
    pub(super) fn sync_peers(&mut self) {
        let members = self.configs.current().members();
        let index = self.configs.current_index();
        let next = self.log.last().index.next();
        let Part::Leader(leading) = &mut self.part else {
            return;
        };
        for node in members.iter().filter(|node| **node != self.config.id) {
            let now = self.now;
            let peer = leading
                .peers
                .entry(*node)
                .or_insert_with(|| Peer::new(next, now));
            peer.removed_at = None;
            peer.forget_at = None;
        }
        for (node, peer) in &mut leading.peers {
            if !members.contains(node) && peer.removed_at.is_none() {
                peer.removed_at = Some(index);
            }
        }
        if let Some(transfer) = &leading.transfer
            && !self.configs.current().voters.contains(&transfer.to)
        {
            self.abort_transfer();
        }
    }

    /// Entries after `before` were committed.
    pub(super) fn config_committed(&mut self, before: Index) {
        if let Some(removed) = self.configs.removes(self.config.id, before, self.commit) {
            self.removed = removed;
        }
        let Part::Leader(leading) = &mut self.part else {
            return;
        };
        // The end of a joint configuration follows by itself once its begin is committed. A new leader
        // that finds one has committed an entry of its own here: its commit index grows by no other way.
        if self.configs.current_index() > self.commit {
            return;
        }
        if self.configs.current().is_joint() {
            let command = ConfigCommand {
                membership: self.configs.current().leave(),
                context: bytes::Bytes::new(),
            };
            self.append_own(RequestId::NONE, EntryKind::Config, command.encode());
            self.config_appended(command.membership);
        } else if !self.configs.current().voters.contains(&self.config.id) {
            // A leader that is no longer a voter leads until that is committed (Raft thesis §4.2.2).
            leading.resigning = true;
        }
    }

    /// Drops peers that have learned of their removal, or had the time to.
    pub(super) fn forget_removed_peers(&mut self) {
        let Part::Leader(leading) = &mut self.part else {
            return;
        };
        let (commit, now) = (self.commit, self.now);
        let patience = self.config.election_ticks;
        leading.peers.retain(|_, peer| {
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
