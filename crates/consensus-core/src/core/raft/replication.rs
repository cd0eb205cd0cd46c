//! Appends and their results (Raft §5.3).
//!
//! An acknowledgement claims durability, so it is sent after persistence, even if the entries were
//! here before: they may still be in flight to the disk. A rejection claims nothing and is sent at
//! once.

use bytes::Bytes;
use synod_types::{Index, LogPosition, NodeId};

use super::{Protocol, RaftRules};
use crate::core::{Asked, Core, Part};
use crate::mutants::{Mutant, is_active};
use crate::{AppendOutcome, ConfigCommand, Entry, EntryKind, Membership, RaftBody, Rejected};

impl Core<RaftRules> {
    pub(super) fn on_append(
        &mut self,
        from: NodeId,
        prev: LogPosition,
        mut entries: Vec<Entry>,
        commit: Index,
    ) -> Result<(), Rejected> {
        self.check_entries(prev, &entries)?;
        self.heard_leader(from, Asked::default())?;
        let sent_last = prev.index.plus(entries.len() as u64);
        // Committed entries are equal on the leader and may be compacted here, so only check the
        // rest.
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
            self.send(from, RaftBody::AppendReply { outcome });
            return Ok(());
        }
        let mut fresh = entries.iter().filter(|e| e.index > anchor.index);
        if fresh.next().is_some_and(|e| e.ballot < anchor.ballot) {
            return Err(Rejected::InvalidMessage);
        }
        let mut last = self.log.last().index;
        for entry in entries.drain(..) {
            if entry.index <= last {
                if entry.index <= anchor.index || self.log.matches(entry.position()) {
                    continue;
                }
                self.truncate_from(entry.index);
                last = entry.index;
            }
            let config = (entry.kind == EntryKind::Config).then(|| entry.data.clone());
            self.log.push(entry);
            if let Some(data) = config
                && !is_active(Mutant::ConfigAtApply)
            {
                RaftRules::config_appended(self, membership_in(data)?);
            }
        }
        self.spare = entries;
        let matched = sent_last.max(anchor.index);
        self.set_commit(commit.min(matched));
        self.acknowledge(from, matched);
        Ok(())
    }

    /// Whether these follow `prev` as a leader's entries must.
    fn check_entries(&self, prev: LogPosition, entries: &[Entry]) -> Result<(), Rejected> {
        let mut before = prev;
        for entry in entries {
            if entry.index != before.index.next()
                || entry.ballot < before.ballot
                || entry.ballot > self.ballot
            {
                return Err(Rejected::InvalidMessage);
            }
            if entry.kind == EntryKind::Config {
                membership_in(entry.data.clone())?;
            }
            before = entry.position();
        }
        Ok(())
    }

    /// Drops entries that a leader replaces; never committed ones.
    fn truncate_from(&mut self, index: Index) {
        assert!(index > self.commit, "committed entries never change");
        self.log.truncate_from(index);
        self.storage.truncate_from(index);
        self.configs.truncate_from(index);
    }

    pub(super) fn on_append_reply(
        &mut self,
        from: NodeId,
        outcome: AppendOutcome,
    ) -> Result<(), Rejected> {
        if !matches!(self.part, Part::Leader(_)) {
            return Ok(());
        }
        match outcome {
            AppendOutcome::Matched(matched) if matched > self.log.last().index => {
                return Err(Rejected::InvalidMessage);
            }
            AppendOutcome::Matched(matched) => self.on_matched(from, matched),
            AppendOutcome::Rejected { at, hint } => {
                let agreed = self.log.last_at_most(hint).index;
                self.on_lacking(from, at, agreed);
            }
        }
        Ok(())
    }
}

/// The membership in a configuration entry.
fn membership_in(data: Bytes) -> Result<Membership, Rejected> {
    let command = ConfigCommand::decode(data).map_err(|_| Rejected::InvalidMessage)?;
    Ok(command.membership)
}
