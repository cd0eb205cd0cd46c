//! Loss, duplication, delay and reordering.

use crate::choices::Stream;
use crate::network::Quality;
use crate::time::MS;
use crate::words;
use crate::world::World;

impl World {
    /// All links become good, normal or bad.
    pub(super) fn change_links(&mut self) {
        let usual = self.env.plan.network;
        let choices = &mut self.env.choices;
        let quality = match choices.below(Stream::Fault, 5) {
            0 | 1 => usual,
            2 => Quality {
                loss: choices.between(Stream::Fault, 50, 400),
                ..usual
            },
            3 => Quality {
                duplicates: choices.between(Stream::Fault, 50, 400),
                ..usual
            },
            _ => Quality {
                slow: choices.between(Stream::Fault, 50, 600),
                slow_us: choices.between(Stream::Fault, 20, 500) * MS,
                ..usual
            },
        };
        self.env.net.quality = quality;
        words::fault(&mut self.env, None, &format!("links {quality:?}"));
    }
}
