//! Phase 2: the leader proposes ("Paxos Made Simple" §3), and changes the membership.
//!
//! A configuration command in slot i governs the slots after i. Nothing is proposed in those before
//! it is chosen ("Reconfiguring a state machine" §3.1, with a window of one), so a node that has
//! something in a later slot knows that it is chosen. It is chosen when majorities of both the old
//! and the new voters hold everything up to it. Until then leases and reads need both, too.

use std::collections::BTreeMap;

use synod_types::{Index, NodeId, RequestId};

use super::{Origin, PaxosRules, Protocol, Queued};
use crate::core::{Core, Part};
use crate::mutants::{Mutant, is_active};
use crate::{ConfigCommand, Entry, EntryFields, EntryKind};

impl Core<PaxosRules> {
    /// Proposes in this ballot what was adopted for each slot, and no-ops in the gaps; then the
    /// first entry of its own.
    pub(super) fn begin_phase2(
        &mut self,
        mut adopted: BTreeMap<Index, Entry>,
        matched: Vec<(NodeId, Index)>,
    ) {
        let commit = self.commit;
        let last = adopted
            .keys()
            .next_back()
            .map_or(commit, |last| commit.max(*last));
        // Earlier accepted values stay in place until they are accepted again.
        self.storage.rewrite_from(commit.next());
        self.log.open_gap(commit.next());
        self.lead(last.next());
        if let Part::Leader(leading) = &mut self.part {
            for (node, matched) in matched {
                if let Some(peer) = leading.peers.get_mut(node) {
                    peer.acknowledge(matched.min(commit));
                    peer.replicate();
                }
            }
        }
        let mut slot = commit.next();
        while slot <= last {
            let value = match adopted.remove(&slot) {
                Some(entry) => Queued {
                    id: entry.id,
                    kind: entry.kind,
                    data: entry.data.clone(),
                    origin: Origin::Recovered,
                },
                None if is_active(Mutant::GapSkipped) => {
                    slot = slot.next();
                    continue;
                }
                None => Queued {
                    id: RequestId::NONE,
                    kind: EntryKind::Noop,
                    data: bytes::Bytes::new(),
                    origin: Origin::Recovered,
                },
            };
            self.propose_value(value);
            slot = slot.next();
        }
        self.append_noop();
        self.broadcast_heartbeat();
    }

    /// Phase 2a for the next slot, once the configuration that governs it is chosen. It is sent and
    /// written with the next `Ready`, in parallel.
    pub(super) fn propose_value(&mut self, value: Queued) {
        if self.configs.pending().is_some() && !is_active(Mutant::SlotsPastOpenConfig) {
            self.rules.queued_bytes += value.data.len() as u64 + Entry::OVERHEAD_BYTES;
            self.rules.queue.push_back(value);
            return;
        }
        let index = self.log.last().index.next();
        self.log.take_after_gap(index);
        let recovered = value.origin == Origin::Recovered && value.kind == EntryKind::Config;
        let config = recovered.then(|| ConfigCommand::decode(value.data.clone()));
        let entry = EntryFields {
            index,
            ballot: self.ballot,
            id: value.id,
            kind: value.kind,
            data: value.data,
        };
        self.log.push(entry.into());
        if let Some(Ok(command)) = config {
            PaxosRules::config_appended(self, command.membership);
        }
    }

    /// Drops the queue: this node no longer leads and will not propose these values.
    pub(super) fn drop_queue(&mut self) {
        let reason = self.not_leader();
        self.rules.queued_bytes = 0;
        for value in std::mem::take(&mut self.rules.queue) {
            if value.id == RequestId::NONE {
                continue;
            }
            match value.origin {
                Origin::Local => self.out.dropped.push((value.id, reason)),
                Origin::Remote(node) => self.refuse_forward(node, vec![value.id], reason),
                Origin::Recovered => {}
            }
        }
    }

    /// A peer accepted. It may know more chosen slots than this leader has proposed so far.
    pub(super) fn on_accepted(&mut self, from: NodeId, upto: Index) {
        let matched = upto.min(self.log.last().index);
        self.on_matched(from, matched);
    }

    /// The slots after `before` up to the commit index were chosen.
    pub(super) fn slots_chosen(&mut self, before: Index) {
        let range = self.log.range(before.next(), self.commit);
        let configs: Vec<&Entry> = range.filter(|e| e.kind == EntryKind::Config).collect();
        if !configs.is_empty() {
            let configs = configs.into_iter().filter_map(|entry| {
                let command = ConfigCommand::decode(entry.data.clone()).ok()?;
                Some((entry.index, command.membership))
            });
            let configs: Vec<_> = configs.collect();
            self.configs.withdraw();
            for (index, membership) in configs {
                self.configs.push(index, membership);
            }
            if let Some(removed) = self.configs.removes(self.config.id, before, self.commit) {
                self.removed = removed;
            }
            self.sync_peers();
            self.propose_queued();
        }
        let stays = self.configs.current().voters.contains(&self.config.id);
        let is_known = self.commit > self.configs.current_index();
        if let Part::Leader(leading) = &mut self.part
            && is_known
            && !stays
            && self.configs.pending().is_none()
        {
            // Not earlier, because then the new voters would not know that they are voters.
            leading.resigning = true;
        }
    }

    /// A configuration was chosen, so the slots after it are open.
    fn propose_queued(&mut self) {
        if !matches!(self.part, Part::Leader(_)) {
            return;
        }
        let chosen = self.configs.current_index();
        while self.configs.pending().is_none()
            && let Some(value) = self.rules.queue.pop_front()
        {
            self.rules.queued_bytes -= value.data.len() as u64 + Entry::OVERHEAD_BYTES;
            self.propose_value(value);
        }
        if self.log.last().index == chosen {
            // Perhaps no further proposal comes, and the configuration is handed out only with the
            // entry after it.
            self.append_noop();
        }
    }
}
