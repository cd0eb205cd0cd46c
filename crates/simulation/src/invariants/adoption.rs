//! A new Multi-Paxos leader proposes what its quorum reported, and omits no slot.

use std::collections::BTreeMap;

use synod_consensus_core::{Entry, EntryKind, Write};
use synod_types::{Ballot, Index, NodeId, RequestId};

use super::{Check, Invariant};
use crate::Algorithm;
use crate::disk_model::{DurableLog, same_entry};

pub(crate) const RULE: Invariant = Invariant {
    name: "adoption",
    source: "Paxos Made Simple §2.2, P2c: the value of the highest-numbered proposal among the responses; \
             §3: gaps are filled by no-ops",
};

/// What a candidate was told in its current ballot.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    ballot: Ballot,
    /// The report with the highest ballot, by slot.
    highest: BTreeMap<Index, Entry>,
}

impl Told {
    /// A promise reaches a candidate.
    pub(super) fn promised(&mut self, ballot: Ballot, entries: &[Entry]) {
        if self.ballot != ballot {
            self.ballot = ballot;
            self.highest.clear();
        }
        for entry in entries {
            let known = self.highest.get(&entry.index);
            if known.is_none_or(|known| known.ballot < entry.ballot) {
                self.highest.insert(entry.index, entry.clone());
            }
        }
    }

    /// A leader proposes in a slot, which is when it accepts its own proposal. `leads` is the
    /// ballot in which it leads, with its commit index.
    pub(super) fn check(
        &self,
        algorithm: Algorithm,
        node: NodeId,
        shadow: &DurableLog,
        write: &Write,
        leads: Option<(Ballot, Index)>,
    ) -> Check {
        let (Write::Put(entry), Some((ballot, commit))) = (write, leads) else {
            return Ok(());
        };
        if algorithm != Algorithm::MultiPaxos || entry.ballot != ballot {
            return Ok(());
        }
        let before = entry.index.prev();
        let follows = before <= commit || shadow.ballot_at(before) == Some(ballot);
        RULE.ensure(follows, || {
            format!("n{node} proposes {entry:?}, and nothing in {before}")
        })?;
        // The leader of a one-node group receives no reports.
        let told = (self.ballot == ballot).then_some(&self.highest);
        let told = |slot| told.and_then(|told| told.get(&slot));
        let own = shadow.entries.get(&entry.index);
        let highest = own
            .into_iter()
            .chain(told(entry.index))
            .max_by_key(|entry| entry.ballot);
        if let Some(expected) = highest {
            return RULE.ensure(same_entry(algorithm, expected, entry), || {
                format!("n{node} proposes {entry:?}, but {expected:?} may be chosen")
            });
        }
        let last = self.last(ballot).max(last_before(shadow, ballot));
        let is_noop = entry.kind == EntryKind::Noop && entry.id == RequestId::NONE;
        RULE.ensure(entry.index > last || is_noop, || {
            format!("n{node} proposes {entry:?} where nothing was accepted, below {last}")
        })
    }

    fn last(&self, ballot: Ballot) -> Index {
        let last = self.highest.keys().next_back().copied();
        last.filter(|_| self.ballot == ballot).unwrap_or_default()
    }
}

/// The last slot in which a node had accepted something before it led in this ballot.
fn last_before(shadow: &DurableLog, ballot: Ballot) -> Index {
    let mut entries = shadow.entries.values().rev();
    let last = entries.find(|entry| entry.ballot < ballot);
    last.map_or(Index::ZERO, |entry| entry.index)
}
