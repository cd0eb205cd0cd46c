//! Leadership transfers, and campaigns without a reason.

use crate::choices::Stream;
use crate::network::Quality;
use crate::node::ShellEvent;
use crate::time::{MS, TICK_US};
use crate::words;
use crate::world::World;

impl World {
    pub(super) fn transfer(&mut self) {
        let Some((from, _)) = self.leader() else {
            return;
        };
        let to = self.any_slot();
        self.transfer_to(from, to);
    }

    pub(crate) fn transfer_to(&mut self, from: usize, to: usize) {
        let Some(to) = self.nodes.get(to).map(|node| node.id) else {
            return;
        };
        words::fault(&mut self.env, None, &format!("transfer to n{to}"));
        let World { env, nodes, .. } = self;
        if let Some(node) = nodes.get_mut(from) {
            if let Some(process) = node.process_mut() {
                process.inbox.transfers.push(to);
            }
            node.wake(env);
        }
    }

    pub(super) fn campaign(&mut self) {
        let slot = self.any_slot();
        let hastily = self.env.choices.between(Stream::Fault, 1, 4);
        let World { env, nodes, .. } = self;
        if let Some(node) = nodes.get_mut(slot) {
            words::fault(env, Some(node.id), "campaigns");
            for _ in 0..hastily {
                node.tell(env, ShellEvent::Campaign);
            }
        }
    }

    /// Links become slow, or a node campaigns at every tick, so that it wins as soon as the
    /// promises to the leader expire. Usually the leader is cut off then; messages in flight still
    /// reach it late.
    pub(super) fn usurp(&mut self) {
        let Some((leader, _)) = self.leader() else {
            return;
        };
        self.env.net.heal();
        let usual = self.env.plan.network;
        let choices = &mut self.env.choices;
        if choices.often(Stream::Fault, 400) {
            self.env.net.quality = Quality {
                slow: choices.between(Stream::Fault, 200, 900),
                slow_us: choices.between(Stream::Fault, 50, 250) * MS,
                ..usual
            };
            words::fault(&mut self.env, None, "links become slow");
            return;
        }
        self.env.net.quality = usual;
        let ticks = choices.between(Stream::Fault, 20, 90);
        let cut = choices.below(Stream::Fault, 5);
        let slot = self.any_slot();
        match cut {
            0 => {}
            1 => {
                for other in (0..self.nodes.len()).filter(|other| *other != leader) {
                    self.env.net.cut(leader, other);
                }
            }
            _ => self.isolate(leader),
        }
        let World { env, nodes, .. } = self;
        if let Some(node) = nodes.get_mut(slot) {
            words::fault(env, Some(node.id), "campaigns at every tick");
            let until = env.now + ticks * TICK_US;
            if let Some(process) = node.process_mut() {
                process.inbox.campaigns_until = until;
            }
            node.wake(env);
        }
    }
}
