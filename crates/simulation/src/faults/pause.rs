//! A process stops for a while: a signal, a starved machine, a long collection of garbage
//! elsewhere. Its clock goes on, so that time jumps for it.

use crate::choices::Stream;
use crate::event::Event;
use crate::time::MS;
use crate::words;
use crate::world::World;

impl World {
    pub(super) fn pause_one(&mut self) {
        let slot = self.any_slot();
        let length = self.env.choices.between(Stream::Fault, 5, 900) * MS;
        let World { env, nodes, .. } = self;
        if let Some(node) = nodes.get_mut(slot)
            && node.pause()
        {
            env.counts.pauses += 1;
            let epoch = node.epoch;
            words::fault(
                env,
                Some(node.id),
                &format!("paused for {} ms", length / MS),
            );
            env.after(length, Event::Resume { slot, epoch });
        }
    }
}
