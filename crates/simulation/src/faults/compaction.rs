//! Logs are compacted and engines flushed at the worst moment, so that lagging peers need a
//! snapshot.

use crate::node::ShellEvent;
use crate::words;
use crate::world::World;

impl World {
    pub(super) fn compact_one(&mut self) {
        let leader = self.leader().map(|(slot, _)| slot);
        // Usually the leader's log, which the others need.
        let slot = match leader {
            Some(leader) if self.any_slot().is_multiple_of(2) => leader,
            Some(_) | None => self.any_slot(),
        };
        let World { env, nodes, .. } = self;
        let Some(node) = nodes.get_mut(slot) else {
            return;
        };
        words::fault(env, Some(node.id), "log compacted");
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
