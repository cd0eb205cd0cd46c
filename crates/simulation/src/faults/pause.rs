//! A process stops for a while, as after a signal or on a starved machine. Its clock continues, so
//! time jumps for it.

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
