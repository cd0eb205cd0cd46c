//! Measures the cost of an entry in the consensus cores of three nodes, without I/O: ours, and the
//! crates `raft` and `omnipaxos`, all driven in the same way.
//!
//! - Three nodes run in one thread. One of them leads from the start, and no time passes.
//! - Each proposal has 100 bytes, newly allocated, like a client's request.
//! - Each step drains a node, writes its log to memory and reports it as durable at once, and
//!   passes its messages to the others without encoding. Steps repeat until no node has work.
//! - Every node applies every entry and checks its order and content. A run ends when all three
//!   have applied everything.
//! - Logs are compacted from time to time, so that memory stays bounded.
//!
//! Nothing is tuned for a particular core. Each core batches in its own way: `ProposeMany` for
//! ours, one proposal message with many entries for `raft`, `batch_size` for `omnipaxos`.

#![expect(clippy::missing_panics_doc, reason = "a benchmark may panic on errors")]

mod omni;
mod raft_rs;
mod synod;

use bytes::Bytes;

pub use self::{omni::OmniPaxosGroup, raft_rs::RaftRsGroup, synod::SynodGroup};

/// Nodes in a group.
pub const NODES: usize = 3;

/// Bytes per entry.
pub const ENTRY_BYTES: usize = 100;

/// Entries between two compactions of the logs.
const CUT_EVERY: u64 = 4096;

/// Three nodes with the same core.
pub trait Group {
    /// Proposes these payloads at the leader.
    fn propose(&mut self, payloads: Vec<Bytes>);

    /// Runs all nodes until none has work.
    fn settle(&mut self);

    /// What each node has applied.
    fn applied(&self) -> &[Applied; NODES];

    /// Compacts entries that all nodes have applied.
    fn cut(&mut self);
}

/// What a node's state machine has applied.
#[derive(Debug, Default)]
pub struct Applied(u64);

impl Applied {
    /// Applies an entry, and checks that it is the next one.
    pub(crate) fn apply(&mut self, data: &[u8]) {
        assert_eq!(data, payload(self.0), "an entry is missing or wrong");
        self.0 += 1;
    }

    /// The number of applied entries.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0
    }
}

/// A group, and the number of entries proposed to it.
#[derive(Debug)]
pub struct Load<G> {
    group: G,
    proposed: u64,
    cut_at: u64,
}

impl<G: Group> Load<G> {
    /// Creates a load without proposals.
    pub fn new(group: G) -> Self {
        Self {
            group,
            proposed: 0,
            cut_at: 0,
        }
    }

    /// Proposes a batch and waits until all nodes have applied it.
    pub fn run(&mut self, batch: u64) {
        let payloads = (self.proposed..self.proposed + batch)
            .map(|number| Bytes::copy_from_slice(&payload(number)))
            .collect();
        self.proposed += batch;
        self.group.propose(payloads);
        self.group.settle();
        for applied in self.group.applied() {
            assert_eq!(
                applied.count(),
                self.proposed,
                "a node has not applied everything"
            );
        }
        if self.proposed - self.cut_at >= CUT_EVERY {
            self.cut_at = self.proposed;
            self.group.cut();
        }
    }
}

/// An entry's content: its number, repeated.
fn payload(number: u64) -> [u8; ENTRY_BYTES] {
    let mut bytes = [7; ENTRY_BYTES];
    let (head, tail) = bytes.split_at_mut(8);
    head.copy_from_slice(&number.to_le_bytes());
    tail[ENTRY_BYTES - 16..].copy_from_slice(&number.to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use synod_consensus_core::Algorithm;

    use super::*;

    fn check<G: Group>(group: impl Fn(u64) -> G) {
        for batch in [1, 7, 64] {
            let mut load = Load::new(group(batch));
            for _ in 0..3 * CUT_EVERY / batch {
                load.run(batch);
            }
        }
    }

    #[test]
    fn raft_applies_everything_everywhere() {
        check(|_| SynodGroup::new(Algorithm::Raft));
    }

    #[test]
    fn multi_paxos_applies_everything_everywhere() {
        check(|_| SynodGroup::new(Algorithm::MultiPaxos));
    }

    #[test]
    fn raft_rs_applies_everything_everywhere() {
        check(|_| RaftRsGroup::new());
    }

    #[test]
    fn omnipaxos_applies_everything_everywhere() {
        check(OmniPaxosGroup::new);
    }

    #[test]
    #[should_panic(expected = "an entry is missing or wrong")]
    fn a_lost_entry_is_detected() {
        let mut applied = Applied::default();
        applied.apply(&payload(0));
        applied.apply(&payload(2));
    }
}
