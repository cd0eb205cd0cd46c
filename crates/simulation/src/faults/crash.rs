//! Crashes: of a process, of a machine, or of all machines. A write in flight may be partially
//! done. A power loss may lose any part of what was not synced.

use synod_types::NodeId;

use crate::choices::Stream;
use crate::env::Env;
use crate::event::Event;
use crate::invariants::Check;
use crate::node::End;
use crate::time::MS;
use crate::world::World;

impl World {
    pub(super) fn kill_one(&mut self) -> Check {
        let slot = self.any_slot();
        self.crash(slot, End::Kill)
    }

    pub(super) fn power_loss(&mut self) -> Check {
        let slot = self.any_slot();
        self.crash(slot, End::PowerLoss)
    }

    pub(super) fn blackout(&mut self) -> Check {
        self.env.counts.blackouts += 1;
        for slot in 0..self.nodes.len() {
            self.crash(slot, End::PowerLoss)?;
        }
        Ok(())
    }

    /// Ends a process and schedules its restart.
    pub(crate) fn crash(&mut self, slot: usize, end: End) -> Check {
        let World { env, nodes, .. } = self;
        let Some(node) = nodes.get_mut(slot).filter(|node| node.process().is_some()) else {
            return Ok(());
        };
        match end {
            End::Exit | End::Kill => env.counts.kills += 1,
            End::PowerLoss => env.counts.power_losses += 1,
        }
        node.end(env, end)?;
        env.process_ended(node.id, end);
        let pause = env.choices.between(Stream::Fault, 20, 350) * MS;
        env.after(pause, Event::Start { slot });
        Ok(())
    }
}

impl Env {
    /// The kernel closes the connections of a process that ends, and refuses new ones: most peers
    /// find out. A machine without power says nothing.
    pub(crate) fn process_ended(&mut self, node: NodeId, end: End) {
        match end {
            End::Exit | End::Kill => self.seems_gone(node, Stream::Network, 900),
            End::PowerLoss => {}
        }
    }
}
