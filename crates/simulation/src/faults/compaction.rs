//! Logs are cut and engines flushed at the worst moment: peers that lag need a snapshot then.

use crate::node::ShellEvent;
use crate::words;
use crate::world::World;

impl World {
    pub(super) fn compact_one(&mut self) {
        let leader = self.leader().map(|(slot, _)| slot);
        // Mostly the leader's log: others need it.
        let slot = match leader {
            Some(leader) if self.any_slot().is_multiple_of(2) => leader,
            Some(_) | None => self.any_slot(),
        };
        let World { env, nodes, .. } = self;
        let Some(node) = nodes.get_mut(slot) else {
            return;
        };
        words::fault(env, Some(node.id), "log cut");
        let Some(process) = node.process() else {
            return;
        };
        let engine = process.machine.engine();
        let meta = process.machine.applied().clone();
        engine.flushed(engine.written());
        node.tell(env, ShellEvent::Flushed(meta));
        node.tell(env, ShellEvent::Compact);
    }
}
