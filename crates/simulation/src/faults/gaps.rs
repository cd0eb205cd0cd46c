//! Several leaders in a row end while they replicate. Their proposals are accepted on some nodes,
//! with gaps, under several ballots.

use crate::choices::Stream;
use crate::invariants::Check;
use crate::network::Quality;
use crate::node::End;
use crate::time::{MS, TICK_US};
use crate::words;
use crate::world::World;

impl World {
    /// Links lose and reorder many messages. The leader is cut off, alone or with one other node,
    /// or killed, and another node tries to become leader.
    pub(super) fn behead(&mut self) -> Check {
        let Some((leader, _)) = self.leader() else {
            return Ok(());
        };
        let choices = &mut self.env.choices;
        let quality = Quality {
            loss: choices.between(Stream::Fault, 50, 500),
            jitter_us: choices.between(Stream::Fault, 1, 30) * MS,
            ..self.env.plan.network
        };
        let how = choices.below(Stream::Fault, 4);
        let length = choices.between(Stream::Fault, 1, 40) * TICK_US;
        self.env.net.quality = quality;
        self.env.net.heal();
        let other = self.any_slot();
        match how {
            0 => words::fault(&mut self.env, None, &format!("links {quality:?}")),
            1 => {
                words::fault(&mut self.env, None, "the leader is killed");
                self.crash(leader, End::Kill)?;
            }
            2 => {
                words::fault(
                    &mut self.env,
                    None,
                    "the leader is cut off with another node",
                );
                self.set_aside(leader, other);
            }
            _ => {
                words::fault(&mut self.env, None, "the leader is cut off");
                self.isolate(leader);
            }
        }
        let slot = self.any_slot();
        self.pursue(slot, length);
        Ok(())
    }
}
