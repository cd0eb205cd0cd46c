//! The parts of a follower that all algorithms share: commits, acknowledgements and snapshots (Raft
//! §5.3, §7).

use synod_types::{Index, NodeId};

use super::{Asked, Core, Part, Protocol};
use crate::mutants::{Mutant, is_active};
use crate::{Install, Rejected, SnapshotMeta};

impl<P: Protocol> Core<P> {
    pub(super) fn set_commit(&mut self, commit: Index) {
        let before = self.commit;
        if commit > before {
            assert!(commit <= self.log.last().index, "commits are in the log");
            self.commit = commit;
            P::committed(self, before);
        }
    }

    /// Acknowledges what is durable here to the leader: one acknowledgement for everything that
    /// arrived since the last `Ready`.
    pub(super) fn acknowledge(&mut self, leader: NodeId, matched: Index) {
        for message in self.out.messages_after_persist.iter_mut().rev() {
            if message.to == leader
                && message.ballot == self.ballot
                && let Some(earlier) = P::acknowledged(&mut message.body)
            {
                *earlier = matched.max(*earlier);
                return;
            }
        }
        let body = P::acknowledgement(matched);
        if is_active(Mutant::AckAheadOfDurability) && self.storage.is_written(matched) {
            self.send(leader, body);
        } else {
            self.send_durable(leader, body);
        }
    }

    pub(super) fn on_snapshot(&mut self, from: NodeId, meta: SnapshotMeta) -> Result<(), Rejected> {
        if meta.last.ballot > self.ballot || meta.membership.validate().is_err() {
            return Err(Rejected::InvalidMessage);
        }
        self.heard_leader(from, Asked::default())?;
        P::learn_commit(self, meta.last);
        if meta.last.index <= self.commit {
            self.acknowledge(from, self.commit);
        } else if self.installing.is_none() {
            // Nothing is handed out for applying until the installation has succeeded or failed.
            self.installing = Some(meta.last);
            self.out.install = Some(Box::new(Install { meta, from }));
        }
        Ok(())
    }

    /// The state machine durably holds the state at `meta`.
    pub(super) fn on_installed(&mut self, meta: SnapshotMeta) -> Result<(), Rejected> {
        let last = meta.last;
        let known = P::knows(self, last);
        if last.index < self.handed
            || last.index == Index::MAX
            || !P::is_ballot(last.ballot)
            || (!known && (last.index <= self.commit || matches!(self.part, Part::Leader(_))))
            || meta.membership.validate().is_err()
        {
            // Not a snapshot of this group's committed state, or not requested.
            return Err(Rejected::InvalidMessage);
        }
        self.installing = None;
        if last.ballot > self.ballot {
            // The peer's snapshot is from after the ballot in which it was offered.
            self.become_follower(last.ballot, None);
        }
        if !known {
            let was_inside = self.configs.at(self.commit).contains(self.config.id);
            let is_inside = meta.membership.contains(self.config.id);
            self.removed = !is_inside && (self.removed || was_inside);
            let membership = if is_active(Mutant::MembershipSurvivesSnapshot) {
                self.configs.at(self.commit).clone()
            } else {
                meta.membership.clone()
            };
            self.configs = super::members::Configs::new(last.index, membership);
            P::replace_log(self, meta);
            self.commit = last.index;
        }
        self.handed = last.index;
        self.applied = last.index;
        self.set_commit(last.index);
        if let Some(leader) = self.leader.filter(|leader| *leader != self.config.id) {
            self.acknowledge(leader, last.index);
        }
        Ok(())
    }
}
