//! The follower's side of replication (Raft §5.3, §7).
//!
//! An acknowledgement claims durability, so it leaves after persistence, also where the entries were here
//! before: they may still be on their way to the disk. Refusals claim nothing and leave at once.

use synod_types::{Index, LogPosition, NodeId};

use super::Raft;
use crate::{
    AppendOutcome, Body, ConfigCommand, Entry, EntryKind, Install, Membership, Rejected,
    SnapshotMeta,
};

impl Raft {
    pub(super) fn on_append(
        &mut self,
        from: NodeId,
        prev: LogPosition,
        entries: Vec<Entry>,
        commit: Index,
    ) -> Result<(), Rejected> {
        let configs = self.check_entries(prev, &entries)?;
        self.heard_leader(from, None)?;
        let sent_last = prev.index.plus(entries.len() as u64);
        // What is committed is equal on the leader, and may be compacted here: only look at the rest.
        let anchor = if prev.index < self.commit {
            self.log.position_at(self.commit).unwrap_or(prev)
        } else {
            prev
        };
        if !self.log.matches(anchor) {
            let hint = self.log.last_at_most(LogPosition {
                ballot: anchor.ballot,
                index: anchor.index.min(self.log.last().index),
            });
            let outcome = AppendOutcome::Rejected {
                at: prev.index,
                hint,
            };
            self.send(from, Body::AppendReply { outcome });
            return Ok(());
        }
        let mut fresh = entries.iter().filter(|e| e.index > anchor.index);
        if fresh.next().is_some_and(|e| e.ballot < anchor.ballot) {
            return Err(Rejected::InvalidMessage);
        }
        let mut configs = configs.into_iter();
        for entry in entries {
            let config = if entry.kind == EntryKind::Config {
                configs.next()
            } else {
                None
            };
            if entry.index <= anchor.index || self.log.matches(entry.position()) {
                continue;
            }
            self.truncate_from(entry.index);
            self.log.push(entry);
            if let Some(membership) = config {
                self.config_appended(membership);
            }
        }
        let matched = sent_last.max(anchor.index);
        self.set_commit(commit.min(matched));
        self.acknowledge(from, matched);
        Ok(())
    }

    /// The memberships in these entries, which follow `prev` as a leader's must.
    fn check_entries(
        &self,
        prev: LogPosition,
        entries: &[Entry],
    ) -> Result<Vec<Membership>, Rejected> {
        let mut before = prev;
        let mut configs = Vec::new();
        for entry in entries {
            if entry.index != before.index.next()
                || entry.ballot < before.ballot
                || entry.ballot > self.ballot
            {
                return Err(Rejected::InvalidMessage);
            }
            if entry.kind == EntryKind::Config {
                let command = ConfigCommand::decode(entry.data.clone())
                    .map_err(|_| Rejected::InvalidMessage)?;
                configs.push(command.membership);
            }
            before = entry.position();
        }
        Ok(configs)
    }

    /// Drops entries that a leader replaces. Never committed ones.
    fn truncate_from(&mut self, index: Index) {
        if index > self.log.last().index {
            return;
        }
        assert!(index > self.commit, "committed entries never change");
        self.log.truncate_from(index);
        self.storage.truncate_from(index);
        self.configs.truncate_from(index);
    }

    fn acknowledge(&mut self, leader: NodeId, matched: Index) {
        // One acknowledgement for all appends since the last Ready.
        for message in self.out.messages_after_persist.iter_mut().rev() {
            if message.to == leader
                && message.ballot == self.ballot
                && let Body::AppendReply {
                    outcome: AppendOutcome::Matched(earlier),
                } = &mut message.body
            {
                *earlier = matched.max(*earlier);
                return;
            }
        }
        let outcome = AppendOutcome::Matched(matched);
        self.send_durable(leader, Body::AppendReply { outcome });
    }

    /// The leader has committed up to an entry: so have we, if we have that very entry.
    pub(super) fn learn_commit(&mut self, commit: LogPosition) {
        if self.log.matches(commit) {
            self.set_commit(commit.index);
        }
    }

    pub(super) fn set_commit(&mut self, commit: Index) {
        let before = self.commit;
        if commit > before {
            assert!(commit <= self.log.last().index, "commits are in the log");
            self.commit = commit;
            self.config_committed(before);
        }
    }

    pub(super) fn on_snapshot(&mut self, from: NodeId, meta: SnapshotMeta) -> Result<(), Rejected> {
        if meta.last.ballot > self.ballot || meta.membership.validate().is_err() {
            return Err(Rejected::InvalidMessage);
        }
        self.heard_leader(from, None)?;
        self.learn_commit(meta.last);
        if meta.last.index <= self.commit {
            self.acknowledge(from, self.commit);
        } else if self.installing.is_none() {
            // Nothing is handed out for applying until this is done, one way or the other.
            self.installing = Some(meta.last);
            self.out.install = Some(Install { meta, from });
        }
        Ok(())
    }

    /// The state machine stands at `meta` now, durably.
    pub(super) fn on_installed(&mut self, meta: SnapshotMeta) -> Result<(), Rejected> {
        let last = meta.last;
        let known = self.log.matches(last);
        if last.index < self.handed
            || !super::is_term(last.ballot)
            || (!known && last.index <= self.commit)
            || meta.membership.validate().is_err()
        {
            // Not a snapshot of this group's committed state.
            return Err(Rejected::InvalidMessage);
        }
        self.installing = None;
        if last.ballot > self.ballot {
            // The peer had a snapshot from after the ballot in which it was offered.
            self.become_follower(last.ballot, None);
        }
        if !known {
            let was_inside = self.configs.at(self.commit).contains(self.config.id);
            let is_inside = meta.membership.contains(self.config.id);
            self.removed = !is_inside && (self.removed || was_inside);
            self.log.reset(last);
            self.configs = super::members::Configs::new(last.index, meta.membership.clone());
            self.storage.reset(meta);
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
