//! A node's messages, in either direction, are delayed by several election timeouts while other
//! messages pass. Answers arrive during a different leadership than the one in which they were
//! given.

use crate::choices::Stream;
use crate::time::{MS, TICK_US};
use crate::words;
use crate::world::World;

impl World {
    /// First a node's links delay their messages. Then leadership is transferred and returned; or
    /// the leader is cut off, alone or with that node, while another node tries to become leader.
    /// Then all links are restored, and the old leader may become leader again.
    pub(super) fn straggle(&mut self) {
        let Some((leader, _)) = self.leader() else {
            return;
        };
        let Some(straggler) = self.env.net.straggler else {
            self.begin_straggling(leader);
            return;
        };
        let length = self.env.choices.between(Stream::Fault, 1, 60) * TICK_US;
        let slot = self.any_slot();
        let chance = self.env.choices.often(Stream::Fault, 500);
        if !self.env.net.has_cuts() {
            if let Some(old) = self.env.net.aside.take().filter(|old| *old != leader) {
                self.transfer_to(leader, old);
                return;
            }
            if self.env.choices.often(Stream::Fault, 300) {
                self.env.net.aside = Some(leader);
                self.transfer_to(leader, slot);
                return;
            }
            words::fault(&mut self.env, None, "the leader is cut off");
            self.set_aside(leader, if chance { straggler } else { leader });
            self.env.net.aside = Some(leader);
            self.pursue(slot, length);
            return;
        }
        words::fault(&mut self.env, None, "all links are restored");
        self.env.net.heal();
        if self.env.choices.often(Stream::Fault, 300) {
            self.env.net.hasten();
        }
        match self.env.net.aside.take().filter(|_| chance) {
            Some(old) if old != leader => self.transfer_to(leader, old),
            Some(_) | None => self.pursue(slot, length),
        }
    }

    fn begin_straggling(&mut self, leader: usize) {
        let most = self.env.choices.between(Stream::Fault, 1, 6) * self.env.plan.election_ticks;
        let way = self.env.choices.below(Stream::Fault, 3);
        let any = self.any_slot();
        let others = self.env.choices.often(Stream::Fault, 600);
        let slot = if others { any } else { leader };
        self.env.net.straggler = Some(slot);
        self.env.net.late_us = most * TICK_US;
        for other in 0..self.nodes.len() {
            if way != 1 {
                self.env.net.hold_back(other, slot);
            }
            if way != 0 {
                self.env.net.hold_back(slot, other);
            }
        }
        words::fault(&mut self.env, None, &format!("links of {slot} are late"));
    }

    /// Cuts these two off from all others.
    pub(super) fn set_aside(&mut self, one: usize, two: usize) {
        for other in 0..self.nodes.len() {
            if other != one && other != two {
                self.env.net.cut_both(one, other);
                self.env.net.cut_both(two, other);
            }
        }
    }

    /// A node campaigns at every tick for this long.
    pub(super) fn pursue(&mut self, slot: usize, length: u64) {
        let World { env, nodes, .. } = self;
        if let Some(node) = nodes.get_mut(slot) {
            let what = format!("campaigns at every tick for {} ms", length / MS);
            words::fault(env, Some(node.id), &what);
            let until = env.now + length;
            if let Some(process) = node.process_mut() {
                process.inbox.campaigns_until = until;
            }
            node.wake(env);
        }
    }
}
