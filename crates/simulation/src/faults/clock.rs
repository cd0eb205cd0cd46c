//! A clock runs faster or slower, within the bound that leases allow for.

use crate::choices::Stream;
use crate::invariants::Check;
use crate::words;
use crate::world::World;

impl World {
    pub(super) fn change_clock(&mut self) -> Check {
        let slot = self.any_slot();
        let World { env, nodes, .. } = self;
        let Some(node) = nodes.get_mut(slot) else {
            return Ok(());
        };
        let plan = env.plan.clone();
        let rate = plan.clock_rate(&mut env.choices, Stream::Fault);
        node.clock.set_rate(env.now, rate);
        env.counts.clock_changes += 1;
        words::fault(env, Some(node.id), &format!("clock rate {rate}/1000"));
        if node.is_running() {
            node.clock_changed(env)?;
        }
        Ok(())
    }
}
