//! A leader whose own disk is slower than the others': they commit without it, and then somebody
//! else gets the leadership.

use crate::choices::Stream;
use crate::time::{MS, TICK_US};
use crate::words;
use crate::world::World;

/// A commit of a slow disk takes up to about this long.
const SLOW_US: u64 = 500 * MS;

impl World {
    /// First the leader's disk gets slow, and the others' fast; then the leadership is handed over,
    /// or the leader is cut off and somebody else is after it.
    pub(super) fn outrun(&mut self) {
        let Some((leader, _)) = self.leader() else {
            return;
        };
        self.env.net.heal();
        let slow = (SLOW_US / (3 * self.env.plan.sync_us)).max(2);
        if self.env.disk_factor(leader) < slow {
            self.env.disk_factors.fill(1);
            if let Some(factor) = self.env.disk_factors.get_mut(leader) {
                *factor = slow;
            }
            let id = self.nodes.get(leader).map(|node| node.id);
            words::fault(&mut self.env, id, &format!("disk {slow} times as slow"));
            return;
        }
        let slot = self.any_slot();
        let length = self.env.choices.between(Stream::Fault, 20, 90) * TICK_US;
        if self.env.choices.often(Stream::Fault, 700) {
            self.transfer_to(leader, slot);
        } else {
            words::fault(&mut self.env, None, "the leader is cut off");
            self.isolate(leader);
            self.pursue(slot, length);
        }
    }
}
