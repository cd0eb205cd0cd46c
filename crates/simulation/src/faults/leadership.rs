//! Transfers of the leadership, and campaigns out of turn.

use crate::choices::Stream;
use crate::node::ShellEvent;
use crate::words;
use crate::world::World;

impl World {
    pub(super) fn transfer(&mut self) {
        let Some((from, _)) = self.leader() else {
            return;
        };
        let to = self.any_slot();
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
}
