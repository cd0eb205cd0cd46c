//! Nodes are told that a peer is gone. It may be alive: a firewall that refuses connections looks
//! the same.

use synod_types::NodeId;

use crate::choices::Stream;
use crate::env::Env;
use crate::event::Event;
use crate::time::MS;
use crate::words;
use crate::world::World;

/// A peer finds out within so long.
const FOUND_OUT_US: u64 = 30 * MS;

impl World {
    /// Some nodes take a peer for gone, mostly the leader, or all of them do.
    pub(super) fn slander(&mut self) {
        let leader = self.leader().map(|(slot, _)| slot);
        let any = self.any_slot();
        let slot = leader.filter(|_| self.env.choices.often(Stream::Fault, 800));
        let believers = self.env.choices.one_of(Stream::Fault, [1_000, 500, 300]);
        let World { env, nodes, .. } = self;
        let Some(node) = nodes.get(slot.unwrap_or(any)) else {
            return;
        };
        words::fault(env, Some(node.id), "is taken for gone");
        env.seems_gone(node.id, Stream::Fault, believers);
    }
}

impl Env {
    /// Peers, so many in a thousand, find out soon that this node's process has ended, or believe
    /// so. Where no link leads, nobody hears anything.
    pub(crate) fn seems_gone(&mut self, node: NodeId, stream: Stream, believers: u64) {
        let Some(gone) = self.slots.get(&node).copied() else {
            return;
        };
        let others: Vec<usize> = self.slots.values().copied().collect();
        for slot in others.into_iter().filter(|slot| *slot != gone) {
            let believes = self.choices.often(stream, believers);
            let delay = self.choices.below(stream, FOUND_OUT_US);
            if believes && !self.net.is_cut(slot, gone) && !self.net.is_cut(gone, slot) {
                self.after(delay, Event::Gone { slot, node });
            }
        }
    }
}
