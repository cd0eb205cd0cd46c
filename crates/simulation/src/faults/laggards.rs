//! The leader's disk is slower than the others', which commit without it. Then another node becomes
//! leader.

use crate::choices::Stream;
use crate::time::{MS, TICK_US};
use crate::words;
use crate::world::World;

/// Approximate maximum duration of a commit on a slow disk.
const SLOW_US: u64 = 500 * MS;

impl World {
    /// First the leader's disk becomes slow and the others' fast. Then leadership is transferred,
    /// or the leader is cut off and another node tries to become leader.
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
