//! Election timeouts are drawn again each time, so that two nodes with the same timeout don't split
//! the vote forever.

use std::collections::BTreeMap;

use synod_consensus_core::{Body, CommonBody, Message};
use synod_types::{NodeId, Tick};

use super::{Check, Invariant};

pub(crate) const RULE: Invariant = Invariant {
    name: "timeouts",
    source: "Raft §5.2: each candidate restarts its randomized election timeout at the start of an election",
};

/// This many equal intervals in a row are not a coincidence: each is drawn from at least fifteen
/// values.
const MAX_EQUAL: u32 = 8;
/// The shortest election timeout, in ticks. Earlier campaigns were requested by the shell.
const SHORTEST: u64 = 30;

/// A node's campaigns.
#[derive(Clone, Copy, Debug, Default)]
struct Campaigns {
    at: Tick,
    distance: u64,
    equal: u32,
}

/// When nodes requested pre-votes, by their own clocks.
#[derive(Default)]
pub(super) struct Timeouts {
    nodes: BTreeMap<NodeId, Campaigns>,
}

impl Timeouts {
    /// Called when a message leaves its node.
    pub(super) fn check(&mut self, tick: Tick, message: &Message) -> Check {
        let Body::Common(CommonBody::PreVote { .. }) = &message.body else {
            return Ok(());
        };
        let known = self.nodes.entry(message.from).or_default();
        let distance = tick.since(known.at);
        if distance == 0 {
            return Ok(());
        }
        known.equal = if distance == known.distance && distance >= SHORTEST {
            known.equal + 1
        } else {
            0
        };
        known.distance = distance;
        known.at = tick;
        RULE.ensure(known.equal < MAX_EQUAL, || {
            let (node, times) = (message.from, known.equal + 1);
            format!("n{node} has campaigned {times} times at intervals of {distance} ticks")
        })
    }
}
