//! What an entry costs in the consensus cores of three nodes, without I/O: ours beside the crates
//! `raft` and `omnipaxos`, all driven in the same way.
//!
//! - Three nodes in one thread, one of them the leader from the start; no time passes.
//! - Each proposal has 100 bytes of its own, freshly allocated, as a request from a client would
//!   be.
//! - A node is drained, its log is written to memory at once and reported as durable, and its
//!   messages go to the others as they are, without encoding. This repeats until nobody has
//!   anything to say.
//! - Every node applies every entry and checks it: right order, right content. A run ends when all
//!   three have applied everything.
//! - Logs are cut from time to time, so that memory stays bounded.
//!
//! Nothing here is tuned for one of them. Batches go in the way that each offers: `ProposeMany` for
//! ours, one proposal message with many entries for `raft`, `batch_size` for `omnipaxos`.

#![expect(
    clippy::missing_panics_doc,
    reason = "a benchmark: whatever goes wrong ends it"
)]

mod omni;
mod raft_rs;
mod synod;

use bytes::Bytes;

pub use self::{omni::OmniPaxosGroup, raft_rs::RaftRsGroup, synod::SynodGroup};

/// Nodes of a group.
pub const NODES: usize = 3;

/// Bytes of an entry.
pub const ENTRY_BYTES: usize = 100;

/// Entries between two cuts of the logs.
const CUT_EVERY: u64 = 4096;

/// Three nodes of one core.
pub trait Group {
    /// Proposes these at the leader.
    fn propose(&mut self, payloads: Vec<Bytes>);

    /// Lets everyone do everything until all is quiet.
    fn settle(&mut self);

    /// What each node has applied.
    fn applied(&self) -> &[Applied; NODES];

    /// Forgets entries that everybody has applied, from all logs.
    fn cut(&mut self);
}

/// What a node's state machine has seen.
#[derive(Debug, Default)]
pub struct Applied(u64);

impl Applied {
    /// Takes the next entry and checks that it is the next.
    pub(crate) fn apply(&mut self, data: &[u8]) {
        assert_eq!(data, payload(self.0), "an entry is missing or wrong");
        self.0 += 1;
    }

    /// Entries so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0
    }
}

/// A group and how much was proposed to it.
#[derive(Debug)]
pub struct Load<G> {
    group: G,
    proposed: u64,
    cut_at: u64,
}

impl<G: Group> Load<G> {
    /// Nothing proposed yet.
    pub fn new(group: G) -> Self {
        Self {
            group,
            proposed: 0,
            cut_at: 0,
        }
    }

    /// Proposes a batch and waits until everybody has applied it.
    pub fn run(&mut self, batch: u64) {
        let payloads = (self.proposed..self.proposed + batch)
            .map(|number| Bytes::copy_from_slice(&payload(number)))
            .collect();
        self.proposed += batch;
        self.group.propose(payloads);
        self.group.settle();
        for applied in self.group.applied() {
            assert_eq!(applied.count(), self.proposed, "not everybody applied");
        }
        if self.proposed - self.cut_at >= CUT_EVERY {
            self.cut_at = self.proposed;
            self.group.cut();
        }
    }
}

/// An entry's content: its number, all over.
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
    fn a_lost_entry_is_noticed() {
        let mut applied = Applied::default();
        applied.apply(&payload(0));
        applied.apply(&payload(2));
    }
}
