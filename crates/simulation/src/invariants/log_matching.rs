//! An entry's position determines its content, and in Raft also everything before it.

use std::collections::BTreeMap;

use bytes::Bytes;
use synod_consensus_core::Write;
use synod_types::{Ballot, Index, NodeId, RequestId};

use super::{Check, Invariant};
use crate::Algorithm;
use crate::disk_model::DurableLog;

pub(crate) const RULE: Invariant = Invariant {
    name: "log-matching",
    source: "Raft §5.3 and Figure 3; Paxos Made Simple §2.2: a proposal has one value",
};

/// Every entry ever written, with the position before it.
#[derive(Default)]
pub(super) struct Written {
    seen: BTreeMap<(Index, Ballot), (Option<Ballot>, RequestId, Bytes)>,
}

impl Written {
    pub(super) fn check(
        &mut self,
        algorithm: Algorithm,
        node: NodeId,
        before: &DurableLog,
        write: &Write,
    ) -> Check {
        let Write::Put(entry) = write else {
            return Ok(());
        };
        let previous = match algorithm {
            Algorithm::Raft => before.ballot_at(entry.index.prev()),
            Algorithm::MultiPaxos => None,
        };
        let now = (previous, entry.id, entry.data.clone());
        let known = self
            .seen
            .entry((entry.index, entry.ballot))
            .or_insert_with(|| now.clone());
        RULE.ensure(*known == now, || {
            format!("n{node} writes {entry:?} after {previous:?}, but there was {known:?}")
        })
    }
}
